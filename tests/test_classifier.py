"""The classifiers: right, deterministic, blind to what they must not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from synthimg.evaluation import finetune, head, training
from synthimg.evaluation.arms import Balance, TrainingSet, smote
from synthimg.metrics.recall import auc
from synthimg.vision import views


def clouds(
    count: int, seed: int, width: int = 40, rare: int | None = None, shift: float = 0.35
) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping Gaussian clouds; `rare` pictures of class 1, else half."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) < (count // 2 if rare is None else rare)).astype(np.int64)
    features = rng.standard_normal((count, width)) + shift * labels[:, None]
    return features.astype(np.float32), labels


def fit_head(
    features: np.ndarray, labels: np.ndarray, classes: int, queries: np.ndarray, counts: np.ndarray | None = None, **how: Any
) -> np.ndarray:
    known = TrainingSet(features, labels, np.ones(len(labels)) if counts is None else counts)
    return head.fit_head(known, classes, queries, **how)


def fit_backbone(pixels: np.ndarray, labels: np.ndarray, steps: int, batch: int, **how: Any) -> np.ndarray:
    known = TrainingSet(pixels, labels, np.ones(len(labels)))
    return finetune.fit_backbone(known, 2, pixels, finetune.Schedule(steps, batch), **how)


@pytest.mark.parametrize("counted", [False, True])
def test_head_is_scikit_learns_logistic_regression(counted: bool) -> None:
    (features, labels), (queries, _) = clouds(300, 0), clouds(100, 1)
    labels = labels + (np.arange(300) % 5 == 0)
    counts = np.where(np.arange(300) % 3 == 0, 0.2, 1.0) if counted else None
    mine = fit_head(features, labels, 3, queries, counts=counts)
    theirs = LogisticRegression(C=head.HEAD_C, tol=1e-8, max_iter=1000).fit(features, labels, sample_weight=counts)
    np.testing.assert_allclose(mine, theirs.predict_proba(queries), atol=1e-4)


def test_power_normalised_features_are_roots_of_one_centre_and_one_scale() -> None:
    like = np.array([[0, 4], [16, 36]], np.float32)  # roots 0 2, 4 6: means 2 and 4, every deviation 2
    found = head.power_normaliser(like)(np.array([[0, 36], [-4, 4], [64, 16]], np.float32))
    np.testing.assert_allclose(found, [[-1, 1], [-2, -1], [3, 0]])


def test_images_that_are_all_alike_do_not_stop_the_head() -> None:
    alike = np.ones((6, 4), np.float32)
    found = fit_head(head.power_normaliser(alike)(alike), np.arange(6) % 2, 2, alike)
    np.testing.assert_allclose(found, 0.5, atol=1e-4)


def test_head_of_drawn_rows_is_scikit_learns_on_those_rows() -> None:
    (features, labels), (queries, _) = clouds(200, 0, rare=20), clouds(50, 1)
    labels = labels + (np.arange(200) % 5 == 0)
    shares = training.drawn_by(labels, "draws", None)
    rows = training.order(labels, training.PASSES, 200, 7, shares).ravel()
    mine = fit_head(features, labels, 3, queries, seed=7, balance="draws")
    theirs = LogisticRegression(C=head.HEAD_C / training.PASSES, tol=1e-8, max_iter=1000)
    theirs.fit(features[rows], labels[rows])
    np.testing.assert_allclose(mine, theirs.predict_proba(queries), atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"balance": "draws"}, {"mix": True}])
def test_head_is_deterministic_and_leaves_the_global_random_state_alone(options: dict[str, Any]) -> None:
    features, labels = clouds(60, 0, rare=20)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = fit_head(features, labels, 2, features, seed=1, **options)
    np.testing.assert_array_equal(first, fit_head(features, labels, 2, features, seed=1, **options))
    # chance has a part only where rows are drawn or mixed
    assert np.array_equal(first, fit_head(features, labels, 2, features, seed=2, **options)) == (not options)
    assert torch.equal(before, torch.random.get_rng_state())


def test_head_judges_each_query_by_itself() -> None:
    (features, labels), (queries, _) = clouds(60, 0), clouds(30, 1)
    together, apart = (fit_head(features, labels, 2, asked) for asked in (queries, queries[:5]))
    np.testing.assert_allclose(together[:5], apart, atol=1e-6)


@pytest.mark.parametrize("balance", ["loss", "draws"])
def test_balance_raises_recall_of_the_rare_class(balance: Balance) -> None:
    (features, labels), (queries, truth) = clouds(400, 0, rare=20, shift=0.15), clouds(600, 1, shift=0.15)
    plain, balanced = (fit_head(features, labels, 2, queries, balance=how) for how in ("none", balance))
    found = (plain[truth == 1, 1] > 0.5).mean(), (balanced[truth == 1, 1] > 0.5).mean()
    assert found[1] > found[0] + 0.2


def test_head_tells_a_rare_class_from_many_others_where_features_vary_together() -> None:
    """A head trained by Adam gets 0.54 to 0.62 here: the gradients of a class of few rows are noise, which it blows up."""
    rng = np.random.default_rng(0)
    labels, truth = np.repeat(np.arange(7), [1500, 250, 250, 250, 120, 120, 20]), np.repeat(np.arange(7), 100)
    centres, shared = rng.normal(size=(7, 300)) * 0.22, rng.normal(size=(20, 300)) * 0.75

    def drawn(classes: np.ndarray) -> np.ndarray:
        common = rng.normal(size=(len(classes), 20)) @ shared
        return (centres[classes] + common + rng.normal(size=(len(classes), 300))).astype(np.float32)

    score = fit_head(drawn(labels), labels, 7, drawn(truth))[:, 6]
    assert auc(score[truth == 6], score[truth != 6]) > 0.75


def test_head_with_three_classes_one_of_them_absent() -> None:
    features, labels = clouds(60, 0)
    found = fit_head(features, labels * 2, 3, features, balance="loss")
    assert found.shape == (60, 3)
    assert found[:, 1].max() < 0.5


def test_order_shows_every_row_before_any_twice_or_every_class_equally() -> None:
    labels = np.repeat([0, 1], [90, 10])
    rows = training.order(labels, 10, 10, seed=0)
    assert sorted(rows.ravel()) == list(range(100))
    balanced = training.order(labels, 100, 50, 0, training.drawn_by(labels, "draws", None))
    assert labels[balanced].mean() == pytest.approx(0.5, abs=0.03)


def test_row_weights_keep_their_sum_and_make_classes_equal_where_asked() -> None:
    labels, counts = np.repeat([0, 2, 2], [30, 4, 10]), np.repeat([1.0, 1.0, 0.2], [30, 4, 10])
    alike, counted, balanced = (
        training.row_weights(labels, *how).double().numpy() for how in (("none",), ("none", counts), ("loss", counts))
    )
    assert (alike == 1).all()
    for weights in (counted, balanced):
        assert weights.sum() == pytest.approx(counts.sum())
        assert weights[34:] == pytest.approx(0.2 * weights[30])  # of one class, a fifth each
    assert counted[0] == pytest.approx(counted[30])
    assert balanced[labels == 0].sum() == pytest.approx(balanced[labels == 2].sum())


def test_a_row_that_counts_n_fold_is_as_n_rows() -> None:
    labels = clouds(40, 0)[1]
    counts = np.where(np.arange(40) % 3 == 0, 3.0, 1.0)
    again = np.repeat(np.arange(40), counts.astype(int))
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 2)))
    for balance in ("none", "loss", "focal"):
        weights = training.row_weights(labels, balance, counts)
        whole = training.row_weights(labels[again], balance)
        found = training.loss(logits, torch.from_numpy(labels), balance, weights)
        wanted = training.loss(logits[again], torch.from_numpy(labels[again]), balance, whole)
        assert float(found) == pytest.approx(float(wanted))


def test_augmentation_depends_on_its_seed_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for view in (views.randaugment, views.jitter):
        first = np.asarray(view(image, 1))
        torch.manual_seed(99)
        np.testing.assert_array_equal(first, np.asarray(view(image, 1)))
        assert any(not np.array_equal(first, np.asarray(view(image, seed))) for seed in range(2, 8))
    assert views.jitter(image, 1).shape == (3, 32, 32)


@pytest.mark.slow
def test_finetune_learns_is_deterministic_and_restores_settings() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(16, dtype=np.int64) % 2
    pixels = rng.integers(0, 90, (16, 32, 32, 3), dtype=np.uint8)
    pixels[labels == 1, :, :, 0] += 150
    first = fit_backbone(pixels, labels, steps=20, batch=8)
    assert (first.argmax(axis=1) == labels).mean() >= 0.9
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    np.testing.assert_array_equal(first, fit_backbone(pixels, labels, steps=20, batch=8))


@pytest.mark.parametrize("options", [{"mix": True}, {"balance": "focal"}, {"balance": "draws", "mix": True, "strong": True}])
def test_finetuning_with_mixup_and_focal_loss_runs_and_repeats(options: dict[str, Any]) -> None:
    pixels, labels = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8), np.arange(8) % 2
    first = fit_backbone(pixels, labels, steps=2, batch=4, **options)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    np.testing.assert_array_equal(first, fit_backbone(pixels, labels, steps=2, batch=4, **options))
    assert not np.array_equal(first, fit_backbone(pixels, labels, steps=2, batch=4))


def test_focal_loss_is_cross_entropy_times_the_square_of_what_is_missing() -> None:
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 0.0], [-3.0, 1.0]]), torch.tensor([0, 1, 0])
    given = logits.softmax(dim=1)[torch.arange(3), targets]
    expected = ((1 - given) ** 2 * F.cross_entropy(logits, targets, reduction="none")).mean()
    assert training.loss(logits, targets, "focal", torch.ones(3)).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("options", [{"mix": True}, {"balance": "focal"}, {"balance": "draws", "mix": True}])
def test_mixup_and_focal_loss_learn_and_repeat(options: dict[str, Any]) -> None:
    (features, labels), (queries, truth) = clouds(300, 0), clouds(600, 1)
    first = fit_head(features, labels, 2, queries, **options)
    np.testing.assert_array_equal(first, fit_head(features, labels, 2, queries, **options))
    plain = fit_head(features, labels, 2, queries)
    assert not np.array_equal(first, plain)
    assert auc(first[truth == 1, 1], first[truth == 0, 1]) > auc(plain[truth == 1, 1], plain[truth == 0, 1]) - 0.03


def test_mixup_mixes_rows_in_the_shares_in_which_their_targets_count() -> None:
    inputs, targets = torch.eye(6), torch.arange(6)
    weights = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.2, 0.2])
    mixed, wanted, shares = training.mixup(inputs, targets, weights, np.random.default_rng(0))
    assert wanted[:6].tolist() == targets.tolist() and sorted(wanted[6:].tolist()) == targets.tolist()
    # a unit vector mixed with another shows how much of each there is
    found = torch.zeros(6, 6).index_put_((targets, wanted[:6]), shares[:6] / weights, accumulate=True)
    found.index_put_((targets, wanted[6:]), shares[6:] / weights[wanted[6:]], accumulate=True)
    torch.testing.assert_close(mixed, found)


@settings(deadline=None)  # the first call imports imbalanced-learn
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 2**63))
def test_smote_fills_classes_between_rows_of_the_same_class(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(0).random((len(labels), 3), np.float32) + 10 * labels[:, None].astype(np.float32)
    filled, codes, shares = smote(TrainingSet(features, labels, np.ones(len(labels))), seed)
    assert len(shares) == len(filled) and shares.sum() == pytest.approx(len(labels))
    np.testing.assert_array_equal(filled[: len(labels)], features)
    for code, count in enumerate(counts):
        rows = filled[codes == code]
        assert len(rows) == (max(counts) if count > 1 else 1)
        own = features[labels == code]
        assert (rows >= own.min(axis=0) - 1e-4).all() and (rows <= own.max(axis=0) + 1e-4).all()
