"""Which synthetic images a change in recall comes from: fewer of them, and all but those of one kind.

Descriptive: it is read off the test images when the verdict's own numbers stand, and nothing is chosen by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from ..core.seeds import derive
from ..metrics.comparison import Outcome, Test, gain
from .choice import used_images
from .judged import Judged

GROWING, WITHOUT, EQUALS = "size ", "without ", " = "


class Portion(NamedTuple):
    """Some of the accepted images."""

    name: str
    """The same in every part of a run."""
    ids: list[str]


def portions_of(made: pd.DataFrame, rare: int, seed: int) -> list[Portion]:
    """The portions of one part's accepted images.

    Args:
        made: the plan's rows of the accepted images.
        rare: real training images of the rare class, of which the first random part has half as many.
    """
    sizes = [Portion(f"{GROWING}{number}", ids) for number, ids in enumerate(growing(made, rare, seed))]
    return sizes + [Portion(f"{WITHOUT}{part.what}{EQUALS}{part.value}", part.ids) for part in without_kinds(made)]


def measure_portions(
    parts: Sequence[Judged], full: Outcome, control: Outcome, outcomes: Mapping[str, Outcome], test: Test
) -> dict[str, Any]:
    """The section `portions` of metrics.json; counts are means over the parts of the run.

    Args:
        full: the synthetic arm with all of them; `control`: the best control.
        outcomes: the synthetic arm with each portion that all parts of the run have.
    """
    rare, accepted = fmean([len(part.rare("train")) for part in parts]), fmean([len(used_images(part)) for part in parts])
    sizes: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    held = [{portion.name: len(portion.ids) for portion in _again(part)} for part in parts]
    for name, outcome in outcomes.items():
        count = fmean([counts[name] for counts in held])
        if name.startswith(GROWING):
            sizes.append({"ratio": count / rare, "synthetic": round(count), "gain": _gain(outcome, control, test, parts)})
        else:
            what, _, value = name.removeprefix(WITHOUT).partition(EQUALS)
            change = _gain(full, outcome, test, parts)
            without.append({"what": what, "value": value, "left_out": round(accepted - count), "change": change})
    if rare:
        sizes.append({"ratio": accepted / rare, "synthetic": round(accepted), "gain": _gain(full, control, test, parts)})
    return {"sizes": sizes, "knee": knee(sizes) if sizes else None, "without": without}


def _again(part: Judged) -> list[Portion]:
    return portions_of(used_images(part), len(part.rare("train")), part.config.seed)


def _gain(ours: Outcome, theirs: Outcome, test: Test, parts: Sequence[Judged]) -> dict[str, Any]:
    """The change in recall; McNemar's test only where one classifier was trained on one part."""
    found = gain(ours, theirs, test)
    return found if len(parts) == 1 else found | {"p": None}


def growing(made: pd.DataFrame, rare: int, seed: int) -> Iterator[list[str]]:
    """Nested random parts of the images: half as many as real rare ones, as many, twice as many, ... but not all.

    Without real rare images there is nothing to count by, and none is given.
    """
    ids = sorted(made["id"], key=lambda name: derive(seed, "portion", name))
    count = max(1, rare // 2) if rare else len(ids)
    while count < len(ids):
        yield ids[:count]
        count *= 2


class WithoutKind(NamedTuple):
    """The accepted images without those of one kind."""

    what: str
    """`method`, or an attribute."""
    value: str
    ids: list[str]


def without_kinds(made: pd.DataFrame) -> list[WithoutKind]:
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
