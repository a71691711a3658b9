"""Runs that differ in nothing but their seed, taken together: redrawn split, new fine-tuning, new images each time.

A single run's interval covers the drawing of its test images alone; these cover all that chance has a hand in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..metrics.repeats import difference, pool
from .charts import Dot
from .formats import interval, number, percent, signed
from .judge import mean_of, unconfirmed
from .runs import DECISIVE, Run

FEW = 5
"""With fewer repeats the spread between them is hardly known."""


class Repeats(NamedTuple):
    name: str
    runs: list[Run]
    """By seed."""
    pooled: dict[str, Any]
    matched: dict[str, Any] | None
    """The same where every arm has exactly the specificity asked for on test; None where a run has not measured it."""

    @property
    def dots(self) -> list[Dot]:
        """One chart row, or none where there is no interval."""
        gain = self.pooled["gain"]
        if not gain or not gain["ci95"]:
            return []
        low, high = gain["ci95"]
        return [Dot(self.name, gain["mean"], low, high, "synthetic", gain["points"])]


def configurations(config: Config, count: int) -> list[Config]:
    """The same run from `count` seeds, each under a name of its own."""
    seeds = range(config.seed, config.seed + count)
    return [config.model_copy(update={"seed": seed, "name": f"{config.name}-seed{seed}"}) for seed in seeds]


def group_repeats(runs: list[Run]) -> list[Repeats]:
    """Groups of two or more runs that differ in seed alone; the highest recall with synthetic images first."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, Run]] = {}
    for run in runs:
        rest = tuple(sorted(item for item in run.config.items() if item[0] not in ("seed", "name")))
        groups.setdefault(rest, {}).setdefault(run.config["seed"], run)
    found = [_together([group[seed] for seed in sorted(group, key=int)]) for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: -(group.pooled["synthetic"] or 0))


def lines(groups: list[Repeats]) -> list[str]:
    """What the repeats say, and how sure it is that the best differ from the others."""
    return [*map(sentence, groups), *against_first([group for group in groups if group.pooled["gain"]])]


def sentence(group: Repeats) -> str:
    """What the repeats of one configuration say, in plain words."""
    pooled, gain = group.pooled, group.pooled["gain"]
    if not gain:
        without = [run.name for run in group.runs if "synthetic" not in run.results.recall.arms]
        reason = f"{', '.join(without)} measured no synthetic images" if without else "there is no control"
        return f"{group.name} cannot be taken together: {reason}."
    low, high = gain["ci95"] or (-1.0, 1.0)
    gone = _gone(group)
    told = "cannot be shown to change" if gone or low <= 0 <= high else "raised" if low > 0 else "lowered"
    before, after = number(pooled["control"]), number(pooled["synthetic"])
    results = group.runs[0].results
    reached = [number(_mean(group.runs, arm, "specificity_at_threshold")) for arm in (pooled["best_control"], "synthetic")]
    text = (
        f"{group.name}: over {pooled['repeats']} repeats synthetic images {told} recall of {results.rare_class}: "
        f"{before} with {_title(group, pooled['best_control'])}, the best control over them, {after} with synthetic images "
        f"({_spread(gain)}), at thresholds set for specificity {results.recall.specificity:g} on validation (on test "
        f"{reached[0]} without, {reached[1]} with)."
    )
    if group.matched:
        best = _title(group, group.matched["best_control"])
        before, after = number(group.matched["control"]), number(group.matched["synthetic"])
        text += (
            f" Where every arm has that specificity on test: {before} with {best}, the best there, {after} with synthetic "
            f"images ({_spread(group.matched['gain'])})"
        )
        text += ", so the change is not called one." if gone else "."
    if low > 0 and not gone and pooled["oracle_gap_closed"] is not None:
        text += f" That is {percent(pooled['oracle_gap_closed'])} of what more real images bring."
    if told == "lowered":
        text += " The control is the best on these same test images, which makes a loss look larger than it is."
    if pooled["repeats"] < FEW:
        text += f" {pooled['repeats']} repeats are few."
    return text


def against_first(groups: list[Repeats]) -> list[str]:
    """How sure it is that the first group's recall with synthetic images differs from each other's; seeds are paired."""
    return [_against(groups[0], other, len(groups)) for other in groups[1:]]


def _against(first: Repeats, other: Repeats, groups: int) -> str:
    one, two = first.runs[0].results, other.runs[0].results
    names = f"{first.name} and {other.name}"
    if one.rare_class != two.rare_class or any(getattr(one.recall, key) != getattr(two.recall, key) for key in DECISIVE):
        return f"{names} do not measure the same: not comparable."
    own = {run.config["seed"]: run for run in first.runs}
    shared = [run for run in other.runs if run.config["seed"] in own and own[run.config["seed"]].test == run.test]
    pairs = [(own[run.config["seed"]], run) for run in shared]
    if len(pairs) < 2:
        return f"{names} share no two test sets: not comparable."
    ours, theirs = ([_recall(run, "synthetic") for run in side] for side in zip(*pairs, strict=True))
    found = difference(ours, theirs, _ratio(first.runs))
    beyond = found["ci95"] and (found["ci95"][0] > 0 or found["ci95"][1] < 0)
    chosen = f"; not corrected for choosing the best of {groups}" if beyond and groups > 2 else ""
    sure = "beyond chance" if beyond else "within chance" if found["ci95"] else "whether by chance cannot be told"
    return f"With synthetic images {names} differ by {_spread(found)} in recall over {len(pairs)} repeats: {sure}{chosen}."


def _spread(found: dict[str, Any]) -> str:
    if not found["ci95"]:
        return f"{signed(found['mean'])} in every repeat, so its spread is not known"
    return f"{signed(found['mean'])}, {interval(found['ci95'])}"


def _title(group: Repeats, arm: str) -> str:
    return group.runs[0].results.recall.arms[arm].title


def _gone(group: Repeats) -> bool:
    """Whether a change over the repeats is not beyond chance at equal specificity."""
    if not group.matched or not group.pooled["gain"]["ci95"]:
        return False
    there = group.matched["gain"]
    return unconfirmed(group.pooled["gain"]["ci95"], there["ci95"] or (there["mean"], there["mean"]))


def _together(runs: list[Run]) -> Repeats:
    first = runs[0].results.recall.arms
    shared = [arm for arm in first if all(arm in run.results.recall.arms for run in runs)]
    arms = [arm for arm in shared if first[arm].control or arm in ("synthetic", "oracle")]
    pooled = pool({arm: [_recall(run, arm) for run in runs] for arm in arms}, _ratio(runs))
    exact = [run.results.recall.matched.recall for run in runs if run.results.recall.matched]
    complete = len(exact) == len(runs)  # a run without synthetic images has none
    matched = pool({arm: [recall[arm] for recall in exact] for arm in arms}, _ratio(runs)) if complete else None
    return Repeats(f"{runs[0].name} and {len(runs) - 1} more", runs, pooled, matched)


def _recall(run: Run, arm: str) -> float:
    return mean_of(run.results, arm, "recall_at_specificity")


def _mean(runs: list[Run], arm: str, measure: str) -> float:
    return float(np.mean([mean_of(run.results, arm, measure) for run in runs]))


def _ratio(runs: list[Run]) -> float:
    """Test images for each image trained on, over all classes; the mean over the runs."""
    sizes = [run.results.n for run in runs]
    return float(np.mean([(n.test_rare + n.test_other) / (n.train_rare + n.train_other) for n in sizes]))
