"""Any photograph to square RGB uint8, and any mask to 0 or 255. A file that cannot be read raises `UnreadableError`."""

from __future__ import annotations

import io
import warnings
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 100_000_000
"""Larger images are set aside: decoded, they would take more than 300 MB."""

Fit = Literal["crop", "pad", "stretch"]


class UnreadableError(Exception):
    """This one file cannot be used; the message says why. The job goes on without it."""


def read(path: Path) -> Image.Image:
    """An image file as upright RGB.

    EXIF orientation is applied; transparency is laid over white; grey, palette, CMYK and 1-bit images are converted;
    deep grey is scaled by `grey8`. Of an animation or a multi-page file, the first frame.

    Raises:
        UnreadableError: missing, not an image, truncated, or too large.
    """
    return load(path)[0]


def load(path: Path) -> tuple[Image.Image, str]:
    """As `read`, and 32 hex digits of the file's bytes (BLAKE2b), which are read once."""
    image, digest = _load(path)
    return to_rgb(image), digest


def _load(path: Path) -> tuple[Image.Image, str]:
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning: refused below; broken EXIF: harmless
            with Image.open(io.BytesIO(data)) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise UnreadableError(f"too large: {file.width} x {file.height} pixels")
                file.load()
                return ImageOps.exif_transpose(file), blake2b(data, digest_size=16).hexdigest()
    except FileNotFoundError as error:
        raise UnreadableError("no such file") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError("too large") from error
    except UnreadableError:
        raise
    except PermissionError as error:
        raise UnreadableError("permission denied") from error
    except UnidentifiedImageError as error:
        raise UnreadableError("not a readable image: of no known format") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them stumble over
        raise UnreadableError(f"not a readable image: {' '.join(str(error).split()) or type(error).__name__}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(grey8(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def grey8(values: np.ndarray) -> np.ndarray:
    """Deep grey [H, W] to uint8 by the range of its type, never by the image's own range: brightness stays comparable.

    16 bits: / 257. If the largest value is below 4096, the file is taken as 12 bits in a 16-bit container, as
    cameras and scanners write it: / 16. (A true 16-bit image that dark would come out 16 times too bright.)
    32-bit integers within 16 bits count as those. Floats: 0..1 if none is larger, else 0..255.
    Anything beyond has no agreed range and is scaled by its own minimum and maximum.
    """
    deep = np.nan_to_num(values.astype(np.float64))
    low, high = float(deep.min()), float(deep.max())
    integer_top = 4095.9375 if high < 4096 else 65535.0
    float_top = 1.0 if high <= 1 else 255.0
    top = float_top if values.dtype.kind == "f" else integer_top
    if low < 0 or high > top:
        deep, top = deep - low, max(high - low, 1e-12)
    return np.rint(deep * 255 / top).astype(np.uint8)


def fit(image: Image.Image, resolution: int, how: Fit, resample: Image.Resampling, fill: str | int) -> np.ndarray:
    """Make an image square, uint8 [resolution, resolution, ...].

    Args:
        how: crop the centre, pad the borders with `fill`, or stretch.
        resample: LANCZOS for photographs (antialiased when shrinking), NEAREST for masks.
    """
    size = (resolution, resolution)
    if how == "crop":
        return np.asarray(ImageOps.fit(image, size, resample))
    if how == "pad":
        return np.asarray(ImageOps.pad(image, size, resample, color=fill))
    return np.asarray(image.resize(size, resample))


def square(image: Image.Image, resolution: int, how: Fit) -> np.ndarray:
    """A photograph as uint8 [resolution, resolution, 3]; padding is black."""
    return fit(image, resolution, how, Image.Resampling.LANCZOS, "black")


def read_mask(path: Path, resolution: int, how: Fit, like: tuple[int, int]) -> np.ndarray:
    """A mask file as uint8 [resolution, resolution], 255 where the object is.

    Everything that is not black counts as object (in a JPEG, whose black is noisy: brighter than half). A palette
    image is read by its colours: which index is black differs from file to file. Transparency is laid over black.

    Args:
        like: width and height of the photograph, upright.

    Raises:
        UnreadableError: as `read`, or of other proportions than the photograph.
    """
    mask, _ = _load(path)
    wide, high = mask.width / like[0], mask.height / like[1]
    if abs(wide / high - 1) > 0.02:
        raise UnreadableError(f"mask of {mask.width} x {mask.height} for an image of {like[0]} x {like[1]}")
    if mask.mode == "P" or mask.has_transparency_data:
        layer = mask.convert("RGBA")
        mask = Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer).convert("RGB")
    values = np.asarray(mask if mask.mode != "CMYK" else mask.convert("RGB"))
    grey = values if values.ndim == 2 else _luma(values)
    border = 127 if path.suffix.lower() in (".jpg", ".jpeg") else 0
    present = grey.round() > border if grey.dtype.kind == "f" else grey > border
    full = Image.fromarray(present.astype(np.uint8) * 255)
    return fit(full, resolution, how, Image.Resampling.NEAREST, 0)


def _luma(values: np.ndarray) -> np.ndarray:
    return values[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
