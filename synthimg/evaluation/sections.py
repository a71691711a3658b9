"""The sections of metrics.json beside the comparison itself: counts, quality, compliance, scores from outside."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from ..attributes import captions
from ..config import Config
from ..core import extensions
from ..errors import UserError
from ..metrics.compliance import assess_compliance
from ..metrics.quality import Sides
from ..vision.features import Extractor
from .arms import Arm
from .choice import used_images
from .inputs import real_features, synthetic_features
from .judged import Judged, first_draw
from .names import METRICS

SCORE: TypeAdapter[float | dict[str, float] | None] = TypeAdapter(float | dict[str, float] | None)


def counts(config: Config, parts: Sequence[Judged]) -> dict[str, Any]:
    """The section `n`."""
    held = {
        f"{split}_{side}": _mean([len(_images(part, split, side)) for part in parts])
        for split in ("train", "reserve", "validation") for side in ("rare", "other")
    }  # fmt: skip
    del held["reserve_other"]
    tested = pd.concat([part.tested for part in first_draw(parts)])
    rare = tested[tested["label"] == config.dataset.rare_class]
    decided = pd.concat([part.decided for part in parts])
    rejected = decided.loc[~decided["accepted"], "reason"].value_counts().sort_index()
    return {
        **held, "train_rare_groups": [part.rare("train")["group"].nunique() for part in parts],
        "test_rare": len(rare), "test_other": len(tested) - len(rare), "test_rare_groups": int(rare["group"].nunique()),
        "parts": len(parts), "planned": sum(len(part.planned) for part in parts), "generated": len(decided),
        "accepted": int(decided["accepted"].sum()),
        "rejected": {str(reason): int(number) for reason, number in rejected.items()},
    }  # fmt: skip


def _images(part: Judged, split: str, side: str) -> pd.DataFrame:
    return part.frame[
        (part.frame["split"] == split) & ((part.frame["label"] == part.config.dataset.rare_class) == (side == "rare"))
    ]


def _mean(numbers: Sequence[int]) -> int:
    return round(fmean(numbers))


def trained_on(parts: Sequence[Judged], arm: Arm) -> dict[str, int]:
    """How many different images an arm learns from, a mean over the parts; augmented views do not count."""
    splits = ("train", "reserve") if arm.reserve else ("train",)
    used = [part.frame["split"].isin(splits).sum() for part in parts]
    rare = [len(part.rare(*splits)) for part in parts]
    other = [int(both) - one for both, one in zip(used, rare, strict=True)]
    rare = rare if arm.classified else [0]  # a one-class score alone sees ordinary images only
    synthetic = [len(used_images(part)) if arm.synthetic else 0 for part in parts]
    return {"rare": _mean(rare), "other": _mean(other), "synthetic": _mean(synthetic)}


def sides_of(config: Config, parts: Sequence[Judged], extractor: Extractor) -> Sides:
    """Real rare images and accepted synthetic ones, as scores of quality see them.

    The real ones are those of training and reserve in any fold; the synthetic ones those of the first draw in all folds.
    """
    first = first_draw(parts)
    frame = parts[0].frame
    rows = np.flatnonzero(frame["id"].isin(set().union(*(part.rare("train", "reserve")["id"] for part in first))))
    made = pd.concat([part.accepted for part in first])
    synthetic = [synthetic_features(part.config, list(part.accepted["id"]), extractor) for part in first]
    columns = [column for column in frame if column.startswith("measured.") and column in made]
    return Sides(
        real_features(config, parts[0].data, extractor)[rows],
        frame["group"].to_numpy(str)[rows].tolist(),
        np.concatenate(synthetic),
        {
            column.removeprefix("measured."): (frame[column].to_numpy(float)[rows], made[column].to_numpy(float))
            for column in columns
        },
    )


def followed(parts: Sequence[Judged], prompts: captions.Prompts) -> dict[str, dict[str, dict[str, Any]] | None]:
    """The section `compliance`: each varied attribute by method, before any picture was refused for it."""
    planned, decided = (pd.concat([getattr(part, name) for part in parts]) for name in ("planned", "decided"))
    planned, decided = planned.drop_duplicates("id"), decided.drop_duplicates("id")
    columns = [column for column in planned if column.startswith("attribute.") and (planned[column] != "").any()]
    made = planned[["id", "method", *columns]].merge(decided, on="id", validate="1:1")
    sections: dict[str, dict[str, dict[str, Any]] | None] = {}
    for column in columns:
        name = column.removeprefix("attribute.")
        told, order = made[made[column] != ""], list(prompts.attributes[name].values)
        measured = {
            str(method): assess_compliance(part[column].to_numpy(str), part[f"found.{name}"].to_numpy(str), order)
            for method, part in told.groupby("method", sort=False)
            if f"found.{name}" in made
        }
        sections[name] = measured or None
    return sections


def scored_outside(names: Sequence[str], sides: Sides, seed: int) -> dict[str, float | dict[str, float] | None]:
    """The section `extra`: what the metrics of installed packages say.

    Raises:
        UserError: one cannot be imported, or returns something else than a number, a map of numbers, or None.
    """
    found = {}
    for name in names:
        value = extensions.load(METRICS, name)(sides, seed)
        try:
            found[name] = SCORE.validate_python(value)
        except ValidationError as error:
            raise UserError(
                f"{METRICS}: {name} returned {value!r}, expected a number, a map from text to numbers, or None"
            ) from error
    return found
