"""What an arm learns from, seen in its predictions: views count once, weights and symmetries reach every classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import RARE, fake_run
from torchvision.transforms import v2

from synthimg.stages.evaluate import evaluate_run


def scores(root: Path, **changes: object) -> dict[str, np.ndarray]:
    """Scores of the validation and test images by arm, from an evaluation with these settings."""
    settings = {"seeds": 1, "bootstrap": 10, "portions": False, "extractor": "efficientnet-lite0", **changes}
    counts = {
        RARE: {"train": 8, "reserve": 2, "validation": 3, "test": 5},
        "functional": {"train": 16, "reserve": 0, "validation": 4, "test": 6},
    }
    config = fake_run(root, overrides={"evaluate": settings}, counts=counts, planned=12, accepted=8)
    predictions = pd.read_parquet(evaluate_run(config) / "predictions.parquet")
    return {str(arm): part["score"].to_numpy() for arm, part in predictions.groupby("arm", sort=False)}


def test_an_image_counts_once_however_many_views_of_it_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every view is the image itself the augmented arm is the real one: the penalty weighs as much in both."""
    for name in ("RandAugment", "RandomHorizontalFlip"):
        monkeypatch.setattr(v2, name, lambda *_, **__: v2.Identity())
    found = scores(tmp_path, arms=["real", "augmented", "oracle"])
    np.testing.assert_allclose(found["augmented"], found["real"], atol=1e-3)
    assert np.abs(found["oracle"] - found["real"]).max() > 0.01


def test_a_fine_tuned_backbone_learns_from_symmetric_views_and_from_synthetic_images_by_their_weight(tmp_path: Path) -> None:
    """All of these are rare, so the more of them there are, and the more they count, the likelier rare is everywhere."""
    settings = {"classifier": "finetune", "steps": 2, "batch_size": 16}
    full = scores(tmp_path / "full", **settings, synthetic_weight=1.0, arms=["real", "mirrored", "turned", "synthetic"])
    light = scores(tmp_path / "light", **settings, synthetic_weight=0.05, arms=["real", "synthetic"])
    np.testing.assert_array_equal(full["real"], light["real"])
    assert full["real"].mean() < full["mirrored"].mean() < full["turned"].mean()
    assert light["synthetic"].mean() < full["synthetic"].mean() - 0.01
