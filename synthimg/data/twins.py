"""Masks that lie among the images: those that `dataset.mask` names, and those that nobody named."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from ..core import templates
from . import walk
from .masks import has_two_levels
from .suspicions import Suspicion

WORDS = r"masks?|segmentations?|segm?|labels?|annotations?|anno|gt|ground_?truths?|binary|alpha|matte"
SUFFIX = re.compile(rf"(?:[ ._-]+(?:{WORDS}))+$", re.IGNORECASE)
FOLDER = re.compile(rf"^(?:.*[ ._-])?(?:{WORDS}|(?:segmentation|pixel)[ ._-]?(?:class|object|label)e?s?)$", re.IGNORECASE)
IMAGES = re.compile(r"^(?:images?|imgs?|photos?|pictures?|rgb|raw|data|jpe?gimages)$", re.IGNORECASE)
LIKE_MASKS = 0.5
"""A class is named for masks and at least so many of its pictures look like masks."""


def masks_of_others(frame: pd.DataFrame) -> np.ndarray:
    """Which records are the mask of another record, bool [N]: those are no images.

    Args:
        frame: columns `path` and `mask`, "" where there is none.
    """
    paths = [posixpath.normpath(path) if path else "" for path in frame["path"]]
    named = {posixpath.normpath(mask) for mask, path in zip(frame["mask"], paths, strict=True)
             if mask and posixpath.normpath(mask) != path}  # fmt: skip
    return np.array([path in named for path in paths], bool)


def suspect_masks(frame: pd.DataFrame, pixels: np.ndarray, is_table: bool) -> list[Suspicion]:
    """Pictures that look like the masks of others, and classes that are named for masks.

    Args:
        frame: columns `path`, `label`.
        pixels: uint8 [N, R, R, 3]; looked at are those alone whose name makes them suspect.
        is_table: whether a table names the images: then no template is proposed.
    """
    found = []
    among = pairs(frame, pixels)
    if among:
        image, mask = among[0]
        named = None if is_table else template(image, mask)
        mend = (
            f"name them: dataset.mask: '{named}'" if named
            else "take them out of the images, and name them in dataset.mask by a column of a metadata.csv"
        )  # fmt: skip
        found.append(Suspicion("warning", "masks as images",
            f"{len({other for _, other in among})} of {len(frame)} images look like the masks of others, such as {mask} "
            f"that of {image}; {mend}"))  # fmt: skip
    for label, own in frame.groupby("label"):
        if not FOLDER.match(str(label)):
            continue
        looks = own["path"][[has_two_levels(pixels[row]) for row in own.index]]
        if len(looks) >= LIKE_MASKS * len(own):
            found.append(Suspicion("warning", "masks as images",
                f"class '{label}' is named for masks, and {len(looks)} of its {len(own)} images look like masks, such as "
                f"{looks.iloc[0]}; leave it out by dataset.classes"))  # fmt: skip
    return found


def pairs(frame: pd.DataFrame, pixels: np.ndarray) -> list[tuple[str, str]]:
    """Image and mask: of one name but for its suffix and words such as `mask`, and only the mask has two grey levels.

    Args:
        frame: column `path`, index 0 to N - 1.
        pixels: uint8 [N, R, R, 3].
    """
    frame = frame[["path"]].assign(key=[key(path) for path in frame["path"]])
    frame = frame[frame.duplicated("key", keep=False)]
    like_mask = np.array([has_two_levels(pixels[row]) for row in frame.index], bool)
    images = frame[~like_mask].drop_duplicates("key").set_index("key")["path"]
    found = frame[like_mask & frame["key"].isin(images.index)]
    return [(images[one], path) for one, path in zip(found["key"], found["path"], strict=True)]


def key(path: str) -> str:
    """What the paths of an image and of its mask have in common."""
    parts = PurePosixPath(path)
    folders = [name for name in parts.parts[:-1] if not FOLDER.match(name) and not IMAGES.match(name)]
    return "/".join([*folders, SUFFIX.sub("", parts.stem)]).casefold()


def template(image: str, mask: str) -> str | None:
    """The `dataset.mask` of an image folder that leads from an image to its mask; its rows have `stem` and `file_name`."""
    before, stem, after = mask.partition(walk.stem(image))
    if stem and not after[:1].isalnum():
        return f"{templates.escaped(before)}{{stem}}{templates.escaped(after)}"
    return None
