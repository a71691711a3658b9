"""Defects on a photograph: there is always one, it is where the scene says, and all else is the photograph."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg import scenes
from synthimg.config import Defects
from synthimg.dataset.procedural import damaged

SIDE = 64


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(get_args(Defects)), st.integers(0, 2**63 - 1), st.integers(0, 2**16))
def test_every_picture_has_a_defect_of_its_own_and_is_a_photograph_elsewhere(kind: Defects, seed: int, noise: int) -> None:
    ground = np.random.default_rng(noise).integers(100, 130, (SIDE, SIDE, 3), np.uint8)
    picture = damaged(ground, kind, seed)
    assert picture.shape == ground.shape and picture.dtype == np.uint8
    assert (picture == damaged(ground, kind, seed)).all()
    changed = np.abs(picture.astype(int) - ground).max(2)
    assert changed.max() > 15
    assert (changed == 0).mean() > 0.1  # no scene is defective all over
    if kind == "panel":  # less light, alike in all colours
        assert (picture <= ground).all()
        assert np.ptp(picture / ground, axis=2).max() < 1.1 / 40 + 0.01


def test_a_rendered_panel_is_an_intact_one_times_its_defects() -> None:
    scene = scenes.sample(12, torch.Generator().manual_seed(3), ("panel", "surface"))
    factor, mask = scenes.defects(scene, 48)
    assert torch.equal(mask, scenes.render(scene, 48)[1])
    assert factor.shape == mask.shape and factor.min() > 0
    intact = (scene.count == 0) & (scene.area == 0) & (scene.mark == 0)
    assert torch.equal(intact, mask.flatten(1).sum(1) == 0)
    assert (factor[mask > 0] - 1).abs().min() > 0.1


def test_skin_has_no_defects() -> None:
    with pytest.raises(ValueError, match="skin has no defects"):
        scenes.defects(scenes.sample(2, torch.Generator(), ("skin",)), 32)
