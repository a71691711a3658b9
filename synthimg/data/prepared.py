"""What the prepare stage left, as later stages read it."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..attributes import captions
from ..config import Config
from ..core import files, stage
from ..errors import UserError
from . import splits


class Prepared(NamedTuple):
    """The usable records; row i of each part is the same image."""

    frame: pd.DataFrame
    """`records.parquet`, see docs/architecture.md."""
    pixels: np.ndarray
    """uint8 [N, R, R, 3] RGB, read-only memory map."""
    masks: np.ndarray | None
    """uint8 [N, R, R], 0 or 255, read-only memory map; None where the configuration names no masks."""

    def row_of(self) -> dict[str, int]:
        """The row of each record's id."""
        return {name: row for row, name in enumerate(self.frame["id"])}


def load(config: Config) -> Prepared:
    """Open `<run>/dataset/` as the run, or its part, sees it: for a part, the column `split` is the part's own.

    Raises:
        UserError: the prepare stage has not finished there, or the part's splits lack images.
    """
    folder = config.root / "dataset"
    stage.require(folder, "the data set is not prepared", "prepare")
    masks, frame = folder / "masks.npy", pd.read_parquet(folder / "records.parquet")
    if config.part:
        frame["split"] = splits.split_of(frame, config)
        if config.part != "final":
            splits.check_splits(frame, config.dataset.rare_class, config.dataset.rare_budget)
    return Prepared(
        frame,
        np.load(folder / "pixels.npy", mmap_mode="r"),
        np.load(masks, mmap_mode="r") if masks.exists() else None,
    )


def prompts_of(config: Config) -> captions.Prompts:
    """The run's prompts file.

    Raises:
        UserError: it is not the one that the data set was prepared with.
    """
    file, folder = captions.find(config.dataset.prompts), config.root / "dataset"
    stage.require(folder, "the data set is not prepared", "prepare")
    if json.loads((folder / "manifest.json").read_text())["inputs"].get("prompts") != files.digest(file):
        raise UserError(f"{file}: has changed since {folder} was prepared with it; nothing was changed. Choose another name")
    return captions.load(config.dataset.prompts)
