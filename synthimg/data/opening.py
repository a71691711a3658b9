"""One record opened: its picture and mask as squares, and what is to be said of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import cropped, duplicates, images, masks
from .images import Fit, UnreadableError


class Facts(NamedTuple):
    """What is known of one record from its files, beside the pixels."""

    digest: str
    """blake2b of the picture's bytes, 32 hex digits."""
    width: int
    height: int
    """Of the picture, upright, before it becomes square."""
    remarks: str
    """Those of `images.Remark` that hold, joined by commas."""
    mask_digest: str = ""
    """blake2b of the mask's bytes; "" where there is none that can be read."""
    mask_fault: str = ""
    """Why the mask that is named cannot be used."""
    shows: str = ""
    """One of `masks.Shows`; "" where there is no mask that can be read."""
    mask_resized: bool = False
    """Whether the mask has other sides than the picture, of the same proportions."""
    kept: float = 1.0
    """Share of the object's area that is left in the square; 0 as well where no pixel of its mask is. 1: no object."""


class Opened(NamedTuple):
    """One record, ready for the arrays of a run."""

    pixels: np.ndarray
    """uint8 [R, R, 3]"""
    mask: np.ndarray | None
    """uint8 [R, R], 0 or 255"""
    thumbnail: np.ndarray
    """uint8 [64, 64]"""
    facts: Facts


def open_record(root: Path, path: str, mask: str, resolution: int, how: Fit) -> Opened:
    """Read one record's picture and, where `mask` is not "", its mask. A mask that cannot be used is a fact.

    Raises:
        UnreadableError: of the picture.
    """
    image, digest, remarks = images.load(root / path)
    pixels = images.square(image, resolution, how)
    thumbnail = duplicates.fingerprint(image)
    facts = Facts(digest, *image.size, ",".join(sorted(remarks)))
    if not mask:
        return Opened(pixels, None, thumbnail, facts)
    try:
        if mask == path:
            raise UnreadableError("names the image itself")
        found = masks.load(root / mask, image.size, "turned" in remarks)
    except UnreadableError as error:
        return Opened(pixels, None, thumbnail, facts._replace(mask_fault=str(error)))
    drawn = found.square(resolution, how)
    return Opened(pixels, drawn, thumbnail, facts._replace(
        mask_digest=found.digest, shows=found.shows, kept=cropped.kept(found.present, drawn, how),
        mask_resized=found.size != image.size,
    ))  # fmt: skip
