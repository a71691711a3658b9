"""The sections of metrics.json beside the comparison itself: counts, quality, compliance, scores from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from ..attributes import captions
from ..config import Config
from ..core import extensions
from ..data.prepared import Prepared
from ..errors import UserError
from ..metrics.compliance import assess_compliance
from ..metrics.quality import Sides
from ..vision.features import Extractor
from .arms import Arm
from .inputs import rare_features, synthetic_features
from .names import METRICS

SCORE: TypeAdapter[float | dict[str, float] | None] = TypeAdapter(float | dict[str, float] | None)


def counts(config: Config, frame: pd.DataFrame, decided: pd.DataFrame, planned: int) -> dict[str, Any]:
    """The section `n`."""
    is_rare = (frame["label"] == config.dataset.rare_class).to_numpy()
    found = {}
    for split in ("train", "reserve", "validation", "test"):
        inside = (frame["split"] == split).to_numpy()
        found[f"{split}_rare"] = int((inside & is_rare).sum())
        found[f"{split}_other"] = int((inside & ~is_rare).sum())
    del found["reserve_other"]
    tested = frame[(frame["split"] == "test") & is_rare]
    rejected = decided.loc[~decided["accepted"], "reason"].value_counts().sort_index()
    return {
        **found, "test_rare_groups": int(tested["group"].nunique()), "planned": planned, "generated": len(decided),
        "accepted": int(decided["accepted"].sum()),
        "rejected": {str(reason): int(number) for reason, number in rejected.items()},
    }  # fmt: skip


def trained_on(config: Config, frame: pd.DataFrame, arm: Arm, accepted: int) -> dict[str, int]:
    """How many different images an arm learns from (augmented views are not images of their own)."""
    used = frame[frame["split"].isin(["train", "reserve"] if arm.reserve else ["train"])]
    found = int((used["label"] == config.dataset.rare_class).sum())
    return {"rare": found, "other": len(used) - found, "synthetic": accepted if arm.synthetic else 0}


def sides_of(config: Config, data: Prepared, made: pd.DataFrame, extractor: Extractor) -> Sides:
    """Real rare training and reserve images, and accepted synthetic ones, as scores of quality see them.

    Args:
        made: rows of the accepted images, as `generated.accepted` gives them.
    """
    frame = data.frame
    rows, real = rare_features(config, data, extractor)
    columns = [column for column in frame if column.startswith("measured.") and column in made]
    return Sides(
        real,
        frame["group"].to_numpy(str)[rows].tolist(),
        synthetic_features(config, list(made["id"]), extractor),
        {
            column.removeprefix("measured."): (frame[column].to_numpy(float)[rows], made[column].to_numpy(float))
            for column in columns
        },
    )


def followed(
    planned: pd.DataFrame, decided: pd.DataFrame, prompts: captions.Prompts
) -> dict[str, dict[str, dict[str, Any]] | None]:
    """The section `compliance`: each varied attribute by method, before any picture was refused for it."""
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
