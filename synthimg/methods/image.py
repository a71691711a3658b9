"""Image to image from a real training image of the rare class.

After Meng et al., "SDEdit" (ICLR 2022): the image is noised in part, and the rest of the way is drawn anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .base import Columns, Material, Method, Wish
from .starts import nearest

if TYPE_CHECKING:
    from .studio import Studio


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """A start image that has most of the attributes asked for, and each strength of the configuration in turn."""
    settings = material.config.generate
    return [
        {
            "source": nearest(pool, wish),
            "strength": settings.strength[wish.number % len(settings.strength)],
            "detail": settings.detail,
        }
        for wish in wishes
    ]


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row, with the share `detail` of what the autoencoder loses of the start image."""
    from ..diffusion import sample  # takes seconds to import

    start = studio.pixels(batch["source"])
    images = studio.sample(batch, start=start)
    detail = float(batch["detail"].iloc[0])
    return sample.add_detail(studio.pipeline, images, start, detail) if detail else images


METHOD = Method(plan, draw, starts_from="rare")
