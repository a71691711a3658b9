"""Procedural scenes: reproducible, captioned with their true attributes, which show in picture and mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthimg import scenes
from synthimg.errors import UserError


def draw(n: int, seed: int = 0, *kinds: str, **fixed: str) -> scenes.Scene:
    return scenes.sample(n, torch.Generator().manual_seed(seed), kinds or scenes.KINDS, **fixed)


def test_same_seed_same_scenes() -> None:
    first, second = draw(6, 3), draw(6, 3)
    assert scenes.captions(first) == scenes.captions(second)
    assert torch.equal(scenes.render(first, 32)[0], scenes.render(second, 32)[0])


def test_images_and_masks_are_within_bounds() -> None:
    images, masks = scenes.render(draw(24), 48)
    assert images.shape == (24, 3, 48, 48)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(scenes.KINDS))
def test_every_attribute_of_a_kind_is_said(seed: int, kind: str) -> None:
    scene = draw(8, seed, kind)
    for truth, text in zip(scenes.attributes(scene), scenes.captions(scene, omitted=0), strict=True):
        assert truth.pop("kind") == kind
        assert set(truth) <= set(scenes.NAMES[kind])
        assert f"{truth.pop('light')}ly lit" in text
        goes_without_saying = {("area", "live")} | ({("count", "no")} if kind == "surface" else set())
        assert all(value in text for name, value in truth.items() if (name, value) not in goes_without_saying)


def test_fixed_attributes_are_kept_and_the_others_vary() -> None:
    truths = scenes.attributes(draw(40, 1, "skin", tone="dark", size="large"))
    assert {truth["tone"] for truth in truths} == {"dark"}
    assert {truth["size"] for truth in truths} == {"large"}
    assert {truth["place"] for truth in truths} == {"centre"}
    assert len({truth["colour"] for truth in truths}) > 4


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ({"tone": "violet"}, "tone 'violet'"),
        ({"hue": "red"}, "'hue'"),
        ({"mark": "stained", "size": "large", "place": "left"}, "exclude each other"),
        ({"mark": "intact", "count": "two"}, "exclude each other"),
        ({"tone": "dark"}, "a surface has none"),
        ({"size": "large"}, "mark 'stained' only"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(fixed: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        draw(2, 0, "surface", **fixed)


def test_size_light_and_tone_show_in_the_picture() -> None:
    scene = draw(120, 1, "skin")
    images, masks = scenes.render(scene, 48)
    area = masks.mean((1, 2, 3))
    by_size = [area[scene.size == size] for size in range(3)]
    assert by_size[0].max() < by_size[1].min()
    assert by_size[1].max() < by_size[2].min()
    brightness = images.mean((1, 2, 3))
    by_light = [brightness[scene.light == light].mean().item() for light in range(3)]
    assert by_light == sorted(by_light)
    by_tone = [brightness[scene.tone == tone].mean().item() for tone in range(4)]
    assert by_tone == sorted(by_tone, reverse=True)


@pytest.mark.parametrize(
    ("kind", "fixed"),
    [("surface", {"mark": "spotted"}), ("surface", {"mark": "scratched"}), ("panel", {"area": "live"})],
)
def test_what_is_counted_can_be_counted_in_the_mask(kind: str, fixed: dict[str, str]) -> None:
    scene = draw(60, 4, kind, **fixed)
    _, masks = scenes.render(scene, 128)
    found = [ndimage.label(mask[0].numpy(), np.ones((3, 3)))[1] for mask in masks]
    assert found == scene.count.tolist()


def test_lesions_stand_out_from_every_skin_and_keep_their_colour() -> None:
    scene = draw(200, 5, "skin", light="even", texture="smooth", border="sharp")
    images, masks = scenes.render(scene, 64)
    inside = (images * masks).sum((2, 3)) / masks.sum((2, 3))
    outside = (images * (1 - masks)).sum((2, 3)) / (1 - masks).sum((2, 3))
    assert (inside - outside).norm(dim=1).min() > 0.1
    strongest = {"red": 0, "green": 1, "blue": 2}
    for name, channel in strongest.items():
        of_colour = inside[scene.colour == scenes.VALUES["colour"].index(name)]
        assert (of_colour.argmax(1) == channel).all()


def test_textures_can_be_told_apart_on_every_skin() -> None:
    for tone in scenes.VALUES["tone"]:
        scene = draw(90, 6, "skin", tone=tone, light="dim", size="small")
        images, _ = scenes.render(scene, 64)
        grain = (images[:, :, 1:, 1:] - images[:, :, :-1, :-1]).abs().mean((1, 2, 3)) / images.mean((1, 2, 3))
        smooth, rough = (grain[scene.texture == scenes.VALUES["texture"].index(name)] for name in ("smooth", "rough"))
        assert smooth.median() < rough.quantile(0.05)


def test_an_intact_panel_has_no_mask_and_says_so() -> None:
    scene = draw(60, 2, "panel")
    _, masks = scenes.render(scene, 48)
    for caption, mask, cracks in zip(scenes.captions(scene), masks, scene.count, strict=True):
        assert ("intact" in caption) == (not mask.any())
        assert ("cracked" in caption) == (cracks > 0)
