"""What recall and specificity mean in the field, where the rare class is rare: precision, and false alarms per find.

With prevalence p, recall * p of all images are finds and (1 - specificity) * (1 - p) are false alarms (Bayes' rule). A test
set holds far more rare images than the field does, so the precision on it says nothing about the field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from .comparison import Outcome, Test, curve

STRICT = (0.99, 0.999)
"""Specificities of use where the class is rare, beside the one that is asked for."""
LEAST_FALSE_ALARMS = 5
"""Expected among the ordinary test images at a specificity, for anything to be said about it: fewer, and a threshold there
rests on a handful of images. So 0.99 takes 500 ordinary images, 0.999 takes 5000."""


def precision(recall: float, specificity: float, prevalence: float) -> float | None:
    """Share of finds among all alarms, also called positive predictive value; None where there is no alarm."""
    finds, false = recall * prevalence, (1 - specificity) * (1 - prevalence)
    return finds / (finds + false) if finds + false > 0 else None


def false_alarms_per_find(recall: float, specificity: float, prevalence: float) -> float | None:
    """How many ordinary images raise an alarm for each rare one that is found; None where none is found."""
    return (1 - specificity) * (1 - prevalence) / (recall * prevalence) if recall > 0 else None


def least_ordinary(specificity: float) -> int:
    """How many ordinary test images it takes to say anything about a specificity. Counted in exact fractions."""
    return math.ceil(LEAST_FALSE_ALARMS / (1 - Fraction(str(specificity))))


def in_the_field(
    arms: Mapping[str, Outcome], test: Test, recall: Mapping[str, Any], prevalence: float | None
) -> dict[str, Any]:  # fmt: skip
    """The section `prevalence` of metrics.json.

    Args:
        recall: the section `recall`: its specificity, best controls, and figures at the thresholds of validation.
        prevalence: share of the rare class in the field, above 0 and below 1; None: recall alone.
    """
    wanted, ordinary = recall["specificity"], len(test.other_rows)
    control, matched = recall["best_control"], (recall["matched"] or recall)["best_control"]
    found = [("validation", wanted, control, _set_on_validation(shown(arms, control), recall, prevalence))]
    for level in sorted({wanted, *STRICT}):
        found.append(("test", level, matched, _set_on_test(shown(arms, matched), test, level, prevalence)))
    rows = [
        {"thresholds": thresholds, "specificity": level, "best_control": best,
         "arms": results if ordinary >= least_ordinary(level) else None}
        for thresholds, level, best, results in found
    ]  # fmt: skip
    return {"prevalence": prevalence, "ordinary": ordinary, "rows": rows}


def shown(arms: Mapping[str, Outcome], control: str | None) -> dict[str, Outcome]:
    """The arms of interest: a control, `synthetic` and `oracle`, as far as they are there."""
    return {name: arms[name] for name in (control, "synthetic", "oracle") if name is not None and name in arms}


def _set_on_validation(arms: Mapping[str, Outcome], recall: Mapping[str, Any], prevalence: float | None) -> dict[str, Any]:
    found = {name: recall["arms"][name] for name in arms}
    return {
        name: _meaning(arm["recall_at_specificity"], arm["specificity_at_threshold"]["mean"], prevalence)
        for name, arm in found.items()
    }


def _set_on_test(arms: Mapping[str, Outcome], test: Test, level: float, prevalence: float | None) -> dict[str, Any]:
    """The thresholds let no more false alarms pass than the level allows, so it is the level that these are counted with."""
    lines = {name: curve(outcome, test, [level]) for name, outcome in arms.items()}
    return {
        name: _meaning({"mean": line["mean"][0], "ci95": [line["low"][0], line["high"][0]]}, level, prevalence)
        for name, line in lines.items()
    }


def _meaning(recall: dict[str, Any], specificity: float, prevalence: float | None) -> dict[str, Any]:
    """A `FieldResult` of metrics.json."""
    found = {"recall": recall, "specificity": specificity, "precision": None, "false_alarms_per_find": None}
    if prevalence is not None:
        found["precision"] = precision(recall["mean"], specificity, prevalence)
        found["false_alarms_per_find"] = false_alarms_per_find(recall["mean"], specificity, prevalence)
    return found
