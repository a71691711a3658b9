"""What `init` proposes after a look at some pictures: where their masks are, and how they become square."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..core import templates
from ..data import cropped, images, masks, twins, walk
from ..data.images import Fit, UnreadableError

LOOKED_AT = 200
"""Pictures that are opened."""


def quoted(text: str) -> str:
    """A text as YAML reads it back."""
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)


class Proposal(NamedTuple):
    """Keys of the section `dataset`."""

    mask: str | None
    fit: Fit
    is_image: np.ndarray
    """bool [N]: which of the paths are no masks."""

    @property
    def lines(self) -> list[str]:
        """Of the configuration; none where the defaults serve."""
        found = [f"  mask: {quoted(self.mask)}  # they lie among the images"] if self.mask else []
        if self.fit != "crop":
            found.append(f"  fit: {self.fit}  # a crop to the centre would cut much away")
        return found


def propose(root: Path, paths: Sequence[str], is_table: bool) -> Proposal:
    """Look at an image folder's or a table's pictures.

    Args:
        paths: relative to the root.
        is_table: a table says itself which of its files are images.
    """
    template = None if is_table else _mask_template(root, paths)
    named = [templates.fill(template, {"stem": walk.stem(path)}) if template else "" for path in paths]
    is_image = ~twins.masks_of_others(pd.DataFrame({"path": paths, "mask": named}))
    rows = np.flatnonzero(is_image)
    sizes, kept = [], []
    for row in rows[:: max(1, len(rows) // LOOKED_AT)]:
        try:
            sizes.append(images.size(root / paths[row]))
            if template:
                kept.append(_kept(root / named[row], sizes[-1]))
        except UnreadableError:
            continue  # `prepare` will say so
    return Proposal(template, cropped.proposed_fit(sizes, [share for share in kept if share is not None]), is_image)


def _kept(mask: Path, size: tuple[int, int]) -> float | None:
    """What a crop leaves of an object; None where there is none."""
    found = masks.load(mask, size)
    return None if found.shows == "nothing" else cropped.kept(found.present, found.present, "crop")


def _mask_template(root: Path, paths: Sequence[str]) -> str | None:
    keys = pd.Series([twins.key(path) for path in paths], dtype=str)
    some = [paths[row] for row in np.flatnonzero(keys.duplicated(keep=False)).tolist()]
    squares, read = [], []
    for path in sorted(some)[:LOOKED_AT]:
        try:
            squares.append(images.square(images.read(root / path), 64, "stretch"))
            read.append(path)
        except UnreadableError:
            continue
    if not read:
        return None
    pairs = twins.pairs(pd.DataFrame({"path": read}), np.stack(squares))
    return twins.template(*pairs[0]) if pairs else None
