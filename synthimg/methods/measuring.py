"""What a defect measures in a picture: how many pieces, how long and wide they are, how much darker or brighter.

Drawn defects are chosen by these measures to be like real ones (methods/procedural.py). They are as good as the masks are: a
mask that is drawn generously makes defects wide and faint.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Measures = NDArray[np.float64]
RING = 3
"""Pixels around an object that its contrast is measured against."""


def measures(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Measures:
    """Logarithms of four numbers: pieces, their mean length and width in pixels, and contrast.

    The width is that of a strip with the same mean distance to its border, a quarter of the width. The length is the area
    over the width. The contrast is the mean grey level of the object over that of a ring around it.

    Args:
        image: [R, R, 3].
        mask: [R, R], with an object.
    """
    _, pieces = ndimage.label(mask, np.ones((3, 3)))
    padded = np.pad(mask, 1, mode="edge")  # the border of the picture is not the object's
    # the centre of a border pixel is half a pixel inside
    width = 4 * (ndimage.distance_transform_edt(padded)[1:-1, 1:-1][mask].mean() - 0.5) if not mask.all() else len(mask)
    width = max(float(width), 1.0)
    ring = ndimage.binary_dilation(mask, iterations=RING) & ~mask
    grey = image.mean(2)
    around = grey[ring].mean() if ring.any() else grey.mean()
    return np.log([pieces, mask.sum() / pieces / width, width, (grey[mask].mean() + 1) / (around + 1)])


def distance(one: Measures, other: Measures) -> Any:
    """How much two defects differ: the root of the sum of the squared differences. A factor of two counts alike in each."""
    return np.linalg.norm(one - other)
