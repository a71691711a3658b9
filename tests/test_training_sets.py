"""What an arm learns from, seen in its predictions: views count once, weights and symmetries reach every classifier."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import RARE, fake_run
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torchvision.transforms import v2

from synthimg.evaluation.arms import TrainingSet, find_arm, smote
from synthimg.stages.classify import classify_images
from synthimg.vision.features import extract


def scores(root: Path, **changes: object) -> dict[str, np.ndarray]:
    """Scores of the validation and test images by arm, from an evaluation with these settings."""
    settings = {"seeds": 1, "bootstrap": 10, "portions": False, "extractor": "efficientnet-lite0", **changes}
    counts = {
        RARE: {"train": 8, "reserve": 2, "validation": 3, "test": 5},
        "functional": {"train": 16, "reserve": 0, "validation": 4, "test": 6},
    }
    config = fake_run(root, overrides={"evaluate": settings}, counts=counts, planned=12, accepted=8)
    predictions = pd.read_parquet(classify_images(config) / "predictions.parquet")
    return {str(arm): part["score"].to_numpy() for arm, part in predictions.groupby("arm", sort=False)}


def test_an_image_counts_once_however_many_views_of_it_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every view is the image itself the augmented arm is the real one: the penalty weighs as much in both."""
    for name in ("RandAugment", "RandomHorizontalFlip"):
        monkeypatch.setattr(v2, name, lambda *_, **__: v2.Identity())
    found = scores(tmp_path, arms=["real", "augmented", "oracle"])
    np.testing.assert_allclose(found["augmented"], found["real"], atol=1e-3)
    assert np.abs(found["oracle"] - found["real"]).max() > 0.01


@pytest.mark.slow
def test_a_fine_tuned_backbone_learns_from_symmetric_views_and_from_synthetic_images_by_their_weight(tmp_path: Path) -> None:
    """All of these are rare, so the more of them there are, and the more they count, the likelier rare is everywhere."""
    settings = {"classifier": "finetune", "steps": 2, "batch_size": 16}
    full = scores(tmp_path / "full", **settings, synthetic_weight=1.0, arms=["real", "mirrored", "turned", "synthetic"])
    light = scores(tmp_path / "light", **settings, synthetic_weight=0.05, arms=["real", "synthetic"])
    np.testing.assert_array_equal(full["real"], light["real"])
    assert full["real"].mean() < full["mirrored"].mean() < full["turned"].mean()
    assert light["synthetic"].mean() < full["synthetic"].mean() - 0.01


C = 4e-3
"""The head's inverse penalty (docs/experiments/head.md)."""
ARMS = ["real", "weighted", "mirrored", "turned", "synthetic", "oracle"]


KNOWN: dict[bytes, np.ndarray] = {}
"""Signed roots of features by picture; all arms share most of their pictures."""


def rooted(pixels: np.ndarray) -> np.ndarray:
    new = [picture for picture in map(np.ascontiguousarray, pixels) if picture.tobytes() not in KNOWN]
    for picture, features in zip(new, extract(np.stack(new)) if new else [], strict=True):
        KNOWN[picture.tobytes()] = np.sign(features) * np.sqrt(np.abs(features))
    return np.stack([KNOWN[np.ascontiguousarray(picture).tobytes()] for picture in pixels])


def ready(pixels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Features as heads see them: signed roots, centred and scaled by those of the training images."""
    root, known = rooted(pixels), rooted(like)
    return (root - known.mean(axis=0)) / np.sqrt(((known - known.mean(axis=0)) ** 2).mean())


def expected(run: Path, arm: str) -> np.ndarray:
    """What scikit-learn's logistic regression makes of an arm's training set: the rare class on validation and test."""
    records, pixels = pd.read_parquet(run / "dataset" / "records.parquet"), np.load(run / "dataset" / "pixels.npy")
    labels, split = records["label"].to_numpy(), records["split"].to_numpy()
    used = np.isin(split, ["train", "reserve"] if arm == "oracle" else ["train"])
    shown, codes, counts = [pixels[used]], list(labels[used]), [1.0] * used.sum()

    def add(pictures: np.ndarray, weight: float) -> None:
        shown.append(pictures)
        codes.extend([RARE] * len(pictures))
        counts.extend([weight] * len(pictures))

    rare = pixels[(split == "train") & (labels == RARE)]
    ways = [(rare, turns) for turns in range(4)] + [(rare[:, :, ::-1], turns) for turns in range(4)]
    mirrored = [ways[2], ways[4], ways[6]]  # upside down and left to right: half a turn, one mirroring, the other
    for part, turns in {"mirrored": mirrored, "turned": ways[1:]}.get(arm, []):
        add(np.rot90(part, turns, (1, 2)), 1.0)
    if arm == "synthetic":
        decisions = pd.read_parquet(run / "filter" / "decisions.parquet")
        names = decisions.loc[decisions["accepted"], "id"]
        add(np.stack([np.asarray(Image.open(run / "generate" / "images" / f"{name}.png")) for name in names]), 0.3)
    weights = np.array(counts)
    if arm == "weighted":
        of_class = pd.Series(weights).groupby(codes).transform("sum").to_numpy()
        weights = weights / of_class * weights.sum() / len(set(codes))
    model = LogisticRegression(C=C, tol=1e-7, max_iter=1000)
    model.fit(ready(np.concatenate(shown), pixels[split == "train"]), codes, sample_weight=weights)
    judged = np.concatenate([pixels[split == "validation"], pixels[split == "test"]])
    return model.predict_proba(ready(judged, pixels[split == "train"]))[:, list(model.classes_).index(RARE)]


@pytest.fixture(scope="module")
def run_of_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"seeds": 1, "bootstrap": 10, "portions": False, "extractor": "efficientnet-lite0", "synthetic_weight": 0.3}
    counts = {
        RARE: {"train": 5, "reserve": 3, "validation": 2, "test": 4},
        "functional": {"train": 12, "reserve": 0, "validation": 3, "test": 4},
        "dirty": {"train": 7, "reserve": 0, "validation": 2, "test": 3},
    }
    place = tmp_path_factory.mktemp("heads")
    config = fake_run(place, overrides={"evaluate": settings}, counts=counts, planned=9, accepted=6)
    classify_images(config)
    return config.folder


@pytest.mark.parametrize("arm", ARMS)
def test_a_head_is_the_optimum_of_its_arms_training_set(run_of_heads: Path, arm: str) -> None:
    predictions = pd.read_parquet(run_of_heads / "classify" / "predictions.parquet")
    found = predictions.loc[predictions["arm"] == arm, "score"].to_numpy()
    np.testing.assert_allclose(found, expected(run_of_heads, arm), atol=1e-3)


def test_no_two_arms_learn_the_same(run_of_heads: Path) -> None:
    predictions = pd.read_parquet(run_of_heads / "classify" / "predictions.parquet")
    found = {arm: part["score"].to_numpy() for arm, part in predictions.groupby("arm", sort=False)}
    assert len(found) == 18
    for arm, other in combinations(found, 2):
        assert np.abs(found[arm] - found[other]).max() > 1e-3, (arm, other)


def test_smote_leaves_a_class_of_a_single_row_as_it_is() -> None:
    features = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    labels = np.array([0] * 6 + [1] * 2 + [2])
    filled = smote(TrainingSet(features, labels, np.ones(9)), 0)
    assert np.bincount(filled.labels).tolist() == [6, 6, 1]
    assert (filled.inputs[:9] == features).all() and filled.counts.sum() == pytest.approx(9)


def test_an_average_is_named_after_both_of_its_parts() -> None:
    averaged, plain = find_arm("mirrored+patches"), find_arm("mirrored")
    for part in ("title", "words"):
        told = getattr(averaged, part)
        assert told.startswith(getattr(plain, part)) and len(told) > len(getattr(plain, part)) + 10
