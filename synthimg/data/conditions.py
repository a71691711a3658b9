"""Condition maps for ControlNet and regions for inpainting: what of a real image the synthetic one has to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from ..attributes.estimators import luma
from ..errors import UserError

Kind = Literal["mask", "edges"]
MARGIN = 0.06
LOW, HIGH = 0.04, 0.1
"""Gradient (luma per pixel) that continues an edge, and that starts one."""


def maps(kind: Kind, pixels: np.ndarray, masks: np.ndarray | None, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Condition maps of some images, white on black.

    Args:
        pixels: uint8 [N, H, W, 3] RGB.
        masks: uint8 [N, H, W], 0 or 255; needed for kind `mask` only.
        rows: which of the N images.

    Returns:
        uint8 [rows, H, W, 3], three equal channels of 0 or 255.

    Raises:
        UserError: kind `mask` without masks.
    """
    if kind == "mask" and masks is None:
        raise UserError("finetune.controlnet: mask needs masks; name them in dataset.mask, or use edges")
    drawn = [edges(pixels[row]) if masks is None or kind == "edges" else masks[row] > 0 for row in rows]
    return np.repeat((np.stack(drawn) * np.uint8(255))[..., None], 3, axis=3)


def regions(masks: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where a picture may be made new: the masked object and a margin of MARGIN of the side, into which its border fades.

    Args:
        masks: uint8 [N, H, W], 0 or 255.
        rows: which of the N images.

    Returns:
        bool [rows, H, W].
    """
    margin = max(1, round(MARGIN * masks.shape[-1]))
    y, x = np.ogrid[-margin : margin + 1, -margin : margin + 1]
    disc = (x * x + y * y <= margin * margin)[None]
    return ndimage.binary_dilation(np.stack([masks[row] > 0 for row in rows]), disc)


def edges(pixels: np.ndarray) -> np.ndarray:
    """Thin outlines, bool [H, W] (Canny, IEEE PAMI 8, 679-698, 1986): smooth, thin, follow strong edges."""
    smooth = ndimage.gaussian_filter(luma(pixels[None])[0], max(1.0, len(pixels) / 128))
    down, right = ndimage.sobel(smooth, 0) / 8, ndimage.sobel(smooth, 1) / 8
    strength = np.hypot(down, right)
    ridge = _ridges(strength, down, right)
    parts, count = ndimage.label(ridge & (strength > LOW / 2), np.ones((3, 3)))
    peak = ndimage.maximum(strength, parts, np.arange(1, count + 1)) if count else np.empty(0)
    return np.isin(parts, 1 + np.flatnonzero(np.asarray(peak) > HIGH / 2))


def _ridges(strength: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where the gradient is greatest across the edge: compared with both neighbours along its own direction."""
    sector = np.rint(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    framed = np.pad(strength, 1)
    high, wide = strength.shape
    ridge = np.zeros(strength.shape, bool)
    for number, (row, column) in enumerate([(0, 1), (1, 1), (1, 0), (1, -1)]):
        after = framed[1 + row : 1 + row + high, 1 + column : 1 + column + wide]
        before = framed[1 - row : 1 - row + high, 1 - column : 1 - column + wide]
        ridge |= (sector == number) & (strength > before) & (strength >= after)
    return ridge
