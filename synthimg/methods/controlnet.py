"""Text to image with the mask or the edges of a real rare image (Zhang et al., "ControlNet", ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data import conditions
from .base import Columns, Material, Method, Wish
from .starts import nearest, with_object

if TYPE_CHECKING:
    from .studio import Studio


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """The real image whose condition map is used."""
    if material.config.finetune.controlnet == "mask":
        pool = with_object(pool, material.prepared)
    return [{"condition": nearest(pool, wish)} for wish in wishes]


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row."""
    kind = studio.config.finetune.controlnet
    assert kind  # reading.parse sees to it
    prepared, rows = studio.prepared, studio.records(batch["condition"])
    return studio.sample(batch, conditions=conditions.maps(kind, prepared.pixels, prepared.masks, rows))


METHOD = Method(plan, draw, starts_from="rare", needs="controlnet")
