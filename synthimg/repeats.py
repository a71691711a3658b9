"""Runs that differ in nothing but their seed, taken together: redrawn split, new fine-tuning, new images each time.

A single run's interval covers the drawing of its test images alone; these cover all that chance has a hand in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .charts import Dot
from .config import Config
from .metrics.repeats import difference, pool
from .verdict import CONTROLS, number, signed

if TYPE_CHECKING:
    from .compare import Run

SPLITS = ("train", "reserve", "validation", "test")
FEW = 5
"""With fewer repeats the spread between them is hardly known."""


class Repeats(NamedTuple):
    name: str
    runs: list[Run]
    """By seed."""
    pooled: dict[str, Any]

    @property
    def dot(self) -> Dot:
        return Dot.of(self.name, self.pooled["gain"], "synthetic", self.pooled["gain"]["points"])


def configurations(config: Config, count: int) -> list[Config]:
    """The same run from `count` seeds, each under a name of its own."""
    seeds = range(config.seed, config.seed + count)
    return [config.model_copy(update={"seed": seed, "name": f"{config.name}-seed{seed}"}) for seed in seeds]


def repeats(runs: list[Run]) -> list[Repeats]:
    """Groups of two or more runs that differ in seed alone; the highest mean gain first, without a gain last."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, Run]] = {}
    for run in runs:
        rest = tuple(sorted(item for item in run.config.items() if item[0] not in ("seed", "name")))
        groups.setdefault(rest, {}).setdefault(run.config["seed"], run)
    found = [_together([group[seed] for seed in sorted(group, key=int)]) for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: -group.pooled["gain"]["mean"] if group.pooled["gain"] else float("inf"))


def lines(groups: list[Repeats]) -> list[str]:
    """What the repeats say, and how sure it is that the best differ from the others."""
    return [*map(sentence, groups), *against_first([group for group in groups if group.pooled["gain"]])]


def sentence(group: Repeats) -> str:
    """What the repeats of one configuration say, in plain words."""
    pooled, gain = group.pooled, group.pooled["gain"]
    if not gain:
        without = [run.name for run in group.runs if "synthetic" not in run.metrics["recall"]["arms"]]
        reason = f"{', '.join(without)} had no synthetic image" if without else "there is no control"
        return f"{group.name} cannot be taken together: {reason}."
    low, high = gain["ci95"]
    rare = group.runs[0].metrics["rare_class"]
    told = "raised" if low > 0 else "lowered" if high < 0 else "cannot be shown to change"
    before, after = number(pooled["control"]), number(pooled["synthetic"])
    control = CONTROLS.get(pooled["best_control"], pooled["best_control"])
    text = (
        f"{group.name}: over {pooled['repeats']} repeats synthetic images {told} recall of {rare}: {before} with the best "
        f"control, {control}, {after} with them ({signed(gain['mean'])}, 95 % interval {signed(low)} to {signed(high)})."
    )
    closed = pooled["oracle_gap_closed"]
    if closed is not None:
        text += f" That is {100 * closed:.0f} % of what more real images bring.".replace("-", "−")
    if pooled["repeats"] < FEW:
        text += f" {pooled['repeats']} repeats are few."
    return text


def against_first(groups: list[Repeats]) -> list[str]:
    """How sure it is that the first group's recall with synthetic images differs from each other's; seeds are paired."""
    told = []
    for other in groups[1:]:
        mine = {run.config["seed"]: run for run in groups[0].runs}
        shared = [(mine[run.config["seed"]], run) for run in other.runs if run.config["seed"] in mine]
        shared = [(one, two) for one, two in shared if one.test == two.test]
        if len(shared) < 2:
            told.append(f"{groups[0].name} and {other.name} share no two test sets: their recalls are not comparable.")
            continue
        ours, theirs = ([_recall(run, "synthetic") for run in side] for side in zip(*shared, strict=True))
        found = difference(ours, theirs, _tested(groups[0].runs[0]))
        low, high = found["ci95"]
        sure = "this difference is real" if low > 0 or high < 0 else "not told apart from no difference"
        told.append(
            f"With synthetic images {groups[0].name} reaches {signed(found['mean'])} recall against {other.name} "
            f"(95 % interval {signed(low)} to {signed(high)}, {len(shared)} repeats): {sure}."
        )
    return told


def _together(runs: list[Run]) -> Repeats:
    arms = [arm for arm in runs[0].metrics["recall"]["arms"] if all(arm in run.metrics["recall"]["arms"] for run in runs)]
    pooled = pool({arm: [_recall(run, arm) for run in runs] for arm in arms}, _tested(runs[0]))
    return Repeats(f"{runs[0].name} and {len(runs) - 1} more", runs, pooled)


def _recall(run: Run, arm: str) -> float:
    return float(run.metrics["recall"]["arms"][arm]["recall_at_specificity"]["mean"])


def _tested(run: Run) -> float:
    n = run.metrics["n"]
    sizes = {split: sum(n.get(f"{split}_{part}", 0) for part in ("rare", "other")) for split in SPLITS}
    return sizes["test"] / sum(sizes.values())
