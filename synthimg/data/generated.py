"""What the generate stage left, as later stages read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..core import stage
from ..errors import UserError


def plan(run: Path) -> pd.DataFrame:
    """`<run>/generate/plan.parquet`, one row per synthetic image.

    Raises:
        UserError: the generate stage has not finished there.
    """
    stage.require(run / "generate", "the images are not generated")
    return pd.read_parquet(run / "generate" / "plan.parquet")


def decisions(run: Path) -> pd.DataFrame:
    """`<run>/filter/decisions.parquet`, in plan order.

    Raises:
        UserError: the filter stage has not finished there.
    """
    stage.require(run / "filter", "the synthetic images are not filtered")
    return pd.read_parquet(run / "filter" / "decisions.parquet")


def relevance(run: Path) -> dict[str, Any]:
    """`<run>/filter/relevance.json`, as `evaluation/relevance.py` makes it.

    Raises:
        UserError: the filter stage has not finished there.
    """
    stage.require(run / "filter", "the synthetic images are not filtered")
    found: dict[str, Any] = json.loads((run / "filter" / "relevance.json").read_text(encoding="utf-8"))
    return found


def judged(run: Path) -> pd.DataFrame:
    """The plan's rows with the filter's decision on each, in plan order.

    Raises:
        UserError: one of the two stages has not finished there.
    """
    return plan(run).merge(decisions(run), on="id", validate="1:1")


def accepted(run: Path) -> pd.DataFrame:
    """The rows of `judged` whose images passed the filter."""
    rows = judged(run)
    return rows[rows["accepted"]]


def pictures(run: Path, ids: Sequence[str], side: int, size: int = 512) -> Iterator[NDArray[np.uint8]]:
    """The images of these rows, a few at a time: uint8 [<= size, side, side, 3]; one empty part where there are none.

    Raises:
        UserError: an image is missing, unreadable or of another size.
    """
    for start in range(0, max(len(ids), 1), size):
        part = [_picture(run / "generate" / "images" / f"{name}.png", side) for name in ids[start : start + size]]
        yield np.stack(part) if part else np.empty((0, side, side, 3), np.uint8)


def _picture(file: Path, side: int) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise UserError(
            f"{file}: missing or unreadable; delete it and generate/manifest.json, then run `synthimg generate` again"
        ) from error
    if pixels.shape != (side, side, 3):
        raise UserError(f"{file}: {pixels.shape[1]}x{pixels.shape[0]} pixels, expected {side}x{side}")
    return pixels
