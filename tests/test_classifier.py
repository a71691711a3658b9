"""The classifiers: right, deterministic, blind to what they must not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from synthimg import classifier
from synthimg.metrics.recall import auc


def clouds(
    count: int, seed: int, width: int = 40, rare: int | None = None, shift: float = 0.35
) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping Gaussian clouds; `rare` pictures of class 1, else half."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) < (count // 2 if rare is None else rare)).astype(np.int64)
    features = rng.standard_normal((count, width)) + shift * labels[:, None]
    return features.astype(np.float32), labels


def test_head_is_as_good_as_scikit_learn() -> None:
    (features, labels), (queries, truth) = clouds(300, 0), clouds(2000, 1)
    mine = classifier.head(features, labels, 2, queries, 400, 64, seed=0)
    theirs = LogisticRegression(C=0.01).fit(features, labels).predict_proba(queries)
    assert mine.shape == (2000, 2)
    np.testing.assert_allclose(mine.sum(axis=1), 1)
    assert auc(mine[truth == 1, 1], mine[truth == 0, 1]) > auc(theirs[truth == 1, 1], theirs[truth == 0, 1]) - 0.01


def test_head_is_deterministic_and_leaves_the_global_random_state_alone() -> None:
    features, labels = clouds(60, 0)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = classifier.head(features, labels, 2, features, 20, 16, seed=1)
    np.testing.assert_array_equal(first, classifier.head(features, labels, 2, features, 20, 16, seed=1))
    assert not np.array_equal(first, classifier.head(features, labels, 2, features, 20, 16, seed=2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_head_judges_each_query_by_itself() -> None:
    (features, labels), (queries, _) = clouds(60, 0), clouds(30, 1)
    together = classifier.head(features, labels, 2, queries, 20, 16, seed=1)
    apart = classifier.head(features, labels, 2, queries[:5], 20, 16, seed=1)
    np.testing.assert_allclose(together[:5], apart, atol=1e-6)


@pytest.mark.parametrize("balance", ["loss", "draws"])
def test_balance_raises_recall_of_the_rare_class(balance: classifier.Balance) -> None:
    (features, labels), (queries, truth) = clouds(400, 0, rare=20, shift=0.15), clouds(600, 1, shift=0.15)
    plain = classifier.head(features, labels, 2, queries, 200, 64, seed=0)
    balanced = classifier.head(features, labels, 2, queries, 200, 64, seed=0, balance=balance)
    found = (plain[truth == 1, 1] > 0.5).mean(), (balanced[truth == 1, 1] > 0.5).mean()
    assert found[1] > found[0] + 0.2


def test_head_with_three_classes_one_of_them_absent() -> None:
    features, labels = clouds(60, 0)
    found = classifier.head(features, labels * 2, 3, features, 50, 16, seed=0, balance="loss")
    assert found.shape == (60, 3)
    assert found[:, 1].max() < 0.5


def test_order_shows_every_row_before_any_twice_or_every_class_equally() -> None:
    labels = np.repeat([0, 1], [90, 10])
    rows = classifier.order(labels, 10, 10, seed=0)
    assert sorted(rows.ravel()) == list(range(100))
    balanced = classifier.order(labels, 100, 50, seed=0, balanced=True)
    assert labels[balanced].mean() == pytest.approx(0.5, abs=0.03)


def test_row_weights_average_to_one_and_make_classes_equal_where_asked() -> None:
    labels, counts = np.repeat([0, 2, 2], [30, 4, 10]), np.repeat([1.0, 1.0, 0.2], [30, 4, 10])
    alike, counted, balanced = (
        classifier.row_weights(labels, *how).double().numpy() for how in (("none",), ("none", counts), ("loss", counts))
    )
    assert (alike == 1).all()
    for weights in (counted, balanced):
        assert weights.mean() == pytest.approx(1)
        assert weights[34:] == pytest.approx(0.2 * weights[30])  # of one class, a fifth each
    assert counted[0] == pytest.approx(counted[30])
    assert balanced[labels == 0].sum() == pytest.approx(balanced[labels == 2].sum())


def test_a_row_that_counts_n_fold_is_as_n_rows() -> None:
    labels = clouds(40, 0)[1]
    counts = np.where(np.arange(40) % 3 == 0, 3.0, 1.0)
    again = np.repeat(np.arange(40), counts.astype(int))
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 2)))
    for balance in ("none", "loss", "focal"):
        weights = classifier.row_weights(labels, balance, counts)
        whole = classifier.row_weights(labels[again], balance)
        found = classifier.loss(logits, torch.from_numpy(labels), balance, weights)
        wanted = classifier.loss(logits[again], torch.from_numpy(labels[again]), balance, whole)
        assert float(found) == pytest.approx(float(wanted))


def test_augmentation_depends_on_its_seed_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for view in (classifier.randaugment, classifier.jitter):
        first = np.asarray(view(image, 1))
        torch.manual_seed(99)
        np.testing.assert_array_equal(first, np.asarray(view(image, 1)))
        assert any(not np.array_equal(first, np.asarray(view(image, seed))) for seed in range(2, 8))
    assert classifier.jitter(image, 1).shape == (3, 32, 32)


def test_finetune_learns_is_deterministic_and_restores_settings() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(16, dtype=np.int64) % 2
    pixels = rng.integers(0, 90, (16, 32, 32, 3), dtype=np.uint8)
    pixels[labels == 1, :, :, 0] += 150
    first = classifier.finetune(pixels, labels, 2, pixels, steps=20, batch=8, seed=0)
    assert (first.argmax(axis=1) == labels).mean() >= 0.9
    assert not torch.are_deterministic_algorithms_enabled()
    np.testing.assert_array_equal(first, classifier.finetune(pixels, labels, 2, pixels, steps=20, batch=8, seed=0))


@pytest.mark.parametrize("options", [{"mix": True}, {"balance": "focal"}, {"balance": "draws", "mix": True, "strong": True}])
def test_finetuning_with_mixup_and_focal_loss_runs_and_repeats(options: dict[str, Any]) -> None:
    pixels, labels = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8), np.arange(8) % 2
    first = classifier.finetune(pixels, labels, 2, pixels, steps=2, batch=4, seed=0, **options)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    np.testing.assert_array_equal(first, classifier.finetune(pixels, labels, 2, pixels, steps=2, batch=4, seed=0, **options))
    assert not np.array_equal(first, classifier.finetune(pixels, labels, 2, pixels, steps=2, batch=4, seed=0))


def test_focal_loss_is_cross_entropy_times_the_square_of_what_is_missing() -> None:
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 0.0], [-3.0, 1.0]]), torch.tensor([0, 1, 0])
    given = logits.softmax(dim=1)[torch.arange(3), targets]
    expected = ((1 - given) ** 2 * F.cross_entropy(logits, targets, reduction="none")).mean()
    assert classifier.loss(logits, targets, "focal", torch.ones(3)).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("options", [{"mix": True}, {"balance": "focal"}, {"balance": "draws", "mix": True}])
def test_mixup_and_focal_loss_learn_and_repeat(options: dict[str, Any]) -> None:
    (features, labels), (queries, truth) = clouds(300, 0), clouds(600, 1)
    first = classifier.head(features, labels, 2, queries, 200, 64, seed=0, **options)
    np.testing.assert_array_equal(first, classifier.head(features, labels, 2, queries, 200, 64, seed=0, **options))
    plain = classifier.head(features, labels, 2, queries, 200, 64, seed=0)
    assert not np.array_equal(first, plain)
    assert auc(first[truth == 1, 1], first[truth == 0, 1]) > auc(plain[truth == 1, 1], plain[truth == 0, 1]) - 0.03


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 2**63))
def test_smote_fills_classes_between_rows_of_the_same_class(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(0).random((len(labels), 3), np.float32) + 10 * labels[:, None].astype(np.float32)
    filled, codes = classifier.smote(features, labels, seed)
    np.testing.assert_array_equal(filled[: len(labels)], features)
    for code, count in enumerate(counts):
        rows = filled[codes == code]
        assert len(rows) == (max(counts) if count > 1 else 1)
        own = features[labels == code]
        assert (rows >= own.min(axis=0) - 1e-4).all() and (rows <= own.max(axis=0) + 1e-4).all()
