"""One-class scores: by hand, beside scikit-learn, and as arms of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fake_run import RARE, fake_run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.neighbors import NearestNeighbors
from tiny import evaluated

from synthimg.config import Config
from synthimg.core.files import write_table
from synthimg.data.prepared import load
from synthimg.errors import UserError
from synthimg.evaluation import distance
from synthimg.evaluation.arms import ARMS, DEFAULT, arms_of, available, find_arm, in_order
from synthimg.evaluation.distance import alone, averaged, memory_bank, neighbour_distance, patch_distance, with_distance
from synthimg.evaluation.inputs import rows_of
from synthimg.metrics.recall import threshold_at
from synthimg.reading import parse
from synthimg.vision.backbone import lite, normalise, resize
from synthimg.vision.features import LITE0_SIDE, extract
from synthimg.vision.patches import PATCHES, WIDTH, patch_features

SMALL = {"seeds": 1, "bootstrap": 10, "portions": False, "extractor": "efficientnet-lite0"}
ORDINARY = np.arange(4)


def test_the_distance_is_the_mean_over_the_nearest_of_signed_roots() -> None:
    ordinary = np.array([[0, 0], [4, 0], [-16, 0]], np.float32)  # roots 0, 2, -4: mean -2/3
    scale = np.sqrt((0 + 4 + 16 - 3 * (2 / 3) ** 2) / 6)  # one for both columns
    found = neighbour_distance(ordinary, np.array([[36, 0], [0, 9]], np.float32), neighbours=2)
    # root 6 is 6, 4 and 10 away; (0, 3) is 3, the root of 13 and 5 away
    np.testing.assert_allclose(found, np.array([(4 + 6) / 2, (3 + 13**0.5) / 2]) / scale, rtol=1e-5)


def test_the_distance_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    ordinary, queries = draw.uniform(0, 9, (60, 20)).astype(np.float32), draw.uniform(0, 9, (1500, 20)).astype(np.float32)
    roots = np.sqrt(ordinary)
    scale = np.sqrt(((roots - roots.mean(axis=0)) ** 2).mean())
    near = NearestNeighbors(n_neighbors=5).fit(roots).kneighbors(np.sqrt(queries))[0].mean(axis=1)
    np.testing.assert_allclose(neighbour_distance(ordinary, queries), near / scale, rtol=1e-4)


def test_fewer_ordinary_images_than_neighbours_are_all_taken() -> None:
    few = np.array([[0.0], [4.0]], np.float32)  # roots 0 and 2, scale 1
    np.testing.assert_allclose(neighbour_distance(few, np.array([[9.0]], np.float32)), [2.0], rtol=1e-5)


def test_an_averaged_score_is_worked_out_by_hand() -> None:
    """Rare is column 1. Odds of validation's ordinary images are e^-3, e^-1, e^-3, e^-1: mean -2, deviation 1."""
    odds = np.exp([-3.0, -1, -3, -1, 1, 1])
    hers = odds / (1 + odds)
    probabilities = np.stack([(1 - hers) * 0.25, hers, (1 - hers) * 0.75], axis=1)
    far = np.array([10.0, 10, 14, 14, 20, 12])  # ordinary ones: mean 12, deviation 2
    # sums: -1-1, 1-1, -1+1, 1+1, 3+4, 3+0; three of the four ordinary ones are not above 0
    found = averaged(probabilities, far, rare=1, ordinary=ORDINARY, specificity=0.75)
    sums = np.array([-2.0, 0, 0, 2, 7, 3])
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-sums)), atol=1e-8)
    np.testing.assert_allclose(found[:, 0] * 3, found[:, 2], rtol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_distance_alone_shares_the_rest_as_the_ordinary_training_images_are() -> None:
    far = np.array([1.0, 2, 3, 4, 9])  # mean 2.5, deviation the root of 5/4; half of the ordinary are not above 2
    found = alone(far, np.array([0.2, 0.8, 0.0]), rare=2, ordinary=ORDINARY, specificity=0.5)
    np.testing.assert_allclose(found[:, 2], 1 / (1 + np.exp(-(far - 2) / np.sqrt(1.25))), atol=1e-6)
    np.testing.assert_allclose(found[:, 1], 4 * found[:, 0])
    np.testing.assert_allclose(found.sum(axis=1), 1)


numbers = st.floats(-50, 50) | st.sampled_from([0.0, 1.0])
scores = arrays.arrays(np.float64, 12, elements=numbers)


@given(scores, scores, st.sampled_from([0, 1]), st.sampled_from([0.5, 0.75, 0.95]))
def test_with_two_classes_the_default_threshold_says_what_the_set_one_says(
    odds: np.ndarray, far: np.ndarray, rare: int, specificity: float
) -> None:
    """Ties included, in whatever order the classes are; ordinary images of validation keep the specificity."""
    hers = 1 / (1 + np.exp(-odds))
    columns = [1 - hers, 1 - hers]
    columns[rare] = hers
    found = averaged(np.stack(columns, axis=1), far, rare, np.arange(6), specificity)
    above = found[:, rare] > threshold_at(found[:6, rare], specificity)
    np.testing.assert_array_equal(found.argmax(axis=1) == rare, above)
    assert (~above[:6]).mean() >= specificity
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


@given(scores, scores)
def test_a_farther_image_and_a_likelier_one_score_higher(odds: np.ndarray, far: np.ndarray) -> None:
    hers = 1 / (1 + np.exp(-odds))
    first = averaged(np.stack([hers, 1 - hers], axis=1), far, 0, ORDINARY, 0.75)[:, 0]
    far[8:] += 1
    second = averaged(np.stack([hers, 1 - hers], axis=1), far, 0, ORDINARY, 0.75)[:, 0]
    np.testing.assert_array_equal(first[:8], second[:8])
    assert (second[8:] >= first[8:]).all()
    apart = (first[8:] > 1e-6) & (first[8:] < 1 - 1e-6)
    assert (second[8:] > first[8:])[apart].all() or np.ptp(far[:4]) > 1e6


def test_certain_classifiers_and_images_all_alike_leave_finite_numbers() -> None:
    certain = np.array([[1.0, 0], [1, 0], [0, 1], [1, 0], [0, 1], [1, 0]])
    alike = np.full(6, 3.0)
    found = averaged(certain, alike, 1, ORDINARY, 0.75)
    assert np.isfinite(found).all()
    assert found[4, 1] > found[5, 1]  # the distance says nothing, so the classifier decides
    every = averaged(np.full((6, 2), 0.5), alike, 1, ORDINARY, 0.75)
    assert np.isfinite(every).all() and (every.argmax(axis=1) == 0).all()
    nothing = alone(np.array([0, 1, 2, 3, 1e6, -1e6]), np.array([0.0, 0, 0]), 1, ORDINARY, 0.75)
    np.testing.assert_allclose(nothing[4:], [[0, 1, 0], [0.5, 0, 0.5]], atol=1e-12)
    assert np.isfinite(log_odds(nothing[:, 1])).all()  # as scores of several folds are pooled


def test_patches_are_the_middle_maps_averaged_and_joined() -> None:
    """As forward hooks see the maps, and as plain loops average them."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    network, seen = lite().eval(), {}
    for number in (2, 4):
        network.blocks[number].register_forward_hook(lambda *found, number=number: seen.update({number: found[2]}))
    with torch.no_grad():
        network(normalise(resize(torch.from_numpy(pixels).permute(0, 3, 1, 2), LITE0_SIDE)))
    fine, coarse = (seen[number].numpy() for number in (2, 4))

    def around(maps: np.ndarray, row: int, column: int) -> np.ndarray:
        return maps[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean(axis=(1, 2))

    found = patch_features(pixels)
    assert found.shape == (2, PATCHES, WIDTH) and found.dtype == np.float32
    squares = (np.sign(found) * found**2).reshape(2, 20, 20, WIDTH)
    for row, column in ((0, 0), (0, 19), (7, 3), (19, 19)):
        np.testing.assert_allclose(squares[1, row, column, :40], around(fine[1], row, column), atol=1e-4)
    # the corners of the coarse maps are those of the fine grid, too
    np.testing.assert_allclose(squares[0, 0, 19, 40:], around(coarse[0], 0, 9), atol=1e-4)
    np.testing.assert_allclose(patch_features(pixels[1:])[0], found[1], atol=1e-4)


def test_the_patches_nearest_to_a_change_change_most() -> None:
    plain = np.full((1, 160, 160, 3), 128, np.uint8)
    scratched = plain.copy()
    scratched[0, 20:26, 120:150] = 0
    moved = np.linalg.norm(patch_features(scratched)[0] - patch_features(plain)[0], axis=1).reshape(20, 20)
    row, column = np.unravel_index(moved.argmax(), moved.shape)
    assert row <= 5 and column >= 12
    assert moved[15:, :5].max() < 0.2 * moved.max()


def test_the_score_of_patches_is_that_of_the_farthest() -> None:
    bank = np.array([[0.0, 0], [10, 0]], np.float32)
    patches = np.array([[[0, 1], [10, 5], [4, 0]], [[0, 0], [10, 0], [9, 0]]], np.float32)
    # nearest: 1, 5, 4 and 0, 0, 1
    np.testing.assert_allclose(patch_distance(patches, bank), [5, 1], atol=1e-5)


def test_the_bank_is_of_ordinary_pictures_alone_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    rows = np.array([1, 2, 4, 5, 6, 7, 8, 9, 10, 11])
    every = memory_bank(pixels, rows)
    np.testing.assert_allclose(every, patch_features(pixels[rows]).reshape(-1, WIDTH), atol=1e-4)
    monkeypatch.setattr(distance, "BANK", 300)
    some = memory_bank(pixels, rows, seed=3)
    assert some.shape == (300, WIDTH)
    np.testing.assert_array_equal(some, memory_bank(pixels, rows, seed=3))
    assert not np.array_equal(some, memory_bank(pixels, rows, seed=4))
    where = np.array([np.abs(every - patch).sum(axis=1).argmin() for patch in some])
    assert np.abs(every[where] - some).max() < 1e-3 and len(set(where)) == 300
    assert len(set(where // PATCHES)) == len(rows)


# arms


def test_averaged_arms_are_their_control_with_a_score() -> None:
    plain, both = find_arm("turned"), find_arm("turned+patches")
    assert (both.one_class, both.symmetries, both.control, both.joins) == ("patches", 7, True, True)
    assert both.words.startswith(plain.words) and both.title.startswith(plain.title) and both.title != plain.title
    assert plain.one_class is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mirored+distance", r"no arm has this name \(did you mean 'mirrored'\?\)"),
        ("mirrored+distanse", r"no arm has this name \(did you mean 'mirrored\+distance'\?\)"),
        ("smote+distance", "'smote' is no control whose classifier can be averaged"),
        ("synthetic+distance", "'synthetic' is no control"),
        ("distance+patches", "'distance' is no control"),
        ("real+distance+patches", r"'real\+distance' is no control"),
    ],
)
def test_names_that_stand_for_no_average_are_refused(name: str, words: str) -> None:
    tree = {"name": "a", "dataset": {"path": "b", "rare_class": "c", "prompts": "solar-cell"}}
    with pytest.raises(UserError, match=rf"evaluate\.arms\.1': {words}"):
        parse({**tree, "evaluate": {"arms": ["real", name]}})


def test_synthetic_images_beside_an_averaged_control_are_averaged_like_it() -> None:
    found = arms_of(["real", "mixup+distance", "synthetic", "oracle"], "mixup+distance")
    for name in ("synthetic", "oracle"):
        assert found[name].mix and found[name].one_class == "distance" and not found[name].control
    plain = arms_of(["mixup", "mixup+distance", "synthetic"], "mixup")
    assert plain["synthetic"].one_class is None and plain["mixup+distance"].one_class == "distance"


def test_without_real_rare_images_controls_with_a_classifier_step_aside() -> None:
    names = [*{*DEFAULT, "distance", "patches", "outlier", "mirrored+distance", "real+patches"}]
    arms = arms_of(names, "mirrored+distance")
    assert list(available(arms, "head", accepted=True, reserve=True, rare=False)) == [
        "distance", "patches", "outlier", "synthetic", "oracle",
    ]  # fmt: skip
    assert set(available(arms, "head", accepted=True, reserve=True, rare=True)) == set(names)
    outside = available(arms, "my:own", accepted=False, reserve=False, rare=True)
    assert "distance" in outside and "mirrored+distance" in outside
    assert not {"mixup+distance", "smote", "synthetic", "oracle"} & set(outside)


def test_averaged_arms_come_after_the_score_alone() -> None:
    mixed = [
        "synthetic",
        "mine",
        "mixup+distance",
        "patches",
        "real+patches",
        "mirrored+distance",
        "distance",
        "smote",
        "real",
    ]
    assert in_order(mixed) == [
        "real", "smote", "distance", "mirrored+distance", "mixup+distance", "patches", "real+patches", "synthetic", "mine",
    ]  # fmt: skip
    assert in_order(DEFAULT) == list(DEFAULT)
    assert all(find_arm(name) for name in DEFAULT) and "patches" in ARMS


ASKED = ["real", "mirrored", "distance", "mirrored+distance", "patches", "outlier", "synthetic", "oracle"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Config:
    settings = {**SMALL, "arms": ASKED, "beside": "mirrored+distance", "specificity": 0.75}
    config = fake_run(tmp_path_factory.mktemp("one-class"), overrides={"evaluate": settings}, planned=9, accepted=6)
    evaluated(config)
    return config


def scores_of(config: Config) -> dict[str, np.ndarray]:
    predictions = pd.read_parquet(config.folder / "classify" / "predictions.parquet")
    return {str(arm): part["score"].to_numpy() for arm, part in predictions.groupby("arm")}


def log_odds(score: np.ndarray) -> np.ndarray:
    return np.log(score) - np.log1p(-score)


def standard(score: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
    return (score - score[ordinary].mean()) / score[ordinary].std()


def test_arms_with_a_distance_are_what_their_words_say(done: Config) -> None:
    data, found = load(done), scores_of(done)
    frame = data.frame
    judged = pd.concat([frame[frame["split"] == "validation"], frame[frame["split"] == "test"]])
    ordinary = ((judged["split"] == "validation") & (judged["label"] != RARE)).to_numpy()
    common = ((frame["split"] == "train") & (frame["label"] != RARE)).to_numpy()
    far = neighbour_distance(extract(data.pixels[common]), extract(data.pixels[judged.index.to_numpy()]))
    both = standard(log_odds(found["mirrored"]), ordinary) + standard(far, ordinary)
    for arm, wanted in (("distance", standard(far, ordinary)), ("mirrored+distance", both)):
        told = found[arm] < 1 - 1e-12  # rare images of this run are very far
        assert told.sum() >= 10 and (wanted[~told] > wanted[told].max()).all()
        assert np.ptp((log_odds(found[arm]) - wanted)[told]) < 1e-2  # features in other batches, over a small deviation
    parts = [standard(log_odds(np.clip(found[arm], 0, 1 - 1e-15)), ordinary) for arm in ("distance", "patches")]
    told = (found["distance"] < 1 - 1e-12) & (found["patches"] < 1 - 1e-12)
    moved = standard(log_odds(found["outlier"]), ordinary) - standard(sum(parts), ordinary)
    assert np.ptp(moved[told]) < 1e-2
    recall = json.loads((done.folder / "evaluate" / "metrics.json").read_text())["recall"]
    assert list(recall["arms"]) == ASKED and recall["beside"] == "mirrored+distance"
    assert recall["arms"]["distance"]["control"] and "nearest ordinary images" in recall["arms"]["distance"]["words"]


def test_synthetic_images_that_are_none_leave_the_averaged_control(done: Config) -> None:
    def fit(name: str, number: int, only: list[str]) -> Any:
        assert not only
        return np.linspace(0.1, 0.9, 18)[:, None] * [1, -1] + [0, 1]

    wrapped, data = with_distance(fit, done, load(done)), load(done)
    np.testing.assert_array_equal(wrapped("synthetic", 0, []), wrapped("mirrored+distance", 0, []))
    np.testing.assert_array_equal(wrapped("real", 0, []), fit("real", 0, []))
    assert len(rows_of(data.frame, "test")) + len(rows_of(data.frame, "validation")) == 18


def test_one_class_scores_know_no_rare_training_image_and_no_label_of_the_test(done: Config, tmp_path: Path) -> None:
    found = scores_of(done)
    config = fake_run(tmp_path, overrides={"evaluate": done.evaluate.model_dump()}, planned=9, accepted=6)
    file = config.folder / "dataset" / "pixels.npy"
    pixels, records = np.load(file), pd.read_parquet(config.folder / "dataset" / "records.parquet")
    rare = ((records["label"] == RARE) & records["split"].isin(["train", "reserve"])).to_numpy()
    pixels[rare] = 255 - pixels[rare]
    np.save(file, pixels)
    tested = records["split"] == "test"
    records.loc[tested, "label"] = records.loc[tested, "label"].to_numpy()[::-1]
    write_table(config.folder / "dataset" / "records.parquet", records)
    evaluated(config)
    other = scores_of(config)
    for arm in ("distance", "patches"):
        np.testing.assert_array_equal(other[arm], found[arm])
    assert np.abs(other["real"] - found["real"]).max() > 1e-3


def test_a_killed_score_of_patches_goes_on(done: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(done)
    first = distance.one_class_score(done, data, "patches")

    def never(*_: object) -> None:
        raise AssertionError("worked out again")

    monkeypatch.setattr(distance, "patch_features", never)
    np.testing.assert_array_equal(distance.one_class_score(done, data, "patches"), first)
    with pytest.raises(AssertionError, match="worked out again"):
        distance.one_class_score(done.model_copy(update={"seed": 8}), data, "patches")
