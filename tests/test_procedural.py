"""Defects on a photograph: there is always one, it is where the scene says, and all else is the photograph."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthimg import scenes
from synthimg.config import Defects
from synthimg.methods.procedural import VISIBLE, damaged
from synthimg.reading import parse
from synthimg.stages.finetune import finetune_model
from synthimg.stages.generate import generate_images
from synthimg.stages.prepare import prepare_dataset

SIDE = 64


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(get_args(Defects)), st.integers(0, 2**63 - 1), st.integers(0, 2**16))
def test_every_picture_has_a_defect_of_its_own_and_is_a_photograph_elsewhere(kind: Defects, seed: int, noise: int) -> None:
    ground = np.random.default_rng(noise).integers(100, 130, (SIDE, SIDE, 3), np.uint8)
    picture, again = damaged(ground, kind, seed), damaged(ground, kind, seed)
    assert picture is not None and picture.shape == ground.shape and picture.dtype == np.uint8
    assert np.array_equal(picture, again)
    changed = np.abs(picture.astype(int) - ground).max(2)
    assert changed.max() >= VISIBLE
    # no scene is defective all over; the border of a large soft stain fades until it is seen no more, but hardly to nothing
    assert (changed < VISIBLE).mean() > 0.2
    if kind == "panel":  # less light, alike in all colours
        assert (picture <= ground).all()
        assert np.ptp(picture / ground, axis=2).max() < 1.1 / 40 + 0.01


@pytest.mark.parametrize("kind", get_args(Defects))
def test_a_rendered_scene_is_an_intact_one_times_its_defects(kind: Defects, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scenes.sample(12, torch.Generator().manual_seed(3), (kind,))
    none = torch.zeros_like(scene.count)
    intact = replace(scene, count=none, area=none, mark=none)
    factor, mask = scenes.defects(scene, 48)
    assert torch.equal(mask, scenes.render(scene, 48)[1])
    assert mask.any() and (factor[mask > 0] - 1).abs().min() > 0.1
    # before the camera: its blur mixes neighbours
    monkeypatch.setattr(
        import_module("synthimg.scenes.drawing"), "_photograph", lambda scene, image, canvas, generator: image
    )
    drawn, plain = scenes.render(scene, 48)[0], scenes.render(intact, 48)[0]
    torch.testing.assert_close(drawn, (plain * factor).clamp(0, 1))


@pytest.mark.parametrize("kind", get_args(Defects))
def test_where_light_defects_would_vanish_another_is_drawn_and_black_has_none(kind: Defects) -> None:
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for seed in range(20):
        picture = damaged(white, kind, seed)
        assert picture is not None and picture.min() <= 255 - VISIBLE
    assert damaged(np.zeros_like(white), kind, 0) is None


def test_a_job_goes_on_where_some_images_are_black_and_says_how_many_it_passed_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tiny.photographs(tmp_path / "data")
    noise = np.random.default_rng(0)
    for file in sorted((data / "images" / "intact").iterdir())[::2]:
        Image.fromarray(noise.integers(0, VISIBLE, (64, 64, 3), np.uint8)).save(file)
    tree = tiny.settings(data, tmp_path / "outputs", "embedded", generate={"count": 20, "methods": {"procedural": 1}})
    config = parse(tree)
    for stage in (prepare_dataset, finetune_model, generate_images):
        stage(config)
    folder = config.folder / "generate"
    plan, manifest = pd.read_parquet(folder / "plan.parquet"), json.loads((folder / "manifest.json").read_text())
    assert len(list((folder / "images").iterdir())) == 20
    assert manifest["passed_over"] == plan["passed_over"].sum() > 0
    assert f"{manifest['passed_over']} real images were passed over" in "".join(capfd.readouterr())


def test_skin_has_no_defects() -> None:
    with pytest.raises(ValueError, match="skin has no defects"):
        scenes.defects(scenes.sample(2, torch.Generator(), ("skin",)), 32)
