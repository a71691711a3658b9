"""Fréchet, kernel, marginal and neighbour scores and the extractors, beside reference implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_mmd, kid_features_to_metric

from synthimg.config import Evaluate
from synthimg.errors import UserError
from synthimg.metrics import marginals, nearest, quality
from synthimg.metrics.frechet import frechet_distance
from synthimg.metrics.kernel import kernel_distance, mmd2
from synthimg.vision import backbone, features

SEEDS = st.integers(0, 10_000)


def vectors(seed: int, count: int, width: int = 24, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(seed + 1).standard_normal((width, width))
    return (np.abs(rng.standard_normal((count, width)) @ mixing) + shift).astype(np.float32)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 48, 48, 3), dtype=np.uint8)


def reference_fid(first: np.ndarray, second: np.ndarray) -> float:
    one, two = (fid_features_to_statistics(torch.from_numpy(part.astype(np.float64))) for part in (first, second))
    return float(fid_statistics_to_metric(one, two, verbose=False)["frechet_inception_distance"])


@pytest.mark.parametrize(("m", "n"), [(200, 300), (25, 400), (60, 60)])
def test_frechet_equals_torch_fidelity(m: int, n: int) -> None:
    first, second = vectors(1, m), vectors(2, n, shift=0.3)
    assert frechet_distance(first, second) == pytest.approx(reference_fid(first, second), rel=1e-6)


def test_frechet_equals_torch_fidelity_with_fewer_pictures_than_features() -> None:
    # The reference takes roots of eigenvalues that are zero but for rounding, so it is itself good to about 1e-6 only.
    first, second = vectors(3, 20, width=64), vectors(4, 30, width=64, shift=0.5)
    assert frechet_distance(first, second) == pytest.approx(reference_fid(first, second), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 40), st.integers(2, 40))
def test_frechet_is_a_symmetric_distance(seed: int, m: int, n: int) -> None:
    first, second = vectors(seed, m), vectors(seed + 7, n)
    there, back = frechet_distance(first, second), frechet_distance(second, first)
    assert there is not None and there >= 0
    assert there == pytest.approx(back, rel=1e-9)
    spread = first.astype(np.float64).var(axis=0).sum()
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9 * max(1, spread))


def test_frechet_of_known_gaussians_and_of_too_few() -> None:
    base = vectors(5, 50)
    assert frechet_distance(base, base + 2) == pytest.approx(4 * base.shape[1], rel=1e-5)
    assert frechet_distance(base[:1], base) is None


def test_kernel_distance_equals_torch_fidelity() -> None:
    first, second = vectors(6, 80), vectors(7, 90, shift=0.2)
    theirs = kernel_mmd(first[:80].astype(np.float64), second[:80].astype(np.float64), **KID)
    assert mmd2(first[:80].astype(np.float64), second[:80].astype(np.float64)) == pytest.approx(theirs, rel=1e-9)
    # Subsets as large as both sides are all alike, so the two generators' draws do not matter.
    full = kid_features_to_metric(torch.from_numpy(first), torch.from_numpy(second[:80]), kid_subset_size=80, **KID)
    ours = kernel_distance(first, second[:80], seed=0, subsets=3, size=80)
    assert ours is not None
    assert ours["mean"] == pytest.approx(full["kernel_inception_distance_mean"], rel=1e-5)
    assert ours["std"] == pytest.approx(0, abs=1e-9)


KID = {
    "kid_subsets": 3, "verbose": False, "rng_seed": 1, "kid_kernel": "poly", "kid_kernel_poly_degree": 3,
    "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1.0,
}  # fmt: skip


def test_kernel_distance_is_unbiased_where_frechet_is_not() -> None:
    rng = np.random.default_rng(8)
    same = [(rng.standard_normal((12, 6)), rng.standard_normal((12, 6))) for _ in range(600)]
    values = np.array([mmd2(first, second) for first, second in same])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert np.mean([frechet_distance(*pair) or 0 for pair in same]) > 0.5  # type: ignore[arg-type]


def test_kernel_distance_needs_four_pictures() -> None:
    assert kernel_distance(vectors(1, 3), vectors(2, 50), seed=0) is None
    assert kernel_distance(vectors(1, 4), vectors(2, 50), seed=0) is not None


def test_marginals_equal_scipy_and_leave_nan_out() -> None:
    rng = np.random.default_rng(0)
    real, made = rng.normal(0, 2, 80), rng.normal(1, 2, 50)
    found = marginals.compare_marginals(np.append(real, np.nan), made, (real[:40], real[40:]))
    reference = stats.ks_2samp(real, made)
    assert found["ks"] == pytest.approx(reference.statistic)
    assert found["p"] == pytest.approx(reference.pvalue)
    assert found["wasserstein"] == pytest.approx(stats.wasserstein_distance(real, made) / real.std())
    assert found["floor"]["ks"] == pytest.approx(stats.ks_2samp(real[:40], real[40:]).statistic)


def test_marginals_of_nothing_and_of_constants() -> None:
    nothing = marginals.compare_marginals(np.ones(4), np.empty(0), (np.ones(2), np.ones(2)))
    assert nothing == {"ks": None, "p": None, "wasserstein": None, "floor": {"ks": 0.0, "wasserstein": None}}


def test_nearest_equals_brute_force_and_does_not_depend_on_chunks() -> None:
    queries, references = vectors(1, 30), vectors(2, 50)
    index, distance = nearest.nearest_neighbours(queries, references, chunk=7)
    one, two = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (queries, references))
    expected = 1 - one @ two.T
    assert (index == expected.argmin(axis=1)).all()
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-6)


def test_copies_are_found_and_honest_images_pass() -> None:
    training, held_out = vectors(1, 40), vectors(2, 200)
    threshold = nearest.copy_threshold(held_out, training, 0.05)
    assert (nearest.nearest_neighbours(held_out, training)[1] <= threshold).mean() == pytest.approx(0.05, abs=0.01)
    assert (nearest.nearest_neighbours(training * 1.0001, training)[1] <= threshold).all()
    assert nearest.copy_threshold(held_out[:0], training, 0.05) == nearest.NOISE


def test_duplicates_keep_the_first_and_ignore_rejected_rows() -> None:
    base = vectors(3, 4)
    rows = np.concatenate([base, base[:2], base[:1]])
    kept = np.ones(7, bool)
    assert nearest.duplicates(rows, 1e-5, kept).tolist() == [False] * 4 + [True] * 3
    kept[0] = False
    assert nearest.duplicates(rows, 1e-5, kept).tolist() == [False] * 5 + [True, True]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), SEEDS)
def test_halves_are_disjoint_complete_balanced_and_split_no_group(members: list[int], seed: int) -> None:
    groups = [str(member) for member in members]
    one, two = quality.halves(groups, seed)
    assert sorted([*one, *two]) == list(range(len(groups)))
    assert not {groups[row] for row in one} & {groups[row] for row in two}
    assert abs(len(one) - len(two)) <= max(groups.count(group) for group in groups)


def test_quality_without_accepted_images_is_null_and_says_so() -> None:
    real = vectors(1, 20)
    found = quality.assess("efficientnet-lite0", quality.Sides(real, list("abcdefghijklmnopqrst"), real[:0], {}), seed=0)
    assert found["fid"] is None and found["kid"] is None
    assert found["floor"]["fid"] > 0
    assert "No synthetic image" in found["warning"]


@pytest.mark.parametrize("number", [0, 2])
def test_lite_weights_fit_by_name_too(number: int) -> None:
    """The package's names map one to one on timm's, so that equal order is no accident."""
    theirs = torch.load(backbone.lite_weights(number), map_location="cpu", weights_only=True)
    mine = backbone.lite(number).state_dict()
    assert torch.equal(theirs["_conv_stem.weight"], mine["conv_stem.weight"])
    assert torch.equal(theirs["_conv_head.weight"], mine["conv_head.weight"])
    depthwise = [value for name, value in theirs.items() if name.endswith("_depthwise_conv.weight")]
    assert all(map(torch.equal, depthwise, [value for name, value in mine.items() if name.endswith("conv_dw.weight")]))


def test_extract_does_not_depend_on_the_batch(pictures: np.ndarray) -> None:
    together, apart = features.extract(pictures, batch=10), features.extract(pictures, batch=3)
    assert together.shape == (10, 1280) and together.dtype == np.float32
    np.testing.assert_allclose(together, apart, atol=1e-4)
    np.testing.assert_array_equal(together, features.extract(pictures, batch=10))


def test_extract_of_nothing(pictures: np.ndarray) -> None:
    assert features.extract(pictures[:0]).shape == (0, 1280)


def test_cached_features_are_kept_by_content_and_not_extracted_again(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(10)
    first = features.cached(features.chunks(pictures, rows, size=4), tmp_path / "a")
    files = sorted((tmp_path / "a").glob("*.npy"))
    assert len(files) == 3
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    again = features.cached(features.chunks(pictures, rows, size=4), tmp_path / "a")
    np.testing.assert_array_equal(first, again)
    assert [file.read_bytes() for file in files] == before
    monkeypatch.setattr(features, "extract", None)
    np.testing.assert_array_equal(first, features.cached(features.chunks(pictures, rows, size=4), tmp_path / "a"))
    with pytest.raises(TypeError):  # other pictures, and the same from another version of torch
        features.cached([pictures[1:5]], tmp_path / "a")
    monkeypatch.setattr(torch, "__version__", "another")
    with pytest.raises(TypeError):
        features.cached(features.chunks(pictures, rows, size=4), tmp_path / "a")


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    half = tmp_path / backbone.lite_weights().name
    half.write_bytes(backbone.lite_weights().read_bytes()[:1000])
    with pytest.raises(UserError, match="half-downloaded"):
        backbone.verify(half, backbone.LITE_SHA256[0])
    with pytest.raises(UserError, match="cannot be read"):
        backbone.verify(tmp_path, backbone.LITE_SHA256[0])


def test_inception_is_taken_only_where_its_weights_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert features.choose(Evaluate()) == "efficientnet-lite0"
    with pytest.raises(UserError, match=r"inception_weights: .* does not exist"):
        features.choose(Evaluate(extractor="inception"))
    broken = tmp_path / "hub" / "checkpoints" / backbone.INCEPTION_FILE
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half")
    with pytest.raises(UserError, match="half-downloaded"):
        features.choose(Evaluate())


def test_inception_runs_through_torch_fidelity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: np.ndarray
) -> None:
    """Random weights in the real network: the path from pixels to 2048 features equals torch-fidelity's own."""
    from torch_fidelity import feature_extractor_inceptionv3 as reference

    monkeypatch.setattr(reference, "load_state_dict_from_url", lambda *_, **__: {})
    load = torch.nn.Module.load_state_dict
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: load(self, state, strict=False))
    torch.manual_seed(0)
    network = reference.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    monkeypatch.undo()
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    monkeypatch.setattr(backbone, "INCEPTION_SHA256", backbone.digest(file))
    found = features.extract(pictures[:2], "inception", batch=2, weights=str(file))
    expected = network(torch.from_numpy(pictures[:2]).permute(0, 3, 1, 2).contiguous())[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    features._network.cache_clear()


def test_exact_copies_are_found_where_held_out_images_hold_copies_too() -> None:
    """Rounding alone must not save a copy: what counts as none is a millionth."""
    training = vectors(1, 40)
    threshold = nearest.copy_threshold(training[:5], training, 0.5)
    assert threshold == nearest.copy_threshold(training[:0], training, 0.5) == 1e-6
    index, distance = nearest.nearest_neighbours(training * 3, training)
    assert index.tolist() == list(range(40)) and (distance <= threshold).all() and (distance >= 0).all()
    assert not (nearest.nearest_neighbours(vectors(2, 40), training)[1] <= threshold).any()


def test_distances_run_from_0_to_2_and_the_first_of_equals_is_named() -> None:
    references = np.array([[0, 3], [2, 0], [5, 0], [0, 0]], np.float32)
    index, distance = nearest.nearest_neighbours(np.array([[1, 0], [3, 3], [0, 0]], np.float32), references)
    assert index.tolist() == [1, 0, 0]
    assert distance == pytest.approx([0, 1 - 0.5**0.5, 1], abs=1e-6)  # no direction is no likeness
    single = nearest.nearest_neighbours(vectors(4, 30, width=300) * -1, vectors(4, 30, width=300)[:1])[1]
    assert single[0] == pytest.approx(2, abs=1e-5) and single.max() <= 2
    with pytest.raises(ValueError, match="no references"):
        nearest.nearest_neighbours(references, references[:0])


def test_frechet_by_hand_and_never_below_nothing() -> None:
    """Means (1, 0) and (1, 3); variances (2, 0) and (2, 8) of two pictures each: 9 + 2 + 10 - 2 (2 + 0)."""
    first, second = np.array([[0, 0], [2, 0]], np.float32), np.array([[0, 1], [2, 5]], np.float32)
    # the second pair lies on a line: its covariance is ((2, 4), (4, 8)); tr (S1 S2)^(1/2) is sqrt(2 * 2)
    assert frechet_distance(first, second) == pytest.approx(9 + 2 + 10 - 2 * 2)
    assert all(frechet_distance(vectors(seed, 9), vectors(seed, 9)) >= 0 for seed in range(40))  # type: ignore[operator]


def test_mmd_by_hand() -> None:
    """The kernel is (x y / 2 + 1)^3: 1 within the first pair, 27 within the second, and 1, 1, 8 and 27 between them."""
    first, second = np.array([[0.0, 0], [1, 1]]), np.array([[2.0, 0], [2, 2]])
    assert mmd2(first, second) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kernel_subsets_are_half_of_the_smaller_side_and_a_thousand_at_most() -> None:
    few, more = vectors(1, 9), vectors(2, 30)
    assert kernel_distance(few, more, seed=3) == kernel_distance(few, more, seed=3, subsets=100, size=4)
    assert kernel_distance(more, few, seed=3) == kernel_distance(more, few, seed=3, size=4)
    assert kernel_distance(few, more, seed=3) != kernel_distance(few, more, seed=4)
    many = vectors(1, 2400, width=2)
    found = kernel_distance(many, many + 1, seed=3, subsets=1)
    assert found == kernel_distance(many, many + 1, seed=3, subsets=1, size=1000)
    assert kernel_distance(few, more, seed=0, size=10) is None and kernel_distance(few, more, seed=0, size=9) is not None
    assert kernel_distance(few, more, seed=0, size=1) is None and kernel_distance(few, more, seed=0, size=2) is not None


def test_marginals_by_hand() -> None:
    """The distance moved is in standard deviations of the real values, however small those are."""
    found = marginals.compare_marginals(
        np.array([0.1, 0.3]), np.array([0.2, 0.4, np.inf]), (np.array([0.1]), np.array([0.3]))
    )
    assert found["ks"] == pytest.approx(0.5) and found["wasserstein"] == pytest.approx(1)  # moved by 0.1, deviation 0.1
    assert found["floor"] == {"ks": pytest.approx(1), "wasserstein": pytest.approx(2)}
    one_sided = marginals.compare_marginals(np.empty(0), np.ones(3), (np.empty(0), np.empty(0)))
    assert one_sided["ks"] is None and one_sided["floor"] == {"ks": None, "wasserstein": None}


def test_halves_are_as_equal_as_the_largest_group_allows() -> None:
    for seed in range(20):
        groups = ["large"] * 5 + [f"{n}" for n in range(9)]
        one, two = quality.halves(groups, seed)
        assert abs(len(one) - len(two)) <= 5
        alone = quality.halves([str(n) for n in range(9)], seed)
        assert [len(part) for part in alone] == [5, 4]
    assert {tuple(quality.halves(list("abcdef"), seed)[0]) for seed in range(20)} != {(0, 1, 2)}


@pytest.mark.parametrize(
    ("synthetic", "real", "told"),
    [(0, 50, "No synthetic image"), (3, 50, "Too few"), (50, 3, "Too few"), (4, 50, "biased upwards"),
     (50, 4, "biased upwards"), (2047, 2048, "biased upwards"), (2048, 2047, "biased upwards")],
)  # fmt: skip
def test_scores_of_too_few_images_are_warned_of(synthetic: int, real: int, told: str) -> None:
    assert told in (quality.warning(synthetic, real, real // 2, real // 2) or "")
    assert quality.warning(2048, 2048, 1024, 1024) is None


def test_quality_holds_the_scores_and_what_real_halves_score_against_each_other() -> None:
    real, made = vectors(1, 20), vectors(2, 11, shift=0.4)
    groups = [str(row // 2) for row in range(20)]
    values = np.arange(20.0), np.arange(11.0) + 3
    sides = quality.Sides(real, groups, made, {"brightness": values})
    found = quality.assess("efficientnet-lite0", sides, seed=5)
    one, two = quality.halves(groups, 5)
    assert found["fid"] == frechet_distance(made, real) and found["kid"] == kernel_distance(made, real, 5)
    assert found["floor"]["fid"] == frechet_distance(real[one], real[two])
    assert found["floor"]["kid"] == kernel_distance(real[one], real[two], 5)
    assert (found["n"], found["floor"]["n"]) == ({"synthetic": 11, "real": 20}, [10, 10])
    halves = values[0][one], values[0][two]
    assert found["marginals"] == {"brightness": marginals.compare_marginals(*values, halves)}
