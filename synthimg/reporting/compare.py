"""Several runs side by side: verdicts, gains on one axis, arms, quality, counts, and what differs between them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..core import files
from ..errors import UserError
from ..evaluation.arms import in_order
from ..evaluation.results_subgroups import SubgroupTable
from . import charts
from .charts import Dot
from .formats import number, signed
from .page import arm_dots, kind, render
from .report import quality
from .runs import DECISIVE, Run, load
from .subgroups import KINDS_OF_THRESHOLDS, Worst, worst_of
from .wording import control_name

MARK = b'content="synthimg compare"'
"""What a page of this module holds: only such a file is replaced."""
LONGEST_NAME = 120


def compare_runs(runs: list[Path], out: Path | None = None) -> Path:
    """Write one page on several evaluated runs; by default beside the first one, as `compare-<names>.html`.

    Raises:
        UserError: fewer than two runs, naming the run that has no metrics, or a file at `out` that is not a comparison.
    """
    if len(runs) < 2:
        raise UserError(f"compare: expected two or more runs, found {len(runs)}")
    loaded = load(runs)
    target = files.expanded(out) if out else default_path(runs, [run.name for run in loaded])
    if target.is_dir() or (target.exists() and MARK not in target.read_bytes()[:4096]):
        raise UserError(f"{target}: is not a comparison made by synthimg; nothing was changed, choose another name")
    files.write_bytes(target, render("compare.html.j2", **describe(loaded)))
    return target


def warnings(runs: list[Run]) -> list[str]:
    """Why the runs' recalls must not be compared, if so; each against the first run."""
    found: list[str] = []
    first = runs[0]
    for run in runs[1:]:
        mine, theirs = run.results, first.results
        if mine.rare_class != theirs.rare_class:
            found.append(
                f"{run.name} measures recall of {mine.rare_class}, {first.name} recall of {theirs.rare_class}: "
                "not comparable."
            )
        elif run.test != first.test:
            shared = len(run.test & first.test)
            found.append(
                f"{run.name} and {first.name} are tested on different images ({shared} shared of {len(run.test)} "
                f"and {len(first.test)}): their recalls are not comparable."
            )
        for key, words in DECISIVE.items():
            ours, others = getattr(mine.recall, key), getattr(theirs.recall, key)
            if ours != others:
                found.append(f"{run.name} and {first.name} differ in {words}: {ours} and {others}.")
        if mine.quality.extractor != theirs.quality.extractor:
            found.append(f"{run.name} and {first.name} score quality with different features: not comparable.")
    return found


def table(runs: list[Run]) -> str:
    """The comparison as plain text for a terminal, warnings below."""
    head = ["run", "verdict", "control", "synthetic", "gain", "95 % interval", "accepted", "worst subgroup", "gap"]
    rows = [head]
    for run in runs:
        recall, n = run.results.recall, run.results.n
        gain = recall.gain if run.verdict.judgement != "not measured" else None
        low, high = gain.ci95 if gain else (0.0, 0.0)
        rows.append([
            run.name, run.verdict.label, _recall(run, recall.best_control), _recall(run, "synthetic"),
            signed(gain.mean) if gain else "-", f"{signed(low)} to {signed(high)}" if gain else "-",
            f"{n.accepted} of {n.generated}", *_worst(run),
        ])  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rows.insert(1, ["-" * width for width in widths])
    rendered = [_line(row, widths) for row in rows]
    return "\n".join(rendered + [f"warning: {text}" for text in warnings(runs)])


def differences(runs: list[Run]) -> list[dict[str, Any]]:
    """The configuration keys that are not the same in all runs, with each run's value."""
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    rows = [{"key": key, "values": [run.config.get(key, "–") for run in runs]} for key in keys if key != "name"]
    return [row for row in rows if len(set(row["values"])) > 1]


def describe(runs: list[Run]) -> dict[str, Any]:
    """Everything the template shows."""
    arms = in_order({arm for run in runs for arm in run.results.recall.arms})
    measured = [(run.name, run.results.recall.gain) for run in runs if run.verdict.judgement != "not measured"]
    gains = [Dot.of(name, gain, "synthetic") for name, gain in measured if gain]
    return {
        "runs": runs, "warnings": warnings(runs), "arms": arms, "kinds": _kinds(runs),
        "gains": charts.dots(gains, "Gain in recall with 95 % interval, by run; dashed: no change", mark=0.0),
        "axis": _shared_axis(runs), "controls": {run.name: control_name(run.results) for run in runs},
        "subgroups": [(words, rows) for name, words in KINDS_OF_THRESHOLDS.items() if (rows := subgroup_rows(runs, name))],
        "quality": {run.name: quality(run.results.quality) for run in runs},
        "differences": differences(runs),
    }  # fmt: skip


def subgroup_rows(runs: list[Run], thresholds: str) -> list[tuple[str, Worst | None, Worst | None]]:
    """For each run the worst subgroup of its best control and of the synthetic arm; none where no run has one.

    Args:
        thresholds: a field of `Subgroups`.
    """
    rows = []
    for run in runs:
        table: SubgroupTable = getattr(run.results.subgroups, thresholds)
        rows.append((run.name, worst_of(table, table.best_control), worst_of(table, "synthetic")))
    return rows if any(control or synthetic for _, control, synthetic in rows) else []


def _kinds(runs: list[Run]) -> dict[str, str]:
    """The CSS class of each arm of any run."""
    return {name: kind(name, arm, None) for run in runs for name, arm in run.results.recall.arms.items()}


def default_path(runs: list[Path], names: list[str]) -> Path:
    """`compare-<names>.html` beside the first run; many names are cut and told apart by a digest."""
    joined = "-".join(name.replace("/", "-") for name in names)
    if len(joined) > LONGEST_NAME:
        joined = f"{joined[:LONGEST_NAME]}-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"
    return files.expanded(runs[0]).resolve().parent / f"compare-{joined}.html"


def _shared_axis(runs: list[Run]) -> list[tuple[str, Any]]:
    """For each run its arms' recall, all on the same axis."""
    rows = {run.name: arm_dots(run.results.recall, "recall_at_specificity") for run in runs}
    values = [value for part in rows.values() for row in part for value in (row.low, row.high, *row.points)]
    bounds = (max(0.0, min(values) - 0.01), min(1.0, max(values) + 0.01)) if values else None
    return [(name, charts.dots(part, f"{name}: recall by arm", bounds=bounds)) for name, part in rows.items()]


def _worst(run: Run) -> tuple[str, str]:
    """Recall with synthetic images in their worst subgroup, and how far it is behind the best one."""
    found = worst_of(run.results.subgroups.at_thresholds, "synthetic")
    if not found:
        return "-", "-"
    return f"{number(found.recall.mean)} {found.name}", number(found.gap.mean) if found.gap else "-"


def _recall(run: Run, arm: str | None) -> str:
    found = run.results.recall.arms.get(arm or "")
    return number(found.recall_at_specificity.mean) if found else "-"


def _line(row: list[str], widths: list[int]) -> str:
    """Two columns of words to the left, numbers to the right."""
    cells = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
    cells += [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join(cells).rstrip()
