"""The object of a rare training image in the place of a common one's, by their masks and without any model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..core.seeds import derive
from . import donors
from .base import Columns, Material, Method, Wish
from .pasting import transplanted
from .starts import nearest

if TYPE_CHECKING:
    from .studio import Studio


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """Recipient (`ground`), donor (`source`) and the factor on the lengths of its object (`scale`).

    The recipient is chosen by the attributes asked for, since tone and light are its own; the donor by its size.

    Raises:
        UserError: no rare training image has an object to give.
    """
    config, prompts, prepared = material
    sizes = donors.sizes_of(prompts, config.generate.axes)
    described = prepared._replace(frame=donors.with_objects(prepared, sizes))
    choose = donors.chooser(described, sizes, config.dataset.rare_class, config.seed)
    pool = pool[described.frame["takes"].loc[pool.index]]

    def columns(wish: Wish) -> Columns:
        ground = nearest(pool, wish)
        source, scale = choose(ground, wish.seed)
        return {"source": source, "ground": ground, "scale": scale}

    return [columns(wish) for wish in tqdm(wishes, desc="plan transplants", unit="image")]  # trials take time


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row."""
    images = zip(studio.pixels(batch["source"]), studio.masks(batch["source"]), strict=True)
    grounds = zip(studio.pixels(batch["ground"]), studio.masks(batch["ground"]), strict=True)
    how = zip(batch["scale"], batch["seed"], strict=True)
    return np.stack([
        transplanted(*image, *ground, scale, derive(seed, "symmetry") % 8)
        for image, ground, (scale, seed) in zip(images, grounds, how, strict=True)
    ])  # fmt: skip


METHOD = Method(
    plan, draw, starts_from="common", needs="masks", takes_rare=True, composed=True,
    source_type="compositeCapture",  # several captures of real life put together
    caveat="Transplants show the objects of these very real images, so the scores flatter them.",
)  # fmt: skip
