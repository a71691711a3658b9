"""The object of a real image of another class painted anew as the rare class's; the rest stays the real image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data import conditions
from .base import Columns, Material, Method, Wish
from .pasting import inside
from .starts import nearest, with_object

if TYPE_CHECKING:
    from .studio import Studio


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """A start image with an object, and each strength of the configuration in turn.

    No `detail`: what is painted anew has no use for the old object's, and what is kept is kept whole.
    """
    strengths, pool = material.config.generate.strength, with_object(pool, material.prepared)
    return [{"source": nearest(pool, wish), "strength": strengths[wish.number % len(strengths)]} for wish in wishes]


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row, real outside the mask and its margin."""
    from ..diffusion import sample  # takes seconds to import

    start = studio.pixels(batch["source"])
    region = conditions.regions(studio.masks(batch["source"]), range(len(batch)))
    region &= np.stack([inside(image) for image in start])  # nothing is painted on black bars
    return sample.keep_outside(studio.sample(batch, start=start, region=region), start, region)


METHOD = Method(plan, draw, starts_from="common", needs="masks")
