"""Recall by subgroup and in the field, as the report and the comparison show them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..evaluation.results import Results
from ..evaluation.results_subgroups import FieldRow, Partition, PartSpread, Subgroup, SubgroupTable
from ..metrics.prevalence import least_ordinary
from . import charts
from .formats import interval, number, signed, times

KINDS_OF_THRESHOLDS = {
    "at_thresholds": "At the thresholds from validation",
    "at_equal_specificity": "Where every arm has the wanted specificity on test",
}
"""Fields of `Subgroups`."""


class Worst(NamedTuple):
    """The subgroup that an arm finds least of, over all attributes and pairs."""

    name: str
    recall: PartSpread
    gap: PartSpread | None
    """To the best subgroup of the same attributes."""
    change: PartSpread | None
    """What synthetic images changed there."""


def worst_of(table: SubgroupTable, arm: str | None) -> Worst | None:
    """An arm's worst subgroup; None where none has enough groups."""
    if arm is None:
        return None
    found = [
        Worst(_name(row), row.recall[arm], part.arms[arm].gap, row.change)
        for part in table.partitions
        for row in part.subgroups
        if arm in part.arms and row.categories == part.arms[arm].worst
    ]
    return min(found, key=lambda worst: worst.recall.mean, default=None)


def tables(results: Results) -> list[dict[str, Any]]:
    """The section "By subgroup": for each kind of threshold its words and its partitions."""
    found = []
    for name, words in KINDS_OF_THRESHOLDS.items():
        table: SubgroupTable = getattr(results.subgroups, name)
        parts = [partition(part, table.best_control, results) for part in table.partitions if part.subgroups]
        found.append({"title": words, "partitions": parts})
    return found


def partition(part: Partition, control: str | None, results: Results) -> dict[str, Any]:
    """One attribute or pair: rows in the order of the control's recall, the lowest first."""
    arms = list(part.subgroups[0].recall)
    rows = sorted(part.subgroups, key=lambda row: row.recall[arms[0]].mean)
    title = f"Recall by {' and '.join(part.attributes)}"
    return {
        "title": title, "untold": part.untold, "arms": [(arm, _kind(arm)) for arm in arms], "control": control,
        "chart": charts.clusters([(_name(row), _dots(row)) for row in rows], title),
        "rows": [(_name(row), row, {arm for arm in arms if part.arms[arm].worst == row.categories}) for row in rows],
        "gaps": [part.arms[arm].gap for arm in arms], "words": _words(part, control, results),
    }  # fmt: skip


def field(results: Results) -> dict[str, Any]:
    """The section "In the field"."""
    found = results.prevalence
    rows = [
        {
            "words": f"Specificity {row.specificity:g}", "on": f"thresholds set on {row.thresholds}",
            "needed": least_ordinary(row.specificity),
            "arms": [(arm, _kind(arm), result) for arm, result in (row.arms or {}).items()],
        }
        for row in found.rows
    ]  # fmt: skip
    told = [] if found.prevalence is None else [text for row in found.rows if (text := _cost(row, results))]
    return {"prevalence": found.prevalence, "ordinary": found.ordinary, "rows": rows, "words": " ".join(told)}


def _name(row: Subgroup) -> str:
    return ", ".join(row.categories)


def _kind(arm: str) -> str:
    """The CSS class of an arm of these sections: the control, `synthetic` or `oracle`."""
    return arm if arm in ("synthetic", "oracle") else "real"


def _dots(row: Subgroup) -> list[charts.Dot]:
    return [
        charts.Dot("", spread.mean, *(spread.ci95 or (spread.mean, spread.mean)), _kind(arm))
        for arm, spread in row.recall.items()
    ]


def _words(part: Partition, control: str | None, results: Results) -> str:
    """What became of the control's worst subgroup, and of the gap."""
    before, after = part.arms.get(control or ""), part.arms.get("synthetic")
    if control is None or not before or not before.worst or not after or not part.change_of_worst:
        return ""
    change = part.change_of_worst
    row = next(row for row in part.subgroups if row.categories == before.worst)
    sure = f", {interval(change.ci95)}" if change.ci95 else ""
    text = (
        f"With {results.recall.arms[control].title}, least is found of {_name(row)}: {number(row.recall[control].mean)}; "
        f"with synthetic images {number(row.recall['synthetic'].mean)} there ({signed(change.mean)}{sure})."
    )
    if not before.gap or not after.gap:
        return text
    return f"{text} From worst to best it is {number(before.gap.mean)} without them, {number(after.gap.mean)} with them."


def _cost(row: FieldRow, results: Results) -> str:
    """False alarms for each find, without and with synthetic images, at thresholds that a user can have.

    Those set on test images describe the arms alike, but nobody can set them.
    """
    found = row.arms or {}
    if row.thresholds != "validation" or row.best_control is None or "synthetic" not in found:
        return ""
    before, after = (found[arm].false_alarms_per_find for arm in (row.best_control, "synthetic"))
    return (
        f"At specificity {row.specificity:g}, by thresholds of validation, a find costs {times(before)} false alarms with "
        f"{results.recall.arms[row.best_control].title}, {times(after)} with synthetic images."
    )
