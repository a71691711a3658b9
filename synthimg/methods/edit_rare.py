"""A real image of the rare class, with another value of one attribute by an instruction (InstructPix2Pix)."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ..attributes import captions
from ..errors import UserError
from .base import Columns, Material, Method, Wish
from .edit import draw, instructed
from .starts import by_agreement


def plan(wishes: list[Wish], pool: pd.DataFrame, material: Material) -> list[Columns]:
    """A start image with most of the attributes asked for, but another value of one, and the instruction towards that.

    Where the image lacks further attributes that were asked for, the plan tells those that it has.

    Raises:
        UserError: there is no instruction by which an image could get nearer to what is asked for.
    """
    label = material.config.dataset.rare_class
    held = {str(record["id"]): record for record in pool.to_dict("records")}

    def columns(wish: Wish) -> Columns:
        for source in by_agreement(pool, wish):
            own = {name: str(held[source][f"attribute.{name}"]) for name in material.prompts.attributes}
            for name, value in _possible(material, wish, own):
                text = captions.instruction(material.prompts, wish.number, name, value, own, label)
                told = {f"attribute.{axis}": value if axis == name else own[axis] for axis in wish.cell}
                return {"source": source, **instructed(material, text), **told}
        raise UserError(
            "generate.methods.edit_rare: no rare training image can be given another value of an attribute; the prompts "
            "file needs instructions under `edits` for an attribute in which the images differ from what is asked for"
        )

    return [columns(wish) for wish in wishes]


def _possible(material: Material, wish: Wish, own: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The attributes and values that an instruction can ask for, and that the image does not have."""
    for name, value in wish.cell.items():
        if own[name] != value and captions.wordings(material.prompts, name, value):
            yield name, value


METHOD = Method(plan, draw, starts_from="rare", needs="edits")
