"""What a scene is made of, and how scenes are drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

KINDS = ("panel", "skin", "surface")
VALUES = {
    "light": ("dim", "even", "bright"),
    "texture": ("smooth", "mottled", "rough"),
    "tone": ("very light", "light", "medium", "dark"),
    "colour": ("grey", "brown", "red", "blue", "green", "purple", "pink", "yellow"),
    "size": ("small", "medium", "large"),
    "border": ("sharp", "soft"),
    "place": ("centre", "left", "right", "top", "bottom"),
    "mark": ("intact", "scratched", "spotted", "stained"),
    "count": ("no", "one", "two", "three", "four"),
    "area": ("live", "dead"),
}
"""The words of each attribute, in the order of their numbers."""
NAMES = {
    "panel": ("light", "texture", "count", "area"),
    "skin": ("light", "texture", "tone", "colour", "size", "border", "place"),
    "surface": ("light", "texture", "colour", "mark", "count", "size", "border", "place"),
}
"""The attributes each kind has."""
OF_STAIN = ("size", "border", "place")
"""Those that a surface has only if it is stained."""
INTACT, SCRATCHED, SPOTTED, STAINED = range(4)
MARK_COUNT = [(INTACT, 0), *((SCRATCHED, k) for k in range(1, 5)), *((SPOTTED, k) for k in range(1, 5)), (STAINED, 1)]
SIZE_PLACE = [*((size, place) for size in (0, 1) for place in range(5)), (2, 0)]
"""The pairs that can be drawn: what is large lies in the centre."""
LAST = 4
"""The most cracks, scratches or spots."""
RADIUS = torch.tensor([0.11, 0.21, 0.35])
CENTRES = torch.tensor([[0.0, 0.0], [-1, 0], [1, 0], [0, -1], [0, 1]])


@dataclass(frozen=True)
class Scene:
    """Parameters of n scenes. Places lie in [-1, 1], x to the right and y down; a radius is a share of the image's side.

    Attributes:
        kind: index into KINDS, int64 [n].
        light, texture, tone, colour, size, border, place, mark, count, area: index into VALUES, int64 [n].
        radius: of the lesion or stain [n].
        centre: of the lesion or stain [n, 2].
        spots: centres of up to LAST spots; apart from each other [n, LAST, 2].
        lines: end points of up to LAST cracks or scratches; they do not cross [n, LAST, 2, 2].
        style: free numbers in [0, 1) for what no attribute names [n, 32].
        seed: of the noise fields.
    """

    kind: Tensor
    light: Tensor
    texture: Tensor
    tone: Tensor
    colour: Tensor
    size: Tensor
    border: Tensor
    place: Tensor
    mark: Tensor
    count: Tensor
    area: Tensor
    radius: Tensor
    centre: Tensor
    spots: Tensor
    lines: Tensor
    style: Tensor
    seed: int


def sample(n: int, generator: torch.Generator, kinds: tuple[str, ...] = KINDS, **fixed: str) -> Scene:
    """Draw n scenes, kinds and attributes uniform over their values, except those fixed by name, as `tone="dark"`.

    (A dead area is drawn in every fourth panel; with size, place or count the pairs that exist share evenly.)

    Raises:
        UserError: an unknown kind, attribute or value, one that a kind does not have, or values that exclude each other.
    """
    pinned = _check(kinds, fixed)

    def draw(name: str) -> Tensor:
        found = torch.randint(len(VALUES[name]), (n,), generator=generator)
        return torch.full((n,), pinned[name]) if name in pinned else found

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator)

    kind = torch.tensor([KINDS.index(kind) for kind in kinds])[torch.randint(len(kinds), (n,), generator=generator)]
    size, place = _pairs(n, SIZE_PLACE, ("size", "place"), pinned, generator)
    cracks = draw("count")
    mark, marks = _pairs(n, MARK_COUNT, ("mark", "count"), pinned if "surface" in kinds else {}, generator)
    radius = RADIUS[size] * (0.9 + 0.2 * uniform())
    reach = (0.9 - 2 * radius).clamp(min=0)[:, None]
    return Scene(
        kind=kind,
        light=draw("light"),
        texture=draw("texture"),
        tone=draw("tone"),
        colour=draw("colour"),
        size=size,
        border=draw("border"),
        place=place,
        mark=mark,
        count=torch.where(kind == KINDS.index("surface"), marks, cracks),
        area=draw("area") if "area" in pinned else (uniform() < 0.25).long(),
        radius=radius,
        centre=CENTRES[place] * reach * (0.8 + 0.2 * uniform(1)) + 0.1 * (uniform(2) - 0.5),
        spots=_spots(n, generator),
        lines=_lines(n, generator),
        style=uniform(32),
        seed=int(torch.randint(2**31, (1,), generator=generator)),
    )


def each(scene: Scene, change: Callable[[Tensor], Tensor]) -> Scene:
    """The scene with every tensor changed alike. (Noise belongs to the batch: chosen rows look a little different alone.)"""
    fields: dict[str, Any] = {name: change(value) for name, value in vars(scene).items() if isinstance(value, Tensor)}
    return replace(scene, **fields)


def _check(kinds: tuple[str, ...], fixed: dict[str, str]) -> dict[str, int]:
    """The fixed attributes as numbers."""
    if not kinds or set(kinds) - set(KINDS):
        raise UserError(f"scene kinds {', '.join(kinds) or 'none'}: expected some of {', '.join(KINDS)}")
    for name, word in fixed.items():
        if name not in VALUES:
            raise UserError(f"scene attribute '{name}': unknown; known are {', '.join(VALUES)}")
        if word not in VALUES[name]:
            raise UserError(f"scene attribute {name} '{word}': unknown; known are {', '.join(VALUES[name])}")
        for kind in kinds:
            if name not in NAMES[kind]:
                raise UserError(f"scene attribute {name}: a {kind} has none")
            if kind == "surface" and name in OF_STAIN and fixed.get("mark") != "stained":
                raise UserError(f"scene attribute {name}: a surface has one with mark 'stained' only")
    return {name: VALUES[name].index(word) for name, word in fixed.items()}


def _pairs(
    n: int, pairs: list[tuple[int, int]], names: tuple[str, str], pinned: dict[str, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Two attributes of which not all pairs exist: the first uniform, the second uniform given the first."""
    left = [pair for pair in pairs if all(pinned.get(name, value) == value for name, value in zip(names, pair, strict=True))]
    if not left:
        words = " and ".join(f"{name} '{VALUES[name][pinned[name]]}'" for name in names)
        raise UserError(f"scene attributes {words}: exclude each other")
    firsts = [first for first, _ in left]
    weight = torch.tensor([1 / firsts.count(first) for first in firsts])
    chosen = torch.tensor(left)[torch.multinomial(weight, n, replacement=True, generator=generator)]
    return chosen[:, 0], chosen[:, 1]


def _spots(n: int, generator: torch.Generator) -> Tensor:
    """Different cells of a 3 x 3 grid, a little off their middles."""
    cell = torch.rand(n, 9, generator=generator).argsort(1)[:, :LAST]
    grid = torch.stack([cell % 3, cell // 3], -1) * 0.6 - 0.6
    return grid + 0.24 * (torch.rand(n, LAST, 2, generator=generator) - 0.5)


def _lines(n: int, generator: torch.Generator) -> Tensor:
    """Nearly parallel lines in different ones of five lanes: they run as cracks do, and can be counted."""

    def spread(width: float) -> Tensor:
        return width * (2 * torch.rand(n, LAST, generator=generator) - 1)

    common = torch.rand(n, 1, generator=generator) * torch.pi
    lane = torch.rand(n, 5, generator=generator).argsort(1)[:, :LAST] * 0.36 - 0.72 + spread(0.05)
    middle = torch.stack([-lane * common.sin(), lane * common.cos()], -1)
    angle = common + spread(0.12)
    along = torch.stack([angle.cos(), angle.sin()], -1)
    middle = middle + spread(0.15)[..., None] * along
    half = (0.55 + spread(0.25))[..., None] * along
    return torch.stack([middle - half, middle + half], 2)
