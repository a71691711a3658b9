"""What the prepare stage left, as later stages read it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import stage


class Prepared(NamedTuple):
    """The usable records; row i of each part is the same image."""

    frame: pd.DataFrame
    """`records.parquet`, see docs/architecture.md."""
    pixels: np.ndarray
    """uint8 [N, R, R, 3] RGB, read-only memory map."""
    masks: np.ndarray | None
    """uint8 [N, R, R], 0 or 255, read-only memory map; None where the configuration names no masks."""


def load(run: Path) -> Prepared:
    """Open `<run>/dataset/`.

    Raises:
        UserError: the prepare stage has not finished there.
    """
    folder = run / "dataset"
    stage.require(folder, "the data set is not prepared", "prepare")
    masks = folder / "masks.npy"
    return Prepared(
        pd.read_parquet(folder / "records.parquet"),
        np.load(folder / "pixels.npy", mmap_mode="r"),
        np.load(masks, mmap_mode="r") if masks.exists() else None,
    )
