"""Mask files: what of them is object, decided by their pixels and not by their names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from .colour import straight
from .images import Decoded, Fit, UnreadableError, decode, fit

FEW = 32
"""Whole numbers below this are labels: a drawn or painted mask reaches higher."""
NOISE = 16
"""Grey levels: a compressed picture that varies less than this shows nothing."""
SOLID, FLAT = 0.8, 0.25
"""Labels lie in places. So many of the pixels with values between lowest and highest have at least four equal neighbours,
and so many have eight. Compression and smooth edges leave fewer."""
BINS, RARE = 16, 0.01
"""Levels of a grey mask are sought in a histogram of 16 bins, of which those with less than 1 % of the pixels are empty."""
MOST = 16_000_000
"""Pixels of a mask that are looked at; of a larger one every second or third row and column. Levels take up to 8 bytes."""
PROPORTIONS = 0.02
"""How far the proportions of a mask may be from those of its image."""

Shows = Literal["nothing", "everything", "inverted", "an object"]


class Mask(NamedTuple):
    """Where the object of one image is."""

    present: np.ndarray
    """bool [H, W], of the mask file's size, or smaller where that has more than MOST pixels."""
    digest: str
    """blake2b of the file's bytes, 32 hex digits."""
    size: tuple[int, int]
    """Width and height of the mask file."""

    @property
    def shows(self) -> Shows:
        """Nothing, everything, an object, or what looks inverted: nearly the whole border and more than half of the image
        are object."""
        border = np.concatenate([self.present[0], self.present[-1], self.present[:, 0], self.present[:, -1]])
        if not self.present.any():
            return "nothing"
        if self.present.all():
            return "everything"
        return "inverted" if border.mean() >= 0.9 and self.present.mean() > 0.5 else "an object"

    def square(self, resolution: int, how: Fit) -> np.ndarray:
        """uint8 [resolution, resolution], 255 where the object is; padding is no object."""
        return fit(Image.fromarray(self.present.astype(np.uint8) * 255), resolution, how, Image.Resampling.NEAREST, 0)


def load(path: Path, like: tuple[int, int], turned: bool = False) -> Mask:
    """A mask file.

    Args:
        like: width and height of the photograph, upright.
        turned: whether the photograph's EXIF orientation made it upright.

    Raises:
        UnreadableError: as `images.load`, or of other proportions than the photograph.
    """
    mask = decode(path)
    size = mask.image.size
    wide, high = size[0] / like[0], size[1] / like[1]
    if abs(wide / high - 1) > PROPORTIONS:
        sizes = f"mask of {size[0]} x {size[1]} for an image of {like[0]} x {like[1]}"
        raise UnreadableError(f"{sizes}, which its EXIF orientation turned and the mask has none" if turned else sizes)
    step = math.ceil(math.sqrt(size[0] * size[1] / MOST))
    if step > 1:
        fewer = max(1, size[0] // step), max(1, size[1] // step)
        mask = mask._replace(image=mask.image.resize(fewer, Image.Resampling.NEAREST))
    return Mask(object_of(mask), mask.digest, size)


def object_of(mask: Decoded) -> np.ndarray:
    """Where a decoded mask shows an object, bool [H, W].

    The background is what is darkest. Transparency is laid over black; if the shape is in alpha alone (a cut-out, a black
    object), what is opaque is the object. A pixel's level is the distance of its colour from the background's, in the
    channel that differs most; of a palette the colours count, not the indices.

    - One level: nothing if it is black, else everything. In a lossy file a few grey levels are still one.
    - Labels (two levels; or whole numbers below FEW; or levels that lie in solid places): all but the background is object.
    - Grey (compression noise, smooth edges): object is what is nearer to the lowest level above the background than to it.
      Where only one level is common, what is nearer to the highest.
    """
    level, darkest = _levels(mask.image)
    span = level.max()
    if not span or (mask.lossy and span < NOISE):
        return np.full(level.shape, darkest > (NOISE if mask.lossy else 0))
    inner = np.flatnonzero((level > 0) & (level < span))
    if not len(inner):
        return level > 0
    own, around = level.ravel()[inner], _around(level, inner)
    if not mask.lossy and ((span < FEW and not (own % 1).any()) or _lie_in_places(own, around)):
        return level > 0
    standing = own[(around.max(0) <= own) | (around.min(0) >= own)]  # others are between two levels: a smooth edge
    ends = np.count_nonzero(level == 0), np.count_nonzero(level == span)
    border = _border(standing / span, ends, level.size) * float(span)
    return level >= (border if level.dtype.kind == "f" else math.ceil(border))


def _levels(image: Image.Image) -> tuple[np.ndarray, float]:
    """Distance from the darkest colour [H, W], and how bright that is."""
    if image.mode == "P" or image.has_transparency_data:
        values = _over_black(straight(image).convert("RGBA"))
    else:
        modes = {"1": "L", "CMYK": "RGB", "LAB": "RGB", "HSV": "RGB", "YCbCr": "RGB"}
        values = np.asarray(image.convert(modes[image.mode]) if image.mode in modes else image)
    if values.ndim == 3 and all(np.array_equal(values[..., 0], values[..., channel]) for channel in (1, 2)):
        values = values[..., 0]
    if values.dtype != np.uint8:
        values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    if values.ndim == 2:
        return values - values.min(), float(values.min())
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)
    darkest = values.reshape(-1, values.shape[-1])[grey.argmin()]
    return np.abs(values - darkest.astype(np.int16)).max(-1), float(darkest.max())


def _over_black(layer: Image.Image) -> np.ndarray:
    """An RGBA layer on black, [H, W, 3]; its alpha where that alone holds the shape."""
    alpha = np.asarray(layer.getchannel("A"))
    drawn = np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer).convert("RGB"))
    if alpha.min() >= 128 or alpha.max() < 128:
        return drawn
    grey = drawn.max(-1)
    two = grey.max() > NOISE and ((grey < 32) | (grey > grey.max() - 32)).mean() > 0.95
    return drawn if two else np.repeat(alpha[..., None], 3, -1)


def _around(level: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The eight neighbours of some pixels [8, N], given by their places in the flat array. Beyond the edge the neighbouring
    row goes on: only shares of many pixels are worked out."""
    wide = level.shape[1]
    shifts = np.array([down * wide + right for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right])
    return level.ravel()[(shifts[:, None] + pixels).clip(0, level.size - 1)]


def _lie_in_places(own: np.ndarray, around: np.ndarray) -> bool:
    equal = (around == own).sum(0)
    return bool((equal >= 4).mean() >= SOLID and (equal == 8).mean() >= FLAT)


def _border(inner: np.ndarray, ends: tuple[Any, Any], size: int) -> float:
    """The level from which on a grey mask is object, as a share of the highest.

    Args:
        inner: levels between the lowest and the highest, as shares of that [N].
        ends: counts of pixels at the lowest and at the highest level.
        size: count of all pixels.
    """
    counts = np.bincount(np.minimum((inner * BINS).astype(int), BINS - 1), minlength=BINS)
    counts[[0, -1]] += ends
    common = counts >= RARE * size
    rest = np.flatnonzero(~common)
    above = np.flatnonzero(common[rest[0] :]) + rest[0] if len(rest) else []
    if not common[0] or not len(above):
        return 0.5
    return float(above[0] + 0.5) / BINS / 2


def has_two_levels(pixels: np.ndarray) -> bool:
    """Whether a picture looks like a mask: black, or grey with nearly all pixels near the darkest or the brightest.

    Args:
        pixels: uint8 [R, R, 3].
    """
    green = np.ascontiguousarray(pixels[..., 1])
    dark, bright = int(green.min()), int(green.max())
    if dark >= 32 or 32 <= bright < 128 or ((green > dark + 32) & (green < bright - 32)).mean() >= 0.1:
        return False
    some = pixels[::4, ::4]
    return bool((np.ptp(some, axis=-1) <= 32).mean() > 0.98)
