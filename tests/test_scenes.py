"""Procedural scenes: reproducible, captioned with their true attributes, masks where the object is."""

from __future__ import annotations

import torch

from synthimg import scenes


def test_same_seed_same_scenes() -> None:
    first, second = (scenes.sample(6, torch.Generator().manual_seed(3)) for _ in range(2))
    assert scenes.captions(first) == scenes.captions(second)
    assert torch.equal(scenes.render(first, 32)[0], scenes.render(second, 32)[0])


def test_images_and_masks_are_within_bounds() -> None:
    images, masks = scenes.render(scenes.sample(12, torch.Generator().manual_seed(0)), 48)
    assert images.shape == (12, 3, 48, 48)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_attributes_show_in_the_picture() -> None:
    scene = scenes.sample(90, torch.Generator().manual_seed(1), ("skin",))
    images, masks = scenes.render(scene, 48)
    area = masks.mean((1, 2, 3))
    by_size = [area[scene.size == size].mean().item() for size in range(3)]
    assert by_size == sorted(by_size)
    brightness = images.mean((1, 2, 3))
    by_light = [brightness[scene.light == light].mean().item() for light in range(3)]
    assert by_light == sorted(by_light)


def test_an_intact_panel_has_no_mask_and_says_so() -> None:
    scene = scenes.sample(60, torch.Generator().manual_seed(2), ("panel",))
    _, masks = scenes.render(scene, 48)
    for caption, mask, cracks in zip(scenes.captions(scene), masks, scene.count, strict=True):
        assert ("intact" in caption) == (cracks == 0)
        assert mask.any() or cracks > 0 or "intact" in caption
        if cracks == 0:
            assert not mask.any()
