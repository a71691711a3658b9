"""From every arm's test predictions to the section `recall` of metrics.json: means, intervals, the gain, its test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.seeds import derive
from .recall import Array, auc, aucs, gap_closed, interval, majority, mcnemar, rates, resample, threshold_at

NOT_CONTROLS = ("synthetic", "oracle")
CHOSEN = "chosen control"
"""The arm that repeats, in each part of a run, the control which was chosen inside its training groups."""


@dataclass(frozen=True)
class Outcome:
    """One arm on the N test pictures, over S seeds."""

    scores: Array
    """[S, N] probability of the rare class."""
    predicted: NDArray[np.str_]
    """[S, N] most probable label."""
    thresholds: Array
    """[S], chosen on validation."""


@dataclass(frozen=True)
class Test:
    """The test pictures, and the resamples of them that all arms share."""

    labels: NDArray[np.str_]
    rare: str
    rare_rows: NDArray[np.int64]
    other_rows: NDArray[np.int64]
    rare_counts: Array
    """[B, rare pictures]: how often each enters each resample."""
    other_counts: Array
    rare_groups: int
    """How many groups the rare pictures are of: what counts as independent."""
    other_groups: int


def arrange(labels: NDArray[np.str_], groups: NDArray[np.str_], rare: str, draws: int, seed: int) -> Test:
    """Draw the resamples: by group, separately in every class."""
    rare_rows, other_rows = np.flatnonzero(labels == rare), np.flatnonzero(labels != rare)
    other_counts = np.zeros((draws, len(other_rows)))
    for label in np.unique(labels[other_rows]):
        members = labels[other_rows] == label
        other_counts[:, members] = resample(groups[other_rows][members], draws, derive(seed, "bootstrap", label))
    rare_counts = resample(groups[rare_rows], draws, derive(seed, "bootstrap", rare))
    groups_of = (len(np.unique(groups[rows])) for rows in (rare_rows, other_rows))
    return Test(labels, rare, rare_rows, other_rows, rare_counts, other_counts, *groups_of)


def compare_arms(
    arms: Mapping[str, Outcome], test: Test, specificity: float, not_controls: Collection[str] = NOT_CONTROLS
) -> dict[str, Any]:
    """`arms`, `best_control`, `gain`, `oracle_gap_closed` and `common` of metrics.json.

    The best control is the arm without synthetic or reserve images that does best on the test set itself. Choosing it
    there can only make the gain smaller: conservative where recall is called raised, not where it is called lowered. Where
    one was chosen before, without the test set, it is that one.
    Intervals resample the test pictures alone, averaged over the seeds; they know nothing of another split, fine-tuning
    or generation.

    Args:
        specificity: the one asked for; the curve lies around it.
        not_controls: arms that no gain is measured against.
    """
    described = {name: describe(outcome, test) for name, outcome in arms.items()}
    scored = {name: arm["recall_at_specificity"]["mean"] for name, arm in described.items()}
    controls = [CHOSEN] if CHOSEN in arms else [name for name in arms if name not in not_controls]
    best = max(controls, key=lambda name: scored[name]) if controls else None
    found: dict[str, Any] = {
        "arms": described, "best_control": best, "gain": None, "oracle_gap_closed": None,
        "common": {"specificity_change": None}, "matched": None, "curve": None,
        "confusion": None,
    }  # fmt: skip
    if best is None or "synthetic" not in arms:
        return found
    found["gain"] = gain(arms["synthetic"], arms[best], test)
    if "oracle" in arms:
        found["oracle_gap_closed"] = gap_closed(found["gain"]["mean"], scored[best], scored["oracle"])
    found["common"] = {"specificity_change": specificity_change(arms["synthetic"], arms[best], test)}
    shown = [best, *(arm for arm in NOT_CONTROLS if arm in arms)]
    found["matched"] = at_equal_specificity(arms, test, controls, specificity)
    around = levels(specificity)
    found["curve"] = {"specificity": around, "arms": {arm: curve(arms[arm], test, around) for arm in shown}}
    found["confusion"] = {arm: confusion(arms[arm], test) for arm in (best, "synthetic")}
    return found


def describe(outcome: Outcome, test: Test) -> dict[str, Any]:
    """One arm's scores, each a mean over the seeds with its interval, and the recall of every other class."""
    default = outcome.predicted == test.rare
    found, flagged = default[:, test.rare_rows], above(outcome)[:, test.rare_rows]
    return {
        "recall": _share(found, test.rare_counts, test.rare_groups),
        "recall_at_specificity": _share(flagged, test.rare_counts, test.rare_groups),
        "specificity": _share(~default[:, test.other_rows], test.other_counts, test.other_groups),
        "specificity_at_threshold": _share(~above(outcome)[:, test.other_rows], test.other_counts, test.other_groups),
        "auc": _auc(outcome, test),
        "per_seed": {
            "recall": found.mean(axis=1).tolist(),
            "recall_at_specificity": flagged.mean(axis=1).tolist(),
        },
        "other_recall": {
            str(label): float((outcome.predicted[:, test.labels == label] == label).mean())
            for label in np.unique(test.labels[test.other_rows])
        },
    }


def gain(synthetic: Outcome, control: Outcome, test: Test) -> dict[str, Any]:
    """Recall at the threshold, synthetic minus control: {"mean", "ci95", "p"}, paired by picture."""
    ours, theirs = above(synthetic)[:, test.rare_rows], above(control)[:, test.rare_rows]
    return {**_change(ours, theirs, test.rare_counts, test.rare_groups), "p": mcnemar(majority(ours), majority(theirs))}


def at_equal_specificity(
    arms: Mapping[str, Outcome], test: Test, controls: list[str], specificity: float
) -> dict[str, Any]:  # fmt: skip
    """The same comparison where every arm's threshold gives the specificity on the test images themselves.

    Thresholds from validation may miss it there by more in one arm than in another; then part of a difference in recall is
    one in false alarms. This one cannot be: {"best_control", "recall": {arm: mean}, "gain"}.
    """
    exact = {name: at_specificity(outcome, test, specificity) for name, outcome in arms.items()}
    recall = {name: round(float(above(outcome)[:, test.rare_rows].mean()), 12) for name, outcome in exact.items()}
    best = max(controls, key=lambda name: recall[name])
    return {"best_control": best, "recall": recall, "gain": gain(exact["synthetic"], exact[best], test)}


def levels(specificity: float) -> list[float]:
    """Specificities around the one asked for: up to four times and down to a fifth of its false alarms."""
    found = (round(1 - (1 - specificity) * part / 5, 9) for part in range(20, 0, -1))
    return [level for level in found if level > 0]


def curve(outcome: Outcome, test: Test, levels: list[float]) -> dict[str, list[float]]:
    """Recall on test where the threshold gives each of `levels` on test itself: mean, and a 95 % band of the rare images."""
    found: dict[str, list[float]] = {"mean": [], "low": [], "high": []}
    for level in levels:
        spread = _share(above(at_specificity(outcome, test, level))[:, test.rare_rows], test.rare_counts, test.rare_groups)
        for name, value in zip(found, (spread["mean"], *spread["ci95"]), strict=True):
            found[name].append(value)
    return found


def confusion(outcome: Outcome, test: Test) -> dict[str, dict[str, float]]:
    """How many test images of each label are called what, by the default threshold, averaged over the seeds."""
    labels = sorted({*test.labels, *outcome.predicted.ravel()})
    rows = {label: outcome.predicted[:, test.labels == label] for label in sorted(set(test.labels))}
    return {
        str(label): {str(called): float((row == called).sum(axis=1).mean()) for called in labels}
        for label, row in rows.items()
    }


def specificity_change(synthetic: Outcome, control: Outcome, test: Test) -> dict[str, Any]:
    """Specificity at the threshold, synthetic minus control: {"mean", "ci95"}."""
    ours, theirs = (~above(outcome)[:, test.other_rows] for outcome in (synthetic, control))
    return _change(ours, theirs, test.other_counts, test.other_groups)


def at_specificity(outcome: Outcome, test: Test, specificity: float) -> Outcome:
    """The same arm with the thresholds that give this specificity on the test images themselves."""
    thresholds = [threshold_at(scores[test.other_rows], specificity) for scores in outcome.scores]
    return replace(outcome, thresholds=np.array(thresholds))


def above(outcome: Outcome) -> NDArray[np.bool_]:
    """[S, N]: which test pictures each seed calls rare."""
    return outcome.scores > outcome.thresholds[:, None]


def _share(hits: NDArray[np.bool_], counts: Array, groups: int) -> dict[str, Any]:
    return _mean(hits.mean(axis=0), counts, groups, 0.0)


def _change(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], counts: Array, groups: int) -> dict[str, Any]:
    return _mean(ours.mean(axis=0) - theirs.mean(axis=0), counts, groups, -1.0)


def _mean(values: Array, counts: Array, groups: int, least: float) -> dict[str, Any]:
    """Mean of values [N] between `least` and 1, with its interval."""
    return bounded(float(values.mean()), rates(values, counts), groups, least)


def _auc(outcome: Outcome, test: Test) -> dict[str, Any]:
    rare, other = outcome.scores[:, test.rare_rows], outcome.scores[:, test.other_rows]
    mean = float(np.mean([auc(*pair) for pair in zip(rare, other, strict=True)]))
    resampled = aucs(rare, other, test.rare_counts, test.other_counts)
    return bounded(mean, resampled, min(test.rare_groups, test.other_groups), 0.0)


def bounded(mean: float, resampled: Array, groups: int, least: float) -> dict[str, Any]:
    """A mean and its interval between `least` and 1, free of the last digits' noise: 0 is 0, and decides."""
    low, high = interval(mean, resampled, groups)
    return {"mean": round(mean, 12), "ci95": [round(max(low, least), 12), round(min(high, 1.0), 12)]}
