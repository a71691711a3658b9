"""What the report shows and counts of single images: cells of the attribute grid, reasons, near-copies.

Images are taken in the order of their id, which is a digest: a fair draw, the same every time, not a choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..data.prepared import Prepared
from ..evaluation.judged import Judged
from . import charts
from .page import picture

ATTRIBUTE = "attribute."
MAX_CELLS = 12
REAL, ACCEPTED, REJECTED, PAIRS, TURNED = 3, 4, 3, 4, 8
REASONS = {
    "class": "not recognised as the rare class",
    "copy": "too close to a training image",
    "attribute": "measured attributes are not those asked for",
    "duplicate": "too close to another synthetic image",
}


def cells(run: Path, rare: str, data: Prepared, made: pd.DataFrame) -> tuple[list[dict[str, Any]], int]:
    """Real, accepted and rejected pictures for each cell of the attribute grid, and how many cells there are in all.

    Args:
        run: folder of the run's part, with the synthetic images.
        made: plan and decisions joined by id.
    """
    records, pixels = data.frame, data.pixels
    axes = attributes(made)
    train = records[(records.label == rare) & (records.split == "train")].sort_values("id")
    made = made.sort_values("id")
    combinations = sorted(made[axes].drop_duplicates().itertuples(index=False, name=None)) if axes else [()]
    shown = []
    for values in combinations[:MAX_CELLS]:
        real = _matching(train, axes, values)
        here = _matching(made, axes, values)
        taken, left = here[here.accepted], here[~here.accepted]
        shown.append({
            "name": " · ".join(map(str, values)) or rare,
            "counts": {"real": len(real), "accepted": len(taken), "rejected": len(left)},
            "real": [_real(pixels, row) for row in real.head(REAL).itertuples()],
            "accepted": [_made(run, row, "accepted") for row in taken.head(ACCEPTED).itertuples()],
            "rejected": [_made(run, row, "rejected") for row in _one_of_each(left).head(REJECTED).itertuples()],
        })  # fmt: skip
    return shown, len(combinations)


def closest(run: Path, data: Prepared, made: pd.DataFrame) -> list[dict[str, Any]]:
    """The accepted pictures that lie nearest to a training image, beside that image: the reader can judge copying."""
    records, pixels = data.frame, data.pixels
    rows = {row.id: row for row in records.itertuples()}
    near = made[made.accepted & made.nearest.isin(list(rows))].sort_values(["distance", "id"]).head(PAIRS)
    return [
        {
            "made": _made(run, row, "accepted"),
            "real": _real(pixels, rows[row.nearest]),
            "distance": float(row.distance),
            "source": row.nearest in (row.source, row.ground),
        }
        for row in near.itertuples()
    ]


def turned(parts: Sequence[Judged], rare: str, control: str | None) -> dict[str, Any] | None:
    """Rare test images that the control misses and the classifier with synthetic images finds, and the other way round.

    Found is what most seeds and draws put above their thresholds. None without both arms.
    """
    seen = pd.concat([_predictions(part) for part in parts])
    seen = seen[(seen.split == "test") & (seen.label == rare) & seen.arm.isin(["synthetic", control])]
    if seen.arm.nunique() < 2:
        return None
    records, pixels = parts[0].frame, parts[0].data.pixels
    found = (seen.score > seen.threshold).groupby([seen.id, seen.arm]).mean().unstack() > 0.5
    sides = {"gained": found.synthetic & ~found[control], "lost": ~found.synthetic & found[control]}
    result: dict[str, Any] = {"both": int((found.synthetic & found[control]).sum()), "of": len(found)}
    for side, chosen in sides.items():
        here = records[records.id.isin(chosen.index[chosen])].sort_values("id")
        result[side] = {"count": len(here), "images": [_real(pixels, row) for row in here.head(TURNED).itertuples()]}
    return result


def _predictions(part: Judged) -> pd.DataFrame:
    folder = part.classified
    tables = (pd.read_parquet(folder / f"{name}.parquet") for name in ("predictions", "thresholds"))
    return pd.merge(*tables, on=["arm", "seed"], validate="m:1")


def acceptance(made: pd.DataFrame) -> list[dict[str, Any]]:
    """How many pictures were accepted, and how many different real images these start from (a transplant: whose objects they
    show), for each value of each axis, each method and each strength.
    """
    groups = [*attributes(made), *[name for name in ("method", "strength") if made[name].nunique() > 1]]
    return [{"name": name.removeprefix(ATTRIBUTE), "values": _by_value(made, name)} for name in groups]


def started(made: pd.DataFrame) -> pd.Series:
    """The real images that accepted pictures start from, one for each of these pictures."""
    return made.source[made.accepted & (made.source != "")]


def reasons(counts: dict[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "words": REASONS.get(name, name), "count": count} for name, count in counts.items()]


def attributes(made: pd.DataFrame) -> list[str]:
    return [name for name in made.columns if name.startswith(ATTRIBUTE)]


def _by_value(made: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    rows = []
    for value, group in made.groupby(name, dropna=True):
        accepted, planned = int(group.accepted.sum()), len(group)
        title = f"{value}: {accepted} of {planned} accepted"
        bar: Markup = charts.bar([("synthetic", accepted), ("rest", planned - accepted)], title)
        sources = started(group).nunique()
        rows.append({"value": str(value), "accepted": accepted, "planned": planned, "sources": sources, "bar": bar})
    return rows


def _matching(frame: pd.DataFrame, axes: list[str], values: tuple[Any, ...]) -> pd.DataFrame:
    """The rows of one cell; an axis the frame does not have does not restrict it."""
    for axis, value in zip(axes, values, strict=True):
        if axis in frame:
            frame = frame[frame[axis] == value]
    return frame


def _one_of_each(rejected: pd.DataFrame) -> pd.DataFrame:
    """First one picture per reason, then the second of each, and so on: rare reasons are seen too."""
    turn = rejected.groupby("reason").cumcount()
    return rejected.assign(turn=turn).sort_values(["turn", "reason", "id"])


def _real(pixels: np.ndarray, row: Any) -> dict[str, str]:
    return {"uri": picture(np.asarray(pixels[row.Index])), "alt": f"Real image {row.path}: {row.label}", "note": ""}


def _made(run: Path, row: Any, state: str) -> dict[str, str]:
    why = f" ({REASONS.get(row.reason, row.reason)})" if row.reason else ""
    alt = f"Synthetic image {row.id}, {state}{why}. Prompt: {row.prompt}"
    return {"uri": picture(run / "generate" / "images" / f"{row.id}.png"), "alt": alt, "note": row.reason}
