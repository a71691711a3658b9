"""Do synthetic images raise recall where the rare class is really missing? The tasks of docs/gain.md, and their tables.

python benchmarks/gain.py --tasks 40-any 5-any 20-two-modules none 40-mono-to-poly
python benchmarks/gain.py --half held-out --tasks 20-two-modules
python benchmarks/gain.py evaluate.classifier=finetune draws=1 --name finetune --tasks 20-two-modules

Each task is a run of configs/solar-cells.yaml by `synthimg run`, with five folds by module and four draws of the real rare
images. `--half` keeps one half of the modules: recipes were chosen on `development`, and `held-out` was never looked at
before. A run that is done is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from synthimg.config import Config
from synthimg.data import elpv
from synthimg.evaluation.results import Interval, Results
from synthimg.evaluation.results_file import read_results
from synthimg.pipeline import run
from synthimg.reading import load_config
from synthimg.reporting.wording import verdict_on

CONFIG = (
    Path(__file__).parents[1] / "configs" / "solar-cells.yaml"
)  # not the current folder's, which may be edited meanwhile
RECIPE = ["folds=5", "draws=null", "evaluate.portions=false"]
TASKS = {
    "40-any": ["dataset.rare_budget=40", "dataset.rare_groups=null"],
    "20-any": ["dataset.rare_budget=20", "dataset.rare_groups=null"],
    "10-any": ["dataset.rare_budget=10", "dataset.rare_groups=null"],
    "5-any": ["dataset.rare_budget=5", "dataset.rare_groups=null"],
    "2-any": ["dataset.rare_budget=2", "dataset.rare_groups=null"],
    "20-two-modules": ["dataset.rare_budget=20", "dataset.rare_groups=1"],
    "none": ["dataset.rare_budget=0", "dataset.rare_groups=null"],
    "40-mono-to-poly": ["dataset.rare_budget=40", "dataset.rare_groups=null", "dataset.deployment={type: [poly]}"],
    "10-mono-to-poly": ["dataset.rare_budget=10", "dataset.rare_groups=null", "dataset.deployment={type: [poly]}"],
    "40-poly-to-mono": ["dataset.rare_budget=40", "dataset.rare_groups=null", "dataset.deployment={type: [mono]}"],
}
MODULES, SEED = 45, 21
"""Modules of the data set, and the seed by which their halves were drawn before the first experiment."""


def half(name: str, outputs: Path) -> list[str]:
    """Overrides that keep one half of the modules: a table of their cells beside links to the images."""
    root, table = elpv.read()
    drawn = {f"module-{number:02d}" for number in np.random.default_rng(SEED).permutation(MODULES)[: MODULES // 2]}
    kept = table[table["module"].isin(drawn) == (name == "development")]
    folder = outputs / f"modules-{name}"
    for file in kept["file_name"]:
        link = folder / file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(root / file)
    kept.to_csv(folder / "metadata.csv", index=False)
    licence = f"dataset.consent={{licence: {elpv.LICENCE}, scope: [research]}}"
    return [f"dataset.path={folder}", "dataset.group=module", licence]


def row(task: str, results: Results) -> dict[str, Any]:
    """One line of the table: leads over the best control, with intervals over groups of test images."""
    recall, n = results.recall, results.n
    matched, gain, change = recall.matched, recall.gain, recall.common.specificity_change
    groups = sorted(n.train_rare_groups)
    found = {"task": task, "rare images (groups)": f"{n.train_rare} ({groups[0]} to {groups[-1]})",
             "tested (groups)": f"{n.test_rare} ({n.test_rare_groups})",
             "accepted": f"{n.accepted / n.parts:.0f} of {n.generated / n.parts:.0f}"}  # fmt: skip
    if not (matched and gain and change and recall.best_control):
        return found | {"verdict": verdict_on(results).label}
    arms, best = recall.arms, recall.best_control
    return found | {
        "real": f"{matched.recall.get('real', float('nan')):.3f}",
        "best control": f"{matched.best_control} {matched.recall[matched.best_control]:.3f}",
        "synthetic": f"{matched.recall['synthetic']:.3f}",
        "oracle": f"{matched.recall.get('oracle', float('nan')):.3f}",
        "lead": spread(matched.gain.mean, matched.gain.ci95),
        "at thresholds of validation": f"{best} {arms[best].recall_at_specificity.mean:.3f} -> "
        f"{arms['synthetic'].recall_at_specificity.mean:.3f}",
        "lead there": spread(gain.mean, gain.ci95),
        "specificity there": f"{arms[best].specificity_at_threshold.mean:.3f} -> "
        f"{arms['synthetic'].specificity_at_threshold.mean:.3f}",
        "AUC": f"{arms[matched.best_control].auc.mean:.3f} -> {arms['synthetic'].auc.mean:.3f}",
        "verdict": verdict_on(results).label,
    }  # fmt: skip


def spread(mean: float, ci95: Interval) -> str:
    low, high = ci95
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def configured(task: str, overrides: list[str], which: str, name: str, outputs: Path) -> Config:
    place = [] if which == "all" else half(which, outputs)
    own = [f"name={'-'.join(part for part in (task, which if place else '', name) if part)}", f"outputs={outputs}"]
    return load_config(CONFIG, [*RECIPE, *TASKS[task], *place, *own, *overrides])


def main(tasks: list[str], overrides: list[str], which: str, name: str, outputs: Path) -> None:
    measured((task, configured(task, overrides, which, name, outputs)) for task in tasks)


def measured(tasks: Iterable[tuple[str, Config]]) -> None:
    """Run what is not done yet; print the table so far after each run."""
    rows: list[dict[str, Any]] = []
    for task, config in tasks:
        run(config)
        rows.append(row(task, read_results(config.root)))
        print("\n".join(markdown(rows)), flush=True)


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = [[str(row.get(head, "-")) for head in heads] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--half", choices=["all", "development", "held-out"], default="all", dest="which")
    parser.add_argument("--name", default="", help="added to the names of the runs, for other overrides")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/gain"))
    main(**vars(parser.parse_args()))
