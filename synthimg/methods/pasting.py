"""The object of one photograph on the ground of another: a lesion on other skin, by their masks and without any model.

After Dwibedi, Misra & Hebert, "Cut, Paste and Learn" (ICCV 2017), with the recipient's own object removed first.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..attributes.estimators import luma

Mask = NDArray[np.bool_]
Colours = NDArray[np.float64]
LIMITS = (0.6, 1.6)
"""How far an object may be shrunk and enlarged (length): beyond, its grain is no longer that of a photograph."""
SEAM = 1 / 40
"""Width of the fading border, as a share of the side; it lies outside the mask, as masks are drawn tight."""
COVER = (0.01, 0.6)
"""Shares of the image between which an object must cover: specks have no shape, and beyond there is no ground."""
CUT = 0.025
"""Share of its image's outermost pixels that a donor's object may cover: what is cut off there ends in a straight line."""
BAR = 8
"""Grey levels up to which whole rows and columns at the border of an image are bars: of `dataset.fit: pad`, or its own."""
FLOOR = 8
"""Grey levels added to both colours before they are divided: black skin has no ratio."""


def transplanted(
    image: NDArray[np.uint8], mask: Mask, ground: NDArray[np.uint8], ground_mask: Mask, scale: float, symmetry: int
) -> NDArray[np.uint8]:
    """Put the object of one image in the place of another's, in the tone of its ground, exposed as that picture is.

    Args:
        image, ground: [R, R, 3], donor and recipient.
        mask, ground_mask: [R, R], their objects. A recipient without one takes the object where it is.
        scale: factor on the object's lengths.
        symmetry: 0 to 7, which of the square's symmetries the donor is shown in.

    Returns:
        The picture [R, R, 3]; away from both objects it is the recipient, but for one factor on all of it. Its black bars
        stay as they are, and no bar of the donor comes along.
    """
    image, mask = _turned(_without_bars(image), symmetry), _turned(mask & inside(image), symmetry)
    moved, shape = _moved(image.astype(np.float64), mask, ground_mask, scale)
    bare = _bare(_without_bars(ground).astype(np.float64), _grown(ground_mask))
    away = ndimage.distance_transform_edt(~shape)
    ratio = (_around(bare, away) + FLOOR) / (_around(moved, away) + FLOOR)
    weight = np.clip(1 - away / (2 * SEAM * len(mask)), 0, 1)[..., None]
    picture = (1 - weight) * bare + weight * np.clip(moved * ratio, 0, 255)
    # a camera exposes for the whole picture: a darker object lifts its ground
    seen = content(ground)
    picture *= (luma(ground[seen][None]).mean() + 0.01) / (luma(picture[seen][None]).mean() + 0.01)
    return np.where(inside(ground)[..., None], np.clip(np.round(picture), 0, 255), ground).astype(np.uint8)


def enlargement(area: float, wanted: float) -> float:
    """Factor on lengths that gives an object of this area another; 1 where none is wanted. May lie outside LIMITS."""
    return float(np.sqrt(wanted / area)) if wanted > 0 else 1.0


def content(image: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The rows and columns of an image [R, R, 3] between its black bars; all of them where nothing is brighter."""
    bright = image.max(-1) > BAR
    if not bright.any():
        return slice(0, len(image)), slice(0, image.shape[1])
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def inside(image: NDArray[np.uint8]) -> Mask:
    """Which pixels of an image are its `content`, bool [R, R]."""
    found = np.zeros(image.shape[:2], bool)
    found[content(image)] = True
    return found


def frame_share(mask: Mask) -> float:
    """Which share of the outermost pixels of an image its object covers."""
    return float(np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]]).mean())


def _turned(array: NDArray[Any], symmetry: int) -> NDArray[Any]:
    return np.rot90(array[:, ::-1] if symmetry >= 4 else array, symmetry % 4)


def _without_bars(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with its content mirrored over its black bars."""
    seen = content(image)
    around = [(one.start, side - one.stop) for one, side in zip(seen, image.shape[:2], strict=True)]
    return np.pad(image[seen], [*around, (0, 0)], mode="symmetric")


def _moved(image: Colours, mask: Mask, ground_mask: Mask, scale: float) -> tuple[Colours, Mask]:
    """The donor and its mask, scaled and shifted so that its object lies where the recipient's does."""
    place = ground_mask if ground_mask.any() else mask
    offset = np.array(ndimage.center_of_mass(mask)) - np.array(ndimage.center_of_mass(place)) / scale
    # beyond its edge the donor is mirrored: the ground next to the object may reach over it
    move = partial(ndimage.affine_transform, matrix=[1 / scale] * 2, offset=offset, order=1, mode="reflect")
    # by the distance to it and not by its own pixels: a line one pixel wide would be lost between them
    away = move(ndimage.distance_transform_edt(~mask), mode="constant", cval=len(mask))
    shape = away <= 0.5 / scale
    blurred = ndimage.gaussian_filter(image, (max(0.0, 1 / scale - 1) / 2,) * 2 + (0,))  # or fine lines fall between pixels
    return np.stack([move(plane) for plane in np.moveaxis(blurred, -1, 0)], -1), shape


def _grown(mask: Mask) -> Mask:
    """With the margin in which a border fades; nothing stays nothing."""
    return mask.any() & (ndimage.distance_transform_edt(~mask) <= 2 * SEAM * len(mask))


def _bare(image: Colours, hole: Mask) -> Colours:
    """The image with what lies in the hole painted over: colours from around it, grain mirrored in from its border."""
    side, known = len(image), ~hole
    if known.all() or hole.all():
        return image
    # the reach is the whole image: in the middle of a large hole, too, something is near
    blur = partial(ndimage.gaussian_filter, sigma=(side / 12, side / 12, 0), truncate=12)
    smooth = blur(image * known[..., None]) / np.maximum(blur(known[..., None].astype(np.float64)), 1e-30)
    border = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    across = np.clip(2 * border - np.indices(hole.shape), 0, side - 1)
    grain = image - ndimage.gaussian_filter(image, (side / 64, side / 64, 0))
    grain = np.where(known[tuple(across)][..., None], grain[tuple(across)], 0)
    inside = np.clip(ndimage.distance_transform_edt(hole) / (SEAM * side), 0, 1)[..., None]
    return (1 - inside) * image + inside * (smooth + grain)


def _around(image: Colours, away: NDArray[np.float64]) -> Colours:
    """Median colour of the ground next to an object, `away` pixels from it; of the whole image where there is none."""
    ring = (away / len(away) > 2 * SEAM) & (away / len(away) < 5 * SEAM)
    return np.median(image[ring] if ring.any() else image.reshape(-1, 3), axis=0)
