"""The pictures of `procedural`, worked over by the model: the drawing says what and where, the model how it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..attributes import captions
from ..core.seeds import derive
from . import procedural
from .base import Columns, Material, Method, Wish
from .starts import records

if TYPE_CHECKING:
    from .studio import Studio


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """Ground and defects as `procedural` plans them, and each strength of the configuration in turn."""
    settings, planned = material.config.generate, procedural.plan(wishes, pool, material)
    strengths = settings.strength
    return [
        {**columns, "strength": strengths[wish.number % len(strengths)], "detail": settings.detail}
        for wish, columns in zip(wishes, planned, strict=True)
    ]


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row, with the share `detail` of what the autoencoder loses of the drawn one."""
    from ..diffusion import sample  # takes seconds to import

    start = procedural.draw(batch, studio)
    images = studio.sample(batch, start=start)
    detail = float(batch["detail"].iloc[0])
    return sample.add_detail(studio.pipeline, images, start, detail) if detail else images


def lessons(material: Material, count: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Drawn pictures for the model to learn from, so that it keeps what they show: uint8 [count, R, R, 3], and captions.

    They lie on training images of other classes; a caption names the rare class and the ground's attributes.
    """
    config, prompts, prepared = material
    wishes = [Wish("lesson", number, {}, derive(config.seed, "lesson", number)) for number in range(count)]
    planned = procedural.plan(wishes, records(METHOD, material), material)
    row_of, rare = prepared.row_of(), config.dataset.rare_class
    pictures, texts = [], []
    for wish, columns in zip(wishes, planned, strict=True):
        cell = captions.held(prompts, prepared.frame.iloc[row_of[columns["ground"]]])
        pictures.append(procedural.drawn(prepared, row_of, columns, wish.seed))
        texts.append(captions.describe(prompts, wish.number, rare, cell))
    return np.stack(pictures), texts


METHOD = Method(plan, draw, starts_from="common", caveat=procedural.METHOD.caveat)
