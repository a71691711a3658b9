"""A real image of another class, turned into the rare class by an instruction (InstructPix2Pix; diffusion/edits.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..attributes import captions
from ..data import conditions
from . import procedural
from .base import Columns, Material, Method, Wish
from .starts import nearest, with_object

if TYPE_CHECKING:
    from .studio import Studio


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """A start image that has most of the attributes asked for, and the instruction towards the rare class.

    Raises:
        UserError: no image has an object, or no defect shows on any, where the configuration limits edits to these.
    """
    config, prompts, _ = material
    settings, rare = config.generate, config.dataset.rare_class
    if settings.region == "mask":
        pool = with_object(pool, material.prepared)
    if settings.region == "drawn":
        starts = [{"source": planned["ground"], **planned} for planned in procedural.plan(wishes, pool, material)]
    else:
        starts = [{"source": nearest(pool, wish)} for wish in wishes]
    texts = [captions.instruction(prompts, wish.number, captions.LABEL, rare, wish.cell) for wish in wishes]
    return [
        {**start, **instructed(material, text), "region": settings.region or ""}
        for start, text in zip(starts, texts, strict=True)
    ]


def instructed(material: Material, text: str) -> Columns:
    """The columns that all edits have. Guidance leads away from the empty text, as in training."""
    settings = material.config.generate
    return {"prompt": text, "negative": "", "image_guidance": settings.image_guidance, "detail": settings.detail}


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row, with the share `detail` of what the autoencoder loses, real outside the region."""
    from ..diffusion import sample  # takes seconds to import

    start, where = studio.pixels(batch["source"]), region(batch, studio)
    images = studio.edit(batch, start, where)
    detail = float(batch["detail"].iloc[0])
    images = sample.add_detail(studio.editor, images, start, detail) if detail else images
    return images if where is None else sample.keep_outside(images, start, where)


def region(batch: pd.DataFrame, studio: Studio) -> NDArray[np.bool_] | None:
    """Where the images of some rows may change, bool [N, R, R]; None: everywhere. The rows have one kind of region."""
    kind = batch["region"].iloc[0]
    if not kind:
        return None
    if kind == "mask":
        inside = studio.masks(batch["source"])
    else:
        inside = (procedural.draw(batch, studio) != studio.pixels(batch["ground"])).any(3)
    return conditions.regions(inside, range(len(batch)))


METHOD = Method(plan, draw, starts_from="common", needs="edits")
