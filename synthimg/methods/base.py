"""What a method of making images is, and the table of all methods.

A method is one file of this package with a `METHOD`, or an entry point of the group `synthimg.methods` in another package
(docs/extending.md). This module imports no heavy library, since the configuration reads the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core import extensions
from ..errors import UserError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ..attributes.captions import Prompts
    from ..config import Config
    from ..data.prepared import Prepared
    from .studio import Studio

OWN = ("text", "image", "from_common", "inpaint", "transplant", "procedural", "refined", "controlnet", "edit", "edit_rare")
"""The methods of this package, in the order in which their images are planned. Those of other packages follow by name."""
GROUP = "synthimg.methods"

Columns = dict[str, Any]
"""Some columns of a row of the plan."""


class Wish(NamedTuple):
    """One image that a method is asked for."""

    method: str
    number: int
    """Which of the method's images it is, from 0."""
    cell: dict[str, str]
    """The category asked for of each attribute that is varied."""
    seed: int


class Material(NamedTuple):
    """What a plan is made from."""

    config: Config
    prompts: Prompts
    prepared: Prepared


@dataclass(frozen=True)
class Method:
    """A way to make images.

    Attributes:
        plan: (wishes, pool, material) -> the method's own columns for each wish, in the same order. `pool` has the records
            that the method may start from (see `starts_from`). Columns that are not given keep their defaults. The count
            of real images that were tried for a row and do not serve goes into the column `passed_over`.
        draw: (batch, studio) -> the pictures of some planned rows, uint8 [N, R, R, 3]. The rows of a batch have one
            `strength`. Each picture must follow from its own row.
        starts_from: whether the method starts from training images of the rare class, of the other classes ("common"), or
            from none.
        needs: what the configuration must have: `dataset.mask`, `finetune.controlnet` or `finetune.edits`.
        takes_rare: whether it takes something from rare training images, as a transplant takes their objects, though it does
            not start from them.
        composed: whether the pictures are made without the fine-tuned model. The filter does not ask of them to look like
            the rare class, and a run with such methods alone trains nothing.
        source_type: IPTC's term for the pictures (http://cv.iptc.org/newscodes/digitalsourcetype/).
        caveat: what the report says about quality scores of such pictures.
    """

    plan: Callable[[list[Wish], pd.DataFrame, Material], list[Columns]]
    draw: Callable[[pd.DataFrame, Studio], NDArray[np.uint8]]
    starts_from: Literal["nothing", "rare", "common"] = "nothing"
    needs: Literal["nothing", "masks", "controlnet", "edits"] = "nothing"
    takes_rare: bool = False
    composed: bool = False
    source_type: str = "trainedAlgorithmicMedia"
    caveat: str = ""

    @property
    def needs_rare(self) -> bool:
        """Whether it makes nothing without real rare training images."""
        return self.takes_rare or self.starts_from == "rare"


def find(name: str) -> Method:
    """A method by its name.

    Raises:
        UserError: there is no such method, or another package's cannot be used.
    """
    if name in OWN:
        found = import_module(f".{name}", __package__).METHOD
    else:
        found = extensions.load(GROUP, name)
        if found is None:
            there = [*OWN, *extensions.names(GROUP)]
            raise UserError(f"no method '{name}'{did_you_mean(name, there)}; there are: {', '.join(there)}")
    if not isinstance(found, Method):
        raise UserError(f"entry point '{name}' of {GROUP}: expected a synthimg.methods.base.Method, found {found!r}")
    return found


def ordered(names: Iterable[str]) -> list[str]:
    """Names of methods in the order of the table, each once."""
    given = set(names)
    return [name for name in OWN if name in given] + sorted(given - set(OWN))


def used(weights: dict[str, float]) -> dict[str, float]:
    """The methods with a weight above 0, in the order of their table: what means the same has the same digest.

    Raises:
        ValueError: a method that there is not, or no weight above 0.
    """
    for name in weights:
        try:
            find(name)
        except UserError as error:
            raise ValueError(str(error)) from error
    if not any(weights.values()):
        raise ValueError("at least one weight must be above 0")
    return {name: weights[name] for name in ordered(weights) if weights[name] > 0}


def composed(names: Iterable[str]) -> set[str]:
    """Those of some methods that make pictures without a model."""
    return {name for name in set(names) if find(name).composed}


def code_from_outside(names: Iterable[str]) -> dict[str, Path]:
    """The files of those methods that are other packages'."""
    return extensions.sources_of(GROUP, [name for name in names if name not in OWN])
