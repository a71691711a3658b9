"""The same scene twice with one attribute changed: exact pairs, since both share all noise.

    before, after = pairs(16, torch.Generator().manual_seed(0), "size", "skin")

Both scenes of a pair must be rendered whole: the noise belongs to the batch (see `parameters.each`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .parameters import INTACT, KINDS, LAST, NAMES, RADIUS, SCRATCHED, SPOTTED, STAINED, VALUES, Scene, sample

EDITS = (
    ("defect", "panel"), ("defect", "surface"), ("size", "skin"), ("size", "surface"), ("tone", "skin"),
    *(("light", kind) for kind in KINDS), *(("texture", kind) for kind in KINDS),
)  # fmt: skip
"""What can be changed in which kind."""
CRACKED = 0.75
"""Share of cracks among the defects of panels; the others are dead areas."""


def pairs(n: int, generator: torch.Generator, name: str, kind: str) -> tuple[Scene, Scene]:
    """Draw n scenes of a kind, before and after a change of one attribute. The change goes either way alike.

    Args:
        name: `defect` (there is none, or there is one), `size` (of a lesion or stain), `tone`, `light` or `texture`.

    Raises:
        UserError: the kind has no such attribute.
    """
    if (name, kind) not in EDITS:
        raise UserError(f"scene edit {name}: a {kind} has none; there are {', '.join(map(' of '.join, EDITS))}")
    draw = {"defect": _defect, "size": _size}.get(name, _other)
    first, second = draw(n, generator, name, kind)
    back = torch.rand(n, generator=generator) < 0.5
    return _where(back, second, first), _where(back, first, second)


def state(truth: dict[str, str]) -> str:
    """The state of a panel or surface, as the labels of prompts/scenes.yaml name it."""
    if truth["kind"] == "panel":
        return "cracked" if truth["count"] != "no" else "dead" if truth["area"] == "dead" else "intact"
    return truth["mark"]


def _defect(n: int, generator: torch.Generator, _: str, kind: str) -> tuple[Scene, Scene]:
    number = torch.randint(1, LAST + 1, (n,), generator=generator)
    if kind == "panel":
        intact = sample(n, generator, (kind,), count="no", area="live")
        cracked = torch.rand(n, generator=generator) < CRACKED
        return intact, replace(intact, count=number * cracked, area=(~cracked).long())
    intact = sample(n, generator, (kind,), mark=VALUES["mark"][INTACT])
    mark = torch.tensor([SCRATCHED, SPOTTED, STAINED])[torch.randint(3, (n,), generator=generator)]
    return intact, replace(intact, mark=mark, count=torch.where(mark == STAINED, 1, number))


def _size(n: int, generator: torch.Generator, _: str, kind: str) -> tuple[Scene, Scene]:
    """Smaller and larger. Where the larger one has room, the smaller one has, too."""
    words, of_stain = VALUES["size"], {"mark": VALUES["mark"][STAINED]} if kind == "surface" else {}
    size = int(torch.randint(1, len(words), (), generator=generator))
    larger = sample(n, generator, (kind,), size=words[size], **of_stain)
    less = torch.randint(size, (n,), generator=generator)
    return replace(larger, size=less, radius=larger.radius / RADIUS[size] * RADIUS[less]), larger


def _other(n: int, generator: torch.Generator, name: str, kind: str) -> tuple[Scene, Scene]:
    """An attribute that stands for itself alone, with two different values."""
    assert name in NAMES[kind]
    first, count = sample(n, generator, (kind,)), len(VALUES[name])
    further = torch.randint(1, count, (n,), generator=generator)
    changed: dict[str, Any] = {name: (getattr(first, name) + further) % count}
    return first, replace(first, **changed)


def _where(rows: Tensor, one: Scene, other: Scene) -> Scene:
    """The rows of one scene where `rows` is true, else those of the other."""

    def mixed(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.view(-1, *[1] * (a.dim() - 1)), a, b)

    fields: dict[str, Any] = {
        name: mixed(value, getattr(other, name)) for name, value in vars(one).items() if isinstance(value, Tensor)
    }
    return replace(one, **fields)
