"""Any Pillow mode and any colour profile to RGB in sRGB, 8 bits a channel."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

SAME = 2
"""Grey levels by which a transform may change colours and still count as none: the profile is sRGB under some name."""
PROFILED = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""Modes whose colours a profile can describe, with the colour space that the profile must be of."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB; transparency is laid over white. A colour profile is not looked at."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(grey8(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _from_lab()) or image
    if image.has_transparency_data:
        layer = straight(image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """As `to_rgb`, with the colours of an ICC profile converted to sRGB by its perceptual intent.

    Raises:
        ValueError: the profile is broken, of another colour space than the image, or the mode has no profiled colours.
    """
    if image.mode in PROFILED and not image.has_transparency_data:
        transform = _transform(profile, image.mode)
        return to_rgb(image) if transform is None else ImageCms.applyTransform(image, transform) or image
    if image.mode == "P" or image.has_transparency_data:
        layer = straight(image).convert("LA" if image.mode in ("L", "LA", "La") else "RGBA")
        alpha = layer.getchannel("A")
        colours = to_srgb(layer.convert(layer.mode.removesuffix("A")), profile)
        colours.putalpha(alpha)
        return to_rgb(colours)
    if image.mode in ("YCbCr", "HSV", "RGBX"):
        return to_srgb(image.convert("RGB"), profile)
    raise ValueError(f"no profile applies to mode {image.mode}")


def straight(image: Image.Image) -> Image.Image:
    """The same image with colours that are not multiplied by alpha: Pillow converts those to no other mode."""
    return image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode]) if image.mode in ("La", "RGBa") else image


def grey8(values: np.ndarray) -> np.ndarray:
    """Deep grey [H, W] to uint8 by the range of its type, never by the image's own range: brightness stays comparable.

    16 bits: / 257. If the largest value is below 4096, the file is taken as 12 bits in a 16-bit container, as
    cameras and scanners write it: / 16. (A true 16-bit image that dark would come out 16 times too bright.)
    32-bit integers within 16 bits count as those. Floats: 0..1 if none is larger, else 0..255. What is no number is 0.
    Anything beyond has no agreed range and is scaled by its own minimum and maximum.
    """
    deep = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = float(deep.min()), float(deep.max())
    integer_top = 4095.9375 if high < 4096 else 65535.0
    float_top = 1.0 if high <= 1 else 255.0
    top = float_top if values.dtype.kind == "f" else integer_top
    if low < 0 or high > top:
        deep, top = deep - low, max(high - low, 1e-12)
    return np.rint(deep * 255 / top).astype(np.uint8)


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where it changes no colour. Many images share few profiles."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != PROFILED[mode]:
            raise ValueError(f"profile of {source.profile.xcolor_space.strip()} colours in an image of mode {mode}")
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL,
            ImageCms.Flags.NOCACHE,  # the cache of a transform is not safe between threads
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, TypeError) as error:
        raise ValueError(f"broken colour profile: {error}") from error
    if mode == "CMYK":
        return transform
    steps = np.stack(np.meshgrid(*[np.arange(0, 256, 51)] * 3), -1).reshape(1, -1, 3).astype(np.uint8)
    colours = Image.fromarray(steps).convert(mode)
    moved = np.asarray(ImageCms.applyTransform(colours, transform)).astype(int)
    return None if np.abs(moved - np.asarray(colours.convert("RGB"))).max() <= SAME else transform


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=ImageCms.Flags.NOCACHE)
