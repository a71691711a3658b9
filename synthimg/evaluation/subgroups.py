"""The section `subgroups` of metrics.json: from the tested images and every arm's outcome to recall by their attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..config import Config
from ..errors import UserError, did_you_mean
from ..metrics.comparison import Outcome, Test, above, at_specificity
from ..metrics.prevalence import shown
from ..metrics.subgroups import Hits, by_subgroup

MOST_CATEGORIES = 40
"""A column with more values is a number or a name rather than an attribute; it is reported only in a pair."""


def check_pairs(config: Config, known: Iterable[str]) -> None:
    """Refuse pairs of `evaluate.subgroups` that nothing is known about.

    Args:
        known: names of attributes, with or without the prefix `attribute.`.

    Raises:
        UserError: a name that is not among them, or the same name twice.
    """
    names = [name.removeprefix("attribute.") for name in known]
    for one, other in config.evaluate.subgroups:
        if one == other:
            raise UserError(f"evaluate.subgroups: [{one}, {other}]: expected two different attributes")
        for name in {one, other}.difference(names):
            there = ", ".join(names) or "none"
            raise UserError(f"evaluate.subgroups: no attribute '{name}'{did_you_mean(name, names)}; there are: {there}")


def subgrouped(
    config: Config, tested: pd.DataFrame, judged: Mapping[str, Outcome], test: Test, recall: Mapping[str, Any]
) -> dict[str, Any]:
    """The section `subgroups`: at each arm's own thresholds, and at equal specificity.

    Args:
        tested: the records of the test images, in the order of the outcomes: `group` and `attribute.<name>`.
        judged: each arm's outcome on them.
        recall: the section `recall`, which names the best control of each of the two comparisons.

    Raises:
        UserError: a pair of `evaluate.subgroups` names an attribute that is not there.
    """
    attributes = [column for column in tested if column.startswith("attribute.")]
    check_pairs(config, attributes)
    rare = tested.iloc[test.rare_rows]
    held = {column.removeprefix("attribute."): rare[column].to_numpy(str) for column in attributes}
    single = [(name,) for name, values in held.items() if len(set(values)) <= MOST_CATEGORIES]
    asked: list[tuple[str, ...]] = [*single, *config.evaluate.subgroups]

    def table(control: str | None, arms: Mapping[str, Outcome]) -> dict[str, Any]:
        found = {arm: _found(outcome, test) for arm, outcome in shown(arms, control).items()}
        hits = Hits(control, found, rare["group"].to_numpy(str))
        settings = config.evaluate.bootstrap, config.seed
        return {
            "best_control": control,
            "partitions": [by_subgroup(hits, {name: held[name] for name in names}, *settings) for names in asked],
        }

    exact = {arm: at_specificity(outcome, test, config.evaluate.specificity) for arm, outcome in judged.items()}
    matched = (recall["matched"] or recall)["best_control"]
    return {"at_thresholds": table(recall["best_control"], judged), "at_equal_specificity": table(matched, exact)}


def _found(outcome: Outcome, test: Test) -> np.ndarray:
    """[R]: share of the seeds that find each rare image."""
    shares: np.ndarray = above(outcome)[:, test.rare_rows].mean(axis=0)
    return shares
