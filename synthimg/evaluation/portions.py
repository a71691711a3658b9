"""Which synthetic images a change in recall comes from: fewer of them, and all but those of one kind.

Descriptive: it is read off the test images when the verdict's own numbers stand, and nothing is chosen by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from ..core.seeds import derive
from ..metrics.comparison import Outcome, Test, gain

OutcomeOf = Callable[[list[str]], Outcome]
"""Ids of synthetic images -> what the synthetic arm with these alone does on the test images."""


class WithoutKind(NamedTuple):
    """The accepted images without those of one kind."""

    what: str
    """`method`, or an attribute."""
    value: str
    ids: list[str]


def measure_portions(
    made: pd.DataFrame, rare: int, seed: int, full: Outcome, control: Outcome, test: Test, outcome_of: OutcomeOf
) -> dict[str, Any]:
    """The section `portions` of metrics.json.

    Args:
        made: the plan's rows of the accepted images.
        rare: real training images of the rare class; what a ratio is relative to.
        full: the synthetic arm with all of them; `control`: the best control.
    """
    sizes = [
        {"ratio": len(ids) / rare, "synthetic": len(ids), "gain": gain(outcome_of(ids), control, test)}
        for ids in tqdm(list(growing(made, rare, seed)), desc="fewer images", disable=None)
    ]
    sizes.append({"ratio": len(made) / rare, "synthetic": len(made), "gain": gain(full, control, test)})
    without = [
        {"what": part.what, "value": part.value, "left_out": len(made) - len(part.ids),
         "change": gain(full, outcome_of(part.ids), test)}
        for part in tqdm(parts(made), desc="without one kind", disable=None)
    ]  # fmt: skip
    return {"sizes": sizes, "knee": knee(sizes), "without": without}


def growing(made: pd.DataFrame, rare: int, seed: int) -> Iterator[list[str]]:
    """Nested random parts of the images: half as many as real rare ones, as many, twice as many, ... but not all."""
    ids = sorted(made["id"], key=lambda name: derive(seed, "portion", name))
    count = max(1, rare // 2)
    while count < len(ids):
        yield ids[:count]
        count *= 2


def parts(made: pd.DataFrame) -> list[WithoutKind]:
    """All but the images of one method or one value of an attribute; none where there is only one."""
    columns = ["method", *(column for column in made if column.startswith("attribute."))]
    return [
        WithoutKind(column.removeprefix("attribute."), str(value), list(made.loc[made[column] != value, "id"]))
        for column in columns
        if made[column].nunique() > 1
        for value in made[column].unique()
        if value
    ]


def knee(sizes: list[dict[str, Any]]) -> float | None:
    """The least ratio whose gain is within one standard error of the best (Breiman et al., 1984); None where no synthetic
    image at all, a gain of 0, is so too.
    """
    best = max((size["gain"] for size in sizes), key=lambda change: change["mean"])
    error = (best["ci95"][1] - best["ci95"][0]) / 3.92
    if best["mean"] - error <= 0:
        return None
    return float(next(size["ratio"] for size in sizes if size["gain"]["mean"] >= best["mean"] - error))
