"""Which synthetic images help a linear head: the experiments behind the quick start's recipe, without any test image.

python benchmarks/recipes.py outputs/RUN outputs/RUN ... --overrides generate.count=200

Each RUN is a fine-tuned run with `generate.detail` and a rare budget; one from each of several splits. Its plan (with the
overrides) is drawn with and without the detail of the start images, and each selection joins the real training images.
Recall of the rare class is taken on the images in reserve and in validation where 5 % of the other validation images are
above the threshold: the same images set the threshold and are counted, so read differences, not levels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from synthimg import generate, stage
from synthimg.arms import filled, mirror_images
from synthimg.classifier import head, smote, standard
from synthimg.config import Config, load
from synthimg.dataset import prepared
from synthimg.dataset.prepared import Prepared, prompts_of
from synthimg.filter import rare_confidence
from synthimg.metrics.features import Features, cached, chunks
from synthimg.metrics.recall import auc

SEEDS = 3


def drawn(config: Config, data: Prepared, folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The plan of a configuration and its pictures, uint8 [N, R, R, 3]."""
    model = stage.digest(config.folder / "finetune" / "manifest.json")
    rows = generate.plan(config, prompts_of(config), data, model)
    generate.draw(config, data, rows, config.folder / "finetune", folder)
    return rows, np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in rows["id"]])


def scores(run: Path, overrides: list[str], cache: Path) -> Iterator[tuple[str, int, float, float]]:
    """Name, synthetic images, recall and AUC of each selection."""
    config = load(run / "config.yaml", [*overrides, f"outputs={run.parent}"])
    data, rare_class = prepared.load(run), config.dataset.rare_class
    frame = data.frame
    rare, split = (frame["label"] == rare_class).to_numpy(), frame["split"].to_numpy()

    def features(pixels: np.ndarray) -> Features:
        return cached([np.ascontiguousarray(pixels)], cache)

    def real(rows: NDArray[np.bool_]) -> Features:
        return cached(chunks(data.pixels, np.flatnonzero(rows)), cache)

    training = real(split == "train")
    labels, scale = rare[split == "train"].astype(np.int64), standard(training)
    held_out = [real(rare & np.isin(split, ["validation", "reserve"])), real(~rare & (split == "validation"))]

    def score(name: str, more: Features, balance: str = "none") -> tuple[str, int, float, float]:
        inputs = np.concatenate([training, more])
        codes = np.concatenate([labels, np.ones(len(more), np.int64)])
        return judged(name, len(more), inputs, codes, balance)

    def judged(
        name: str, count: int, inputs: Features, codes: NDArray[np.int64], balance: str
    ) -> tuple[str, int, float, float]:
        found = []
        for seed in range(SEEDS):
            both = head(inputs, codes, 2, np.concatenate(held_out), 400, 64, seed, balance, scale)[:, 1]  # type: ignore[arg-type]
            ours, others = both[: len(held_out[0])], both[len(held_out[0]) :]
            found.append((float((ours > np.quantile(others, config.evaluate.specificity)).mean()), auc(ours, others)))
        recall, area = np.mean(np.array(found, float), axis=0)
        return name, count, float(recall), float(area)

    nothing = training[:0]
    yield score("real", nothing)
    yield score("oversampled", nothing, "draws")
    yield score("weighted", nothing, "loss")
    yield judged("smote", 0, *smote(training, labels, 0, scale), "none")
    without = config.model_copy(update={"generate": config.generate.model_copy(update={"detail": 0.0})})
    rows, plain = drawn(without, data, cache / "recipes" / f"{run.name}-plain")
    rows, whole = drawn(config, data, cache / "recipes" / run.name)
    made = {"without detail": features(plain), "": features(whole)}
    method, where = rows["method"].to_numpy(), {name: row for row, name in enumerate(frame["id"])}
    yield score("mirror images", filled(cached(mirror_images(config, data), cache), len(rows)))
    sources = features(data.pixels[[where[name] for name in rows["source"][method == "from_common"]]])
    yield score("common start images themselves, called rare", sources)
    for words, found in made.items():
        for name in rows["method"].unique():
            yield score(f"{name} {words}", found[method == name])
        yield score(f"all {words}", found)
    strengths = rows["strength"].to_numpy()
    for strength in sorted(set(strengths[~np.isnan(strengths)])):
        yield score(f"all but strength {strength:g}", made[""][strengths != strength])
    confidence = rare_confidence(training, frame["label"].to_numpy()[split == "train"], made[""], rare_class, 0)
    for least in (0.2, 0.5):
        yield score(f"all, confidence >= {least}", made[""][confidence >= least])


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
