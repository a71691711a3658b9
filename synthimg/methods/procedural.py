"""Drawn defects on real photographs of other classes: no model, and knowledge that no image brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..config import Defects
from ..core.seeds import derive
from ..errors import UserError
from .base import Columns, Material, Method, Wish
from .measuring import Measures, distance, measures
from .starts import by_agreement, with_object

if TYPE_CHECKING:
    from ..data.prepared import Prepared
    from .studio import Studio

Factor = NDArray[np.floating[Any]]
VISIBLE = 16
"""Grey levels by which a defect must change some pixel: what cannot be seen on its ground would be a wrong label."""
TRIES = 100
CHOICE = 16
"""Drawings of which the one is taken that is most like a real defect, where masks show what these are like."""


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """Which real image (`ground`) bears the defects, of which kind they are, and which real defect they are to be `like`.

    A ground on which no defect shows is passed over, and the next one is tried. Without masks of rare training images the
    defects are like none.

    Raises:
        UserError: a defect shows on no ground at all.
    """
    defects, pixels, row_of = material.config.generate.defects, material.prepared.pixels, material.prepared.row_of()
    real = masked_rare(material)

    def columns(wish: Wish) -> Columns:
        for tried, ground in enumerate(by_agreement(pool, wish)):
            if damaged(pixels[row_of[ground]], defects, wish.seed) is not None:
                like = real[wish.number % len(real)] if real else ""
                return {"ground": ground, "defects": defects, "like": like, "passed_over": tried}
        raise UserError(
            f"generate.methods.procedural: no defect shows on any of the {len(pool)} training images of other classes, "
            f"say on {pool['path'].iloc[0]}; they are too dark or too bright"
        )

    return [columns(wish) for wish in tqdm(wishes, desc="plan procedural defects", unit="image")]


def masked_rare(material: Material) -> list[str]:
    """Ids of the rare training images whose masks show an object, in an order that the seed draws."""
    frame = material.prepared.frame
    rare = frame[(frame["split"] == "train") & (frame["label"] == material.config.dataset.rare_class)]
    ids = with_object(rare, material.prepared)["id"].to_numpy()
    return [str(name) for name in np.random.default_rng(derive(material.config.seed, "like")).permutation(ids)]


def draw(batch: pd.DataFrame, studio: Studio) -> NDArray[np.uint8]:
    """One picture [R, R, 3] per row."""
    row_of = studio.prepared.row_of()
    return np.stack([drawn(studio.prepared, row_of, planned, planned["seed"]) for planned in batch.to_dict("records")])


def drawn(prepared: Prepared, row_of: dict[str, int], planned: Mapping[Any, Any], seed: int) -> NDArray[np.uint8]:
    """The picture [R, R, 3] of what `plan` gave for a wish of this seed."""
    like = None
    if planned["like"]:
        assert prepared.masks is not None  # else the plan names no image
        row = row_of[planned["like"]]
        like = measures(prepared.pixels[row], prepared.masks[row] > 0)
    picture = damaged(prepared.pixels[row_of[planned["ground"]]], planned["defects"], seed, like)
    assert picture is not None  # the plan has tried it
    return picture


def damaged(
    ground: NDArray[np.uint8], defects: Defects, seed: int, like: Measures | None = None
) -> NDArray[np.uint8] | None:
    """A photograph [R, R, 3] with random defects: its colours times the defects' factors.

    Args:
        defects: `panel`: cracks, dead areas and dark spots of a solar cell; `surface`: scratches, spots or a stain.
        like: of `CHOICE` drawings the one is taken that measures nearest to this.

    Returns:
        None where none of TRIES draws shows on it, as on a black ground.
    """
    shown = list(islice(_shown(ground, defects, seed), 1 if like is None else CHOICE))
    if like is None or not shown:
        return shown[0] if shown else None
    return min(shown, key=lambda picture: distance(measures(picture, _changed(picture, ground)), like))


def _shown(ground: NDArray[np.uint8], defects: Defects, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Drawings on a photograph that change some pixel visibly."""
    if ground.max() < VISIBLE:  # factors lie between 0 and 2, so no pixel can change by more than it has
        return
    for factor in islice(FACTORS[defects](ground, seed), TRIES):  # some surfaces are intact, some cracks faint
        picture = np.clip(np.round(ground * factor[:, :, None]), 0, 255).astype(np.uint8)
        if _changed(picture, ground).any():
            yield picture


def _changed(picture: NDArray[np.uint8], ground: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the defect is seen: bool [R, R]."""
    return np.abs(picture.astype(int) - ground).max(2) >= VISIBLE


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
