"""Estimators of image properties from pixels alone: the same function measures real and synthetic images.

None of them sees a prompt, a label or a mask. Values are comparable between images of one resolution. An estimator is a
function from images to values, here or in another package (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from ..core import extensions
from ..core.files import rows_of
from ..errors import UserError, did_you_mean

Estimator = Callable[[np.ndarray], np.ndarray]
"""From images, uint8 [N, H, W, 3], to one value each, [N]; NaN where the property cannot be told."""
GROUP = "synthimg.estimators"
BATCH = 256
SIDE = 64
"""Segmentation works on images of this size: fast, and independent of the resolution."""
COHERENCE = 0.1
"""White noise of 64 px or more has less."""
BORDER = 0.7
"""Experts draw a lesion's border outside its dark core. Chosen on 450 HAM10000 images, against their masks."""


def measure(pixels: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Measure images.

    Args:
        pixels: uint8 [N, H, W, 3] RGB; may be a memory map.
        names: of estimators, see `find`.

    Returns:
        float64 [N] per name; NaN where the property cannot be told.

    Raises:
        UserError: there is no such estimator.
    """
    parts = [slice(start, start + BATCH) for start in range(0, len(pixels), BATCH)]
    found = {}
    for name in names:
        estimate = find(name)
        blocks = [estimate(rows_of(pixels, part)) for part in parts]
        found[name] = np.concatenate([np.empty(0), *blocks]).astype(np.float64)
    return found


def find(name: str) -> Estimator:
    """An estimator of this module or, by an entry point of the group `synthimg.estimators`, of another package.

    Raises:
        UserError: there is no such estimator, or another package's cannot be imported.
    """
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    found: Estimator | None = extensions.load(GROUP, name)
    if found is None:
        there = [*ESTIMATORS, *extensions.names(GROUP)]
        raise UserError(f"no estimator '{name}'{did_you_mean(name, there)}; there are {', '.join(there)}")
    return found


def code_from_outside(names: Iterable[str]) -> dict[str, Path]:
    """The files of those estimators that are other packages'."""
    return extensions.sources_of(GROUP, [name for name in names if name not in ESTIMATORS])


def luma(pixels: np.ndarray) -> np.ndarray:
    """float32 [N, H, W], 0 to 1 (BT.601)."""
    grey = pixels[..., 0] * np.float32(0.299 / 255)
    grey += pixels[..., 1] * np.float32(0.587 / 255)
    return grey + pixels[..., 2] * np.float32(0.114 / 255)


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Mean luma, 0 to 1."""
    return luma(pixels).mean((1, 2))


def contrast(pixels: np.ndarray) -> np.ndarray:
    """Standard deviation of luma, 0 to 0.5."""
    return luma(pixels).std((1, 2))


def texture(pixels: np.ndarray) -> np.ndarray:
    """Fine structure: standard deviation of luma after a Gaussian of 1/64 of the height is subtracted, 0 to 0.5."""
    grey = luma(pixels)
    width = max(0.5, grey.shape[1] / 64)
    return (grey - ndimage.gaussian_filter(grey, (0, width, width))).std((1, 2))


def warmth(pixels: np.ndarray) -> np.ndarray:
    """Natural logarithm of mean red over mean blue: 0 is neutral, above is warm. One grey level keeps black finite."""
    mean = pixels.mean((1, 2), dtype=np.float64) + 1
    return np.log(mean[:, 0] / mean[:, 2])


def saturation(pixels: np.ndarray) -> np.ndarray:
    """Mean saturation of the HSV model, 0 to 1."""
    high = pixels.max(3).astype(np.float32)
    low = pixels.min(3).astype(np.float32)
    return ((high - low) / np.maximum(high, 1)).mean((1, 2))


def orientation(pixels: np.ndarray) -> np.ndarray:
    """Main direction of lines and edges in degrees, 0 level to 90 upright, to whichever side; NaN where there is none.

    From the mean structure tensor; a direction counts from a coherence of COHERENCE on (Bigün & Granlund, ICCV 1987).
    """
    tensors = [_structure(ndimage.gaussian_filter(image, max(0.5, len(image) / 128))) for image in luma(pixels)]
    right, down, both = np.array(tensors).reshape(-1, 3).T
    total, lead = right + down, np.hypot(right - down, 2 * both)
    across = np.degrees(np.arctan2(2 * both, right - down)) / 2  # -90 to 90, of the gradient, which stands upright on lines
    return np.where(lead > COHERENCE * np.maximum(total, 1e-12), 90 - np.abs(across), np.nan)


def skin_tone(pixels: np.ndarray) -> np.ndarray:
    """Individual typology angle of the skin around a lesion, in degrees: arctan((L* - 50) / b*) of the median colour.

    Above 55 very light, 41 light, 28 intermediate, 10 tan, -30 brown, below that dark (Chardon, Cretois, Hourseau:
    Int. J. Cosmetic Science 13, 191-208, 1991). Uncalibrated cameras shift it: compare within one data set only.
    """
    return np.array([_typology_angle(image) for image in _small(pixels)])


def lesion_size(pixels: np.ndarray) -> np.ndarray:
    """Share of the image (without black corners) that the central dark or coloured spot covers, 0 to 1."""
    return np.array([_share(*_segment(image)) for image in _small(pixels)])


ESTIMATORS: dict[str, Estimator] = {
    "brightness": brightness,
    "contrast": contrast,
    "texture": texture,
    "warmth": warmth,
    "saturation": saturation,
    "orientation": orientation,
    "skin_tone": skin_tone,
    "lesion_size": lesion_size,
}


def lab(pixels: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB uint8 [..., 3]; L* 0 to 100. CIE 15:2004 and IEC 61966-2-1."""
    value = pixels.astype(np.float32) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
        dtype=np.float32,
    )
    xyz = np.einsum("...c,xc->...x", linear, matrix / matrix.sum(1, keepdims=True))
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _structure(grey: np.ndarray) -> tuple[float, float, float]:
    """Mean products of the gradient of a picture [H, W]: rightwards squared, downwards squared, both."""
    down, right = ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)
    return float((right * right).mean()), float((down * down).mean()), float((right * down).mean())


def _small(pixels: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)) for image in pixels]


def _typology_angle(image: np.ndarray) -> float:
    """NaN where less than 2 % of the image is skin."""
    spot, seen = _segment(image)
    skin = seen & ~ndimage.binary_dilation(spot, iterations=2)
    if skin.mean() < 0.02:
        return float("nan")
    lightness, _, yellow = np.median(lab(image[skin]), axis=0)
    return float(np.degrees(np.arctan2(lightness - 50, yellow)))


def _share(spot: np.ndarray, seen: np.ndarray) -> float:
    return float(spot.sum() / max(1, seen.sum()))


def _segment(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spot, and what is seen at all (without the black corners of a dermatoscope), both bool [64, 64].

    Colour difference (CIELAB) of what is not lighter than the skin, smoothed, against `BORDER` of Otsu's threshold;
    of the regions above it, the one with most weight near the centre, its holes filled. Skin is the median of the
    lighter half.
    """
    colour = lab(image)
    seen = ~_corners(colour[..., 0])
    if not seen.any():
        return np.zeros_like(seen), seen
    smooth = ndimage.gaussian_filter(colour, (1.5, 1.5, 0))
    skin = np.median(smooth[seen & (smooth[..., 0] >= np.median(smooth[seen][:, 0]))], axis=0)
    difference = np.linalg.norm(smooth - skin, axis=-1) * np.where(smooth[..., 0] <= skin[0] + 2, 1, 0)
    inside = ndimage.binary_erosion(seen, iterations=2, border_value=1)
    above = inside & (difference > BORDER * otsu(difference[inside]))
    parts, count = ndimage.label(above)
    if not count:
        return np.zeros_like(seen), seen
    weight = ndimage.sum_labels(_CENTRE, parts, np.arange(1, count + 1))
    return ndimage.binary_fill_holes(parts == 1 + int(np.argmax(weight))) & seen, seen


def _corners(lightness: np.ndarray) -> np.ndarray:
    """Black regions that touch a corner of the image."""
    parts, _ = ndimage.label(lightness < 20)
    touching = {int(parts[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    return np.isin(parts, list(touching))


def otsu(values: np.ndarray) -> float:
    """The threshold with the greatest variance between the two sides (Otsu 1979), from 128 bins."""
    counts, edges = np.histogram(values, 128)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    gap = total / np.maximum(below, 1) - (total[-1] - total) / np.maximum(above, 1)
    return float(edges[1 + int(np.argmax(below * above * gap**2))])


_AXIS = np.linspace(-1, 1, SIDE)
_CENTRE = np.exp(-(_AXIS[:, None] ** 2 + _AXIS**2) / (2 * 0.3**2))
"""Weight of each pixel for being part of the photographed spot: a Gaussian, 0.3 of the half width."""
