"""Do images made without a model raise recall? The tasks of docs/gain.md on redrawn splits.

python benchmarks/splits.py outputs/dermatology --tasks vasc-15 bcc-15 mel-30 df
python benchmarks/splits.py outputs/dermatology evaluate.classifier=finetune --tasks vasc-15 --splits 3 --to FILE
python benchmarks/splits.py outputs/quickstart --tasks elpv-40 elpv-20 elpv-80

The first argument is a prepared run of the tasks' data set (`synthimg prepare configs/quickstart.yaml`, or
configs/dermatology.yaml): its pixels, masks and words are used, its split and budget are not. Each split is drawn, and each
image of it made, refused and judged, by the functions of the stages; only what does not depend on the split, the features
of real images, is worked out once for all. There is one classifier seed a split; unless asked otherwise it is the linear
head. Methods that need a model would have to be fine-tuned anew for every split: see benchmarks/gain.py.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from gain import TASKS, markdown, spread
from numpy.typing import NDArray

from synthimg.attributes.captions import Prompts
from synthimg.config import Config, load_config
from synthimg.core import memory
from synthimg.data import prepared
from synthimg.data.generated import pictures
from synthimg.data.prepared import Prepared, prompts_of
from synthimg.errors import UserError
from synthimg.evaluation.arms import in_order
from synthimg.evaluation.distance import with_distance
from synthimg.evaluation.finetune import finetuned
from synthimg.evaluation.head import Extracted, heads
from synthimg.evaluation.inputs import augmented, rare_rows, rows_of
from synthimg.evaluation.outcomes import outcomes_of, tables_of, test_images
from synthimg.evaluation.sections import followed
from synthimg.metrics.comparison import NOT_CONTROLS, compare_arms
from synthimg.metrics.repeats import pool
from synthimg.stages import evaluate, filter, generate
from synthimg.stages.prepare import split_by_group
from synthimg.vision.features import Features, cached, chunks, extract
from synthimg.vision.views import Symmetry, symmetric

AXIS = "as asked: "
ALL = ("train", "reserve", "validation", "test")


def redrawn(config: Config, data: Prepared) -> Prepared:
    """The same images in the split of another seed and task."""
    return data._replace(frame=data.frame.assign(split=split_by_group(data.frame, config)))


def made(config: Config, data: Prepared, words: Prompts) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """Plan and pictures [N, R, R, 3], which lie where the generate stage leaves them."""
    rows = generate.plan(config, words, data, "no model")
    generate.draw(config, data, rows, config.folder, config.folder / "generate" / "images")
    return rows, np.concatenate(list(pictures(config.folder, list(rows["id"]), config.resolution)))


def results(
    config: Config, words: Prompts, data: Prepared, real: Features, mirrored: Features, views: Callable[[], list[Features]]
) -> Iterator[dict[str, Any]]:
    """Measurements of each arm on one split."""
    if config.draws or config.dataset.rare_class not in set(data.frame["label"]):
        raise UserError("benchmarks/splits.py: methods without a model, and tasks of the run's data set")
    if (
        "synthetic" not in config.evaluate.arms
        or set(config.evaluate.arms) <= set(NOT_CONTROLS)
        or config.evaluate.seeds != 1
    ):
        raise UserError("benchmarks/splits.py: one seed a split, and among the arms synthetic and a control")
    part = {split: rows_of(data.frame, split) for split in ALL}
    rows, drawn = made(config, data, words)
    found, values = extract(drawn), filter.measured(iter([drawn]), words.measured)
    held = (real[part["train"]], mirrored[part["train"]], real[part["validation"]])
    decided, _ = filter.decide(config, data.frame, words, rows, values, found, *held)
    obeyed = followed(rows, decided, words)
    accepted = list(decided.loc[decided["accepted"], "id"])
    if not accepted:
        raise UserError(f"benchmarks/splits.py: no picture of {config.name} was accepted in the split of seed {config.seed}")

    def ways(split: str, which: Symmetry) -> Features:
        return np.concatenate([extract(part) for part in symmetric(data.pixels, rare_rows(config, data, split), which)])

    if config.evaluate.classifier == "finetune":
        fit = finetuned(config, data, accepted)
    else:
        extracted = Extracted(
            {split: real[part[split]] for split in ALL},
            lambda split: [view[part[split]] for view in views()],
            ways,
            found[decided["accepted"]],
        )
        fit = heads(config, data.frame, extracted, accepted)
    fit = with_distance(fit, config, data)
    arms = evaluate.trained_arms(config, data.frame, len(accepted))
    tables = tables_of(config, data.frame, {(arm, 0): fit(arm, 0, accepted) for arm in arms})
    judged, test = outcomes_of(*tables), test_images(config, data.frame)
    measured = compare_arms(judged, test, config.evaluate.specificity)
    rare = (data.frame["label"] == config.dataset.rare_class).to_numpy()
    for arm, described in measured["arms"].items():
        yield {
            "seed": config.seed, "arm": arm, "recall": described["recall_at_specificity"]["mean"],
            "matched": measured["matched"]["recall"][arm], "specificity": described["specificity_at_threshold"]["mean"],
            "auc": described["auc"]["mean"], "others": float(np.mean(list(described["other_recall"].values()))),
            "rare": int(rare[part["train"]].sum()), "tested": int(rare[part["test"]].sum()), "accepted": len(accepted),
            "made": len(rows), "copies": int((decided["reason"] == "copy").sum()),
            **{
                f"{AXIS}{axis} ({method})": measured["share"]
                for axis, methods in obeyed.items() for method, measured in (methods or {}).items()
            },
            "ratio": len(part["test"]) / len(part["train"]),
        }  # fmt: skip


def summary(task: str, part: pd.DataFrame) -> dict[str, Any]:
    """One line: means over the splits, gains with the interval of the corrected resampled t-test."""
    by_arm = {
        column: part.pivot(index="seed", columns="arm", values=column)
        for column in ("recall", "matched", "specificity", "others")
    }
    ratio, first = float(part["ratio"].mean()), part[part["arm"] == "synthetic"]
    line: dict[str, Any] = {"task": task, "splits": len(first), "rare images": f"{first['rare'].mean():.0f}",
                            "tested": f"{first['tested'].mean():.0f}"}  # fmt: skip
    for column, words in (("recall", "threshold of validation"), ("matched", "equal specificity")):
        arms = {arm: by_arm[column][arm].tolist() for arm in in_order(by_arm[column])}
        found = pool(arms, ratio)
        control, gain = found["best_control"], found["gain"]
        closed = found["oracle_gap_closed"]
        line |= {
            f"control ({words})": f"{control} {found['control']:.3f}",
            f"real, synthetic, oracle ({words})": ", ".join(
                f"{np.mean(arms[arm]):.3f}" for arm in ("real", "synthetic", "oracle") if arm in arms
            ),
            f"gain ({words})": "-" if not gain or not gain["ci95"] else spread(gain["mean"], gain["ci95"]),
            f"share of the gap ({words})": "-" if closed is None else f"{closed:.2f}",
        }
        if column == "recall":
            change = {name: (by_arm[name]["synthetic"] - by_arm[name][control]).mean() for name in ("specificity", "others")}
            line |= {name: f"{value:+.3f}" for name, value in change.items()}
    axes = {name: f"{values.mean():.2f}" for name, values in first.items() if name.startswith(AXIS) and values.notna().any()}
    return line | {"accepted": f"{first['accepted'].mean():.0f} of {first['made'].mean():.0f}",
                   "copies": f"{first['copies'].mean():.1f}"} | axes  # fmt: skip


def main(run: Path, overrides: list[str], tasks: list[str], first: int, count: int, to: Path) -> None:
    """Work out what `to` does not hold yet; print the table. After a change of code or recipe, name another file."""
    memory.keep_freed()
    data, cache = prepared.load(run), to.parent / ".cache"
    every = np.arange(len(data.frame))
    real = cached(chunks(data.pixels, every), cache)
    mirrored = cached(filter.flipped(chunks(data.pixels, every)), cache)
    recipe = load_config(run / "config.yaml", [f"name={run.name}", f"outputs={run.parent}"])
    words = prompts_of(recipe)

    @functools.cache
    def views() -> list[Features]:  # minutes of work, for one or two of the arms
        return augmented(recipe.model_copy(update={"seed": 0, "outputs": str(cache)}), data, every)

    done = pd.DataFrame(columns=["task", "seed", "overrides"])
    if to.exists():
        done = pd.read_csv(to, dtype={"overrides": str})  # all empty cells would be read as numbers
    if set(done["overrides"].fillna("")) - {" ".join(overrides)}:
        raise UserError(f"{to}: holds results with other overrides; name another file")
    for seed in range(first, first + count):
        for task in tasks:
            if ((done["task"] == task) & (done["seed"] == seed)).any():
                continue
            own = [*TASKS[task].overrides, f"seed={seed}", "evaluate.seeds=1", "evaluate.bootstrap=20", *overrides]
            with TemporaryDirectory() as outputs:
                config = load_config(TASKS[task].config, [*own, f"name={task}", f"outputs={outputs}"])
                found = results(config, words, redrawn(config, data), real, mirrored, views)
                done = pd.concat(
                    [done, pd.DataFrame({"task": task, "overrides": " ".join(overrides), **row} for row in found)],
                    ignore_index=True,
                )
            done.to_csv(to, index=False)
    print("\n".join(markdown([summary(task, part) for task, part in done.groupby("task", sort=False)])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, required=True, help="all of the run's data set")
    parser.add_argument("--first", type=int, default=100, help="seed of the first split")
    parser.add_argument("--splits", type=int, default=20, dest="count")
    parser.add_argument("--to", type=Path, default=Path("outputs/splits/results.csv"))
    main(**vars(parser.parse_args()))
