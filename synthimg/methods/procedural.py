"""Drawn defects on real photographs of other classes: no model, and knowledge that no image brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..config import Defects
from ..errors import UserError
from .base import Columns, Material, Method, Wish
from .starts import by_agreement

if TYPE_CHECKING:
    from .studio import Studio

Factor = NDArray[np.floating[Any]]
VISIBLE = 16
"""Grey levels by which a defect must change some pixel: what cannot be seen on its ground would be a wrong label."""
TRIES = 100


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """Which real image (`ground`) bears the defects, and of which kind they are.

    A ground on which no defect shows is passed over, and the next one is tried.

    Raises:
        UserError: a defect shows on no ground at all.
    """
    defects, pixels, row_of = material.config.generate.defects, material.prepared.pixels, material.prepared.row_of()

    def columns(wish: Wish) -> Columns:
        for tried, ground in enumerate(by_agreement(pool, wish)):
            if damaged(pixels[row_of[ground]], defects, wish.seed) is not None:
                return {"ground": ground, "defects": defects, "passed_over": tried}
        raise UserError(
            f"generate.methods.procedural: no defect shows on any of the {len(pool)} training images of other classes, "
            f"say on {pool['path'].iloc[0]}; they are too dark or too bright"
        )

    return [columns(wish) for wish in tqdm(wishes, desc="plan procedural defects", unit="image")]


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row."""
    grounds = zip(studio.pixels(batch["ground"]), batch["defects"], batch["seed"], strict=True)
    pictures = [damaged(ground, defects, seed) for ground, defects, seed in grounds]
    return np.stack([picture for picture in pictures if picture is not None])  # all: the plan has tried them


def damaged(ground: NDArray[np.uint8], defects: Defects, seed: int) -> NDArray[np.uint8] | None:
    """A photograph [R, R, 3] with random defects: its colours times the defects' factors.

    Args:
        defects: `panel`: cracks, dead areas and dark spots of a solar cell; `surface`: scratches, spots or a stain.

    Returns:
        None where none of TRIES draws shows on it, as on a black ground.
    """
    if ground.max() < VISIBLE:  # factors lie between 0 and 2, so no pixel can change by more than it has
        return None
    for factor in islice(FACTORS[defects](ground, seed), TRIES):  # some surfaces are intact, some cracks faint
        picture = np.clip(np.round(ground * factor[:, :, None]), 0, 255).astype(np.uint8)
        if np.abs(picture.astype(int) - ground).max() >= VISIBLE:
            return picture
    return None


def _of_cell(ground: NDArray[np.uint8], seed: int) -> Iterator[Factor]:
    """Factors [R, R] of a solar cell's defects without end: between the busbars that the photograph shows, else three."""
    from ..scenes import cell  # loads torch, which takes seconds

    random, side, grey = np.random.default_rng(seed), len(ground), ground.mean(2)
    rows, columns = cell.busbars(grey), cell.busbars(grey.T)
    bars = max(rows, columns, key=len) or [side // 6, side // 2, 5 * side // 6]
    while True:
        factor, _ = cell.shadow(cell.sample(random), side, bars)
        yield factor.T if len(columns) > len(rows) else factor


def _of_surface(ground: NDArray[np.uint8], seed: int) -> Iterator[Factor]:
    """Factors [R, R] of the marks of random surfaces without end."""
    import torch

    from .. import scenes

    generator = torch.Generator().manual_seed(seed)
    while True:
        factor, _ = scenes.defects(scenes.sample(1, generator, ("surface",)), len(ground))
        yield factor[0, 0].numpy()


FACTORS: dict[Defects, Callable[[NDArray[np.uint8], int], Iterator[Factor]]] = {"panel": _of_cell, "surface": _of_surface}


METHOD = Method(
    plan, draw, starts_from="common", composed=True,
    source_type="compositeSynthetic",  # a capture together with what was computed
    caveat="Procedural defects lie on real images of other classes: what the scores find is mostly these.",
)  # fmt: skip
