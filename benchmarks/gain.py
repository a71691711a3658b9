"""Do synthetic images raise recall? The tasks of docs/gain.md, each a whole run, and their table.

python benchmarks/gain.py --ham10000 /data/ham10000 --tasks vasc-15 bcc-15 mel-30 df --seeds 20 21 22
python benchmarks/gain.py --tasks elpv-20 elpv-40 elpv-80 --seeds 20 21 22

`vasc-15` and the like: the rare class cut to the images of about that many lesions, the rest of its training split in
reserve for the oracle; `df` is rare as it is. A run that is done is not done again.
Splits of ELPV and of vasc and mel from seed 0 (and of ELPV from 1, 2 and 40 to 85) were development splits, with the same
photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from synthimg.config import Config, load_config
from synthimg.evaluation.results import Interval, Recall
from synthimg.evaluation.results_file import read_results
from synthimg.pipeline import run
from synthimg.reporting.wording import control_name

CONFIGS = Path(__file__).parents[1] / "configs"  # not the current folder's, which may be edited while a long run goes on
QUICKSTART, DERMATOLOGY = CONFIGS / "quickstart.yaml", CONFIGS / "dermatology.yaml"


class Task(NamedTuple):
    config: Path
    overrides: list[str]


def rare(label: str, images: int | None) -> Task:
    """A diagnosis of HAM10000 as the rare class."""
    return Task(DERMATOLOGY, [f"dataset.rare_class={label}", f"dataset.rare_budget={images or 'null'}"])


TASKS = {
    **{f"elpv-{images}": Task(QUICKSTART, [f"dataset.rare_budget={images}"]) for images in (20, 40, 80)},
    # lesions have 1.45 (vasc), 1.57 (bcc) and 1.81 (mel) images each
    "vasc-15": rare("vasc", 22),
    "bcc-15": rare("bcc", 24),
    "mel-30": rare("mel", 54),
    "df": rare("df", None),
}


def row(task: str, config: Config) -> dict[str, Any]:
    """One line of the table; gains are synthetic images less the best control, with 95 % intervals over test images."""
    results = read_results(config.folder)
    recall, n = results.recall, results.n
    frame = pd.read_parquet(config.folder / "dataset" / "records.parquet", columns=["label", "split", "group"])
    mine = frame[(frame["label"] == config.dataset.rare_class) & (frame["split"] == "train")]
    found = {
        "task": task,
        "seed": config.seed,
        "rare images (groups)": f"{n.train_rare} ({mine['group'].nunique()})",
        "tested": n.test_rare,
        "accepted": f"{n.accepted} of {n.generated}",
        "copies": n.rejected.get("copy", 0),
        "control": control_name(results),
    }
    matched, gain, change = recall.matched, recall.gain, recall.common.specificity_change
    if not (matched and gain and change and recall.best_control):
        return found
    exact, before = matched.recall, matched.recall[matched.best_control]
    gap = exact["oracle"] - before if "oracle" in exact else None
    others = [recall.arms[arm].other_recall for arm in ("synthetic", recall.best_control)]
    return found | {
        "recall": f"{level(recall, recall.best_control)} -> {level(recall, 'synthetic')}",
        "gain": spread(gain.mean, gain.ci95),
        "specificity": spread(change.mean, change.ci95),
        "control at equal specificity": matched.best_control,
        "recall there": f"{before:.3f} -> {exact['synthetic']:.3f}",
        "gain there": spread(matched.gain.mean, matched.gain.ci95),
        "real alone there": f"{exact['real']:.3f}",
        "oracle there": "-" if gap is None else f"{exact['oracle']:.3f}",
        "share of the gap": f"{matched.gain.mean / gap:.2f}" if gap and gap > 0 else "-",
        "other classes": f"{np.mean([others[0][name] - others[1][name] for name in others[0]]):+.3f}",
    }


def level(recall: Recall, arm: str) -> str:
    return f"{recall.arms[arm].recall_at_specificity.mean:.3f}"


def spread(mean: float, ci95: Interval) -> str:
    low, high = ci95
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def main(tasks: list[str], seeds: list[int], overrides: list[str], ham10000: Path | None, outputs: Path) -> None:
    """Run what is not done yet; print the table so far after each run."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for name in tasks:
            task = TASKS[name]
            place = [f"dataset.path={ham10000}"] if task.config == DERMATOLOGY else []
            own = [*task.overrides, *place, f"seed={seed}", f"name={name}-seed{seed}", f"outputs={outputs}"]
            config = load_config(task.config, [*own, *overrides])
            run(config)
            rows.append(row(name, config))
            print("\n".join(markdown(rows)), flush=True)


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = [[str(row.get(head, "-")) for head in heads] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[20, 21, 22])
    parser.add_argument("--ham10000", type=Path)
    parser.add_argument("--outputs", type=Path, default=Path("outputs/gain"))
    main(**vars(parser.parse_args()))
