"""Which synthetic images help a linear head: the experiments behind the quick start's recipe, without any test image.

python benchmarks/recipes.py outputs/RUN outputs/RUN ... --overrides generate.count=200

Each RUN is a fine-tuned run with `generate.detail` and a rare budget; one from each of several splits. Its plan (with the
overrides) is drawn with and without the detail of the start images, and each selection joins the real training images.
All classes are told apart, as in an evaluation. Recall of the rare class is taken on the images in reserve and in
validation where 5 % of the other validation images are above the threshold: the same images set the threshold and are
counted, so read differences, not levels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from synthimg.config import Config
from synthimg.core import files
from synthimg.data import prepared
from synthimg.data.prepared import Prepared, prompts_of
from synthimg.evaluation.arms import Balance, TrainingSet, smote
from synthimg.evaluation.head import fit_head, power_normaliser
from synthimg.evaluation.inputs import rare_rows
from synthimg.methods.base import composed
from synthimg.metrics.recall import auc
from synthimg.reading import load_config
from synthimg.stages import generate
from synthimg.stages.filter import rare_confidence
from synthimg.vision.features import Features, cached, chunks
from synthimg.vision.views import SYMMETRIES, symmetric

COUNTS = (0.1, 0.3, 1.0)
"""How much a synthetic image counts beside a real one."""


def drawn(config: Config, data: Prepared, folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The plan of a configuration and its pictures, uint8 [N, R, R, 3]."""
    model = files.digest(config.folder / "finetune" / "manifest.json")
    rows = generate.plan(config, prompts_of(config), data, model)
    generate.draw(config, data, rows, config.folder / "finetune", folder)
    return rows, np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in rows["id"]])


def scores(run: Path, overrides: list[str], cache: Path) -> Iterator[tuple[str, int, float, float]]:
    """Name, further rows, recall and AUC of each training set."""
    config = load_config(run / "config.yaml", [*overrides, f"outputs={run.parent}"])
    data, rare_class = prepared.load(run), config.dataset.rare_class
    frame = data.frame
    rare, split = (frame["label"] == rare_class).to_numpy(), frame["split"].to_numpy()

    def features(pixels: np.ndarray) -> Features:
        return cached([np.ascontiguousarray(pixels)], cache)

    def real(rows: NDArray[np.bool_]) -> Features:
        return cached(chunks(data.pixels, np.flatnonzero(rows)), cache)

    training = real(split == "train")
    mine = rare_rows(config, data, "train")
    turned = [cached(symmetric(data.pixels, mine, which), cache) for which in SYMMETRIES]
    ready = power_normaliser(training)
    names, labels = np.unique(frame["label"].to_numpy(str)[split == "train"], return_inverse=True)
    code = int(np.flatnonzero(names == rare_class)[0])
    ours, others = (real(rare & np.isin(split, ["validation", "reserve"])), real(~rare & (split == "validation")))
    queries = ready(np.concatenate([ours, others]))

    def score(
        name: str, more: Features, count: float = 1, balance: Balance = "none", smoothed: bool = False
    ) -> tuple[str, int, float, float]:
        inputs = ready(np.concatenate([training, more]))
        codes = np.concatenate([labels, np.full(len(more), code)])
        known = TrainingSet(inputs, codes, np.repeat([1.0, count], [len(training), len(more)]))
        found = fit_head(smote(known, 0) if smoothed else known, len(names), queries, balance=balance)[:, code]
        first, second = found[: len(ours)], found[len(ours) :]
        recall = float((first > np.quantile(second, config.evaluate.specificity)).mean())
        return name, len(more), recall, auc(first, second) or float("nan")

    nothing = training[:0]
    yield score("real", nothing)
    yield score("weighted", nothing, balance="loss")
    yield score("smote", nothing, smoothed=True)
    yield score("mirror images", np.concatenate(turned[:3]))
    yield score("mirror images and quarter turns", np.concatenate(turned))
    without = config.model_copy(update={"generate": config.generate.model_copy(update={"detail": 0.0})})
    rows, plain = drawn(without, data, cache / "recipes" / f"{run.name}-plain")
    rows, whole = drawn(config, data, cache / "recipes" / run.name)
    method, where = rows["method"].to_numpy(), {name: row for row, name in enumerate(frame["id"])}
    made, strengths = {"without detail": features(plain), "": features(whole)}, rows["strength"].to_numpy()
    sources = features(data.pixels[[where[name] for name in rows["source"][method == "from_common"]]])
    sets = {"common start images themselves, called rare": sources}
    for words, found in made.items():
        sets |= {f"{name} {words}": found[method == name] for name in rows["method"].unique()}
        sets |= {f"all {words}": found}
    for strength in sorted(set(strengths[~np.isnan(strengths)])):
        sets[f"strength {strength:g} alone"] = made[""][strengths == strength]
    confidence = rare_confidence(training, frame["label"].to_numpy()[split == "train"], made[""], rare_class)
    for least in (0.05, 0.2, 0.5):
        sets[f"all, confidence >= {least}"] = made[""][(confidence >= least) | np.isin(method, list(composed(method)))]
    for name, found in sets.items():
        for count in COUNTS:
            yield score(f"{name}, counting {count:g}", found, count)


def main(runs: list[Path], overrides: list[str], cache: Path) -> None:
    """Print one row per selection: the mean over the runs and each run's value."""
    tables = [pd.DataFrame(scores(run, overrides, cache), columns=["selection", "n", "recall", "auc"]) for run in runs]
    every = pd.concat(tables, keys=[run.name for run in runs], names=["run"]).reset_index()
    print("| selection | n | recall | by run | AUC |\n|---|---|---|---|---|")
    for name, part in every.groupby("selection", sort=False):
        by_run = " ".join(f"{value:.3f}" for value in part["recall"])
        print(f"| {name} | {part['n'].mean():.0f} | {part['recall'].mean():.3f} | {by_run} | {part['auc'].mean():.4f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--overrides", nargs="*", default=[])
    parser.add_argument("--cache", type=Path, default=Path("outputs/benchmarks/.cache"))
    main(**vars(parser.parse_args()))
