"""An object on another ground: in its place, at its size, in its light, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from synthimg.attributes.estimators import luma
from synthimg.methods import pasting

SIDE = 64


def disc(row: float, column: float, radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def photograph(mask: NDArray[np.bool_], ground: tuple[int, int, int], spot: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], spot, ground).astype(np.uint8)


scales = st.floats(*pasting.LIMITS)
discs = st.builds(disc, st.floats(0, SIDE), st.floats(0, SIDE), st.floats(5, 26))


@settings(max_examples=40, deadline=None)
@given(discs, discs | st.just(np.zeros((SIDE, SIDE), bool)), scales, st.integers(0, 7), st.integers(0, 2**16))
def test_away_from_both_objects_the_recipient_is_left_but_for_its_exposure(
    mask: NDArray[np.bool_], ground_mask: NDArray[np.bool_], scale: float, symmetry: int, seed: int
) -> None:
    image, ground = np.random.default_rng(seed).integers(60, 120, (2, SIDE, SIDE, 3), np.uint8)
    picture = pasting.transplanted(image, mask, ground, ground_mask, scale, symmetry)
    assert picture.shape == ground.shape and picture.dtype == np.uint8
    assert luma(picture[None]).mean() == pytest.approx(luma(ground[None]).mean(), abs=0.01)
    if ground_mask.any():
        # where the object can land, turned any way: its reach around the middle of the place that it takes
        reach = np.linalg.norm(np.argwhere(mask) - ndimage.center_of_mass(mask), axis=1).max() * scale
        margin = 2 * pasting.SEAM * SIDE + 2
        touched = disc(*ndimage.center_of_mass(ground_mask), reach + margin) | (
            ndimage.distance_transform_edt(~ground_mask) <= margin
        )
        ratio = (picture[~touched] / ground[~touched]).ravel()
        assert not len(ratio) or np.ptp(ratio) < 2.5 / 60  # rounding to grey levels


def test_the_object_takes_the_place_and_the_size_of_the_recipients() -> None:
    mask, ground_mask = disc(20, 40, 8), disc(36, 24, 12)
    image = photograph(mask, (200, 200, 200), (200, 0, 0))
    ground = photograph(ground_mask, (200, 200, 200), (0, 0, 200))
    for symmetry in range(8):
        picture = pasting.transplanted(image, mask, ground, ground_mask, 1.5, symmetry).astype(int)
        red = (picture[..., 0] - picture[..., 2]) > 100
        assert not ((picture[..., 2] - picture[..., 0]) > 20).any()  # nothing of the blue object is left
        assert red.sum() == pytest.approx(ground_mask.sum(), rel=0.12)
        assert np.allclose(ndimage.center_of_mass(red), (36, 24), atol=1)


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.6])
@pytest.mark.parametrize("shift", [0, 1])
def test_a_line_one_pixel_wide_is_not_lost(scale: float, shift: int) -> None:
    mask, ground_mask = np.zeros((2, SIDE, SIDE), bool)
    mask[10:54, 20] = True
    ground_mask[20 : 44 + shift, 30 : 34 + shift] = True
    image, ground = (
        photograph(part, (200, 200, 200), spot) for part, spot in ((mask, (200, 0, 0)), (ground_mask, (0, 0, 200)))
    )
    picture = pasting.transplanted(image, mask, ground, ground_mask, scale, 0).astype(int)
    red = picture[..., 0] - picture[..., 2] > 25
    assert red.any(1).sum() == pytest.approx(min(44 * scale, SIDE), abs=3)


def test_the_object_is_seen_in_the_tone_of_its_new_ground() -> None:
    mask = disc(32, 32, 10)
    image, ground = photograph(mask, (200, 160, 140), (120, 60, 40)), photograph(mask, (100, 60, 40), (60, 36, 24))
    picture = pasting.transplanted(image, mask, ground, mask, 1.0, 0).astype(float)
    floor = pasting.FLOOR
    wanted = np.array(
        [120 * (100 + floor) / (200 + floor), 60 * (60 + floor) / (160 + floor), 40 * (40 + floor) / (140 + floor)]
    )
    exposure = picture[0, 0] / (100, 60, 40)
    assert np.ptp(exposure) < 0.03
    assert np.allclose(picture[32, 32], wanted * exposure.mean(), atol=1)


def test_a_recipient_without_an_object_takes_it_where_it_is() -> None:
    mask = disc(20, 40, 8)
    image = photograph(mask, (200, 200, 200), (200, 0, 0))
    picture = pasting.transplanted(image, mask, np.full_like(image, 150), np.zeros_like(mask), 1.0, 0).astype(int)
    assert ((picture[..., 0] - picture[..., 1] > 100) == mask).mean() > 0.98
    away = picture[ndimage.distance_transform_edt(~mask) > 2 * pasting.SEAM * SIDE]
    assert np.ptp(away) == 0 and away[0, 0] >= 150


def test_what_is_painted_over_keeps_colour_and_grain_of_its_surroundings() -> None:
    grain = np.random.default_rng(0).normal(0, 12, (SIDE, SIDE, 3))
    skin = np.clip(np.array([180, 140, 120]) + grain, 0, 255)
    hole = disc(32, 32, 14)
    bare = pasting._bare(np.where(hole[..., None], 0.0, skin), hole)
    deep = disc(32, 32, 10)
    assert np.allclose(bare[deep].mean(0), [180, 140, 120], atol=4)
    assert bare[deep].std(0).mean() > 0.5 * skin[deep].std(0).mean()
    assert (bare[~hole] == skin[~hole]).all()


@given(st.floats(0.01, 0.6), st.floats(0.01, 0.6))
def test_an_object_is_enlarged_to_the_area_wanted(area: float, wanted: float) -> None:
    assert area * pasting.enlargement(area, wanted) ** 2 == pytest.approx(wanted)
    assert pasting.enlargement(area, 0) == 1  # a recipient without an object wants none in particular
