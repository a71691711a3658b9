"""Drawn defects are chosen to be like real ones: what is measured, that it decides, and that the plan says whose it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from synthimg.data.prepared import load
from synthimg.methods.measuring import distance, measures
from synthimg.methods.procedural import CHOICE, _changed, _shown, damaged
from synthimg.reading import parse
from synthimg.stages.finetune import finetune_model
from synthimg.stages.generate import generate_images
from synthimg.stages.prepare import prepare_dataset

SIDE = 64


def strips(width: int, length: int, places: list[int]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    for row in places:
        mask[row : row + width, 8 : 8 + length] = True
    return mask


def test_two_strips_measure_what_they_are() -> None:
    mask = strips(2, 30, [10, 40])
    image = np.full((SIDE, SIDE, 3), 99, np.uint8)
    image[mask] = 49
    pieces, length, width, contrast = np.exp(measures(image, mask))
    assert (pieces, length, width, contrast) == pytest.approx((2, 30, 2, 0.5))


def test_the_border_of_the_picture_is_not_the_defects_border() -> None:
    image, inside, cut = np.full((SIDE, SIDE, 3), 99, np.uint8), strips(8, 40, [20]), strips(4, 40, [60])
    assert np.exp(measures(image, cut))[2] == pytest.approx(np.exp(measures(image, inside))[2], rel=0.15)


def test_contrast_is_against_the_ring_not_against_the_picture() -> None:
    image, mask = np.full((SIDE, SIDE, 3), 199, np.uint8), strips(2, 30, [10])
    image[40:] = 0
    image[mask] = 99
    assert np.exp(measures(image, mask))[3] == pytest.approx(0.5)


def test_an_object_that_fills_the_picture_can_be_measured() -> None:
    assert np.isfinite(measures(np.full((SIDE, SIDE, 3), 9, np.uint8), np.ones((SIDE, SIDE), bool))).all()


def test_a_factor_of_two_counts_alike_in_each_measure() -> None:
    none = np.zeros(4)
    assert {round(float(distance(none, np.log(2) * row)), 9) for row in np.eye(4)} == {round(float(np.log(2)), 9)}


@pytest.mark.parametrize("kind", ["panel", "surface"])
def test_of_so_many_drawings_the_one_most_like_the_real_defect_is_taken(kind: str) -> None:
    ground = np.full((SIDE, SIDE, 3), 140, np.uint8)
    real = measures(np.where(strips(1, 50, [30])[:, :, None], 90, ground).astype(np.uint8), strips(1, 50, [30]))
    for seed in range(4):
        drawings = [picture for picture, _ in zip(_shown(ground, kind, seed), range(CHOICE), strict=False)]
        far = [float(distance(measures(picture, _changed(picture, ground)), real)) for picture in drawings]
        taken = damaged(ground, kind, seed, real)
        assert taken is not None and np.array_equal(taken, drawings[int(np.argmin(far))])
        assert len(set(far)) > 3 and min(far) < np.mean(far)


def test_the_plan_says_which_real_defect_each_picture_is_like_and_without_masks_none(tmp_path: Path) -> None:
    data, base = tiny.photographs(tmp_path / "data", rare=12, common=16), tiny.sd15(tmp_path / "base")
    for name, mask in (("masked", "{mask}"), ("bare", None)):
        config = parse({
            "name": name, "outputs": str(tmp_path / "out"), "base": str(base), "resolution": 32, "device": "cpu", "folds": 1,
            "dataset": {"path": str(data), "rare_class": "cracked", "group": "part", "prompts": "generic", "mask": mask,
                        "consent": {"licence": "CC0", "scope": ["research"]}},
            "generate": {"count": 6, "methods": {"procedural": 1}},
        })  # fmt: skip
        prepare_dataset(config)
        finetune_model(config)
        plan = pd.read_parquet(generate_images(config) / "plan.parquet")
        frame = load(config).frame
        rare = set(frame.loc[(frame["split"] == "train") & (frame["label"] == "cracked") & frame["mask"], "id"])
        assert (
            (set(plan["like"]) <= rare and len(set(plan["like"])) == min(6, len(rare)))
            if mask
            else set(plan["like"]) == {""}
        )
