"""Text to image: the caption of the rare class with the attributes asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .base import Columns, Material, Method, Wish

if TYPE_CHECKING:
    from .studio import Studio


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """Prompt and seed, which every row has, are all it takes."""
    return [{} for _ in wishes]


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row."""
    return studio.sample(batch)


METHOD = Method(plan, draw)
