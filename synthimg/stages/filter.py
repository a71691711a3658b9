"""Which synthetic images may train a classifier: those with the attributes asked for that copy nobody, do not repeat each
other and, where a model drew them, look like the rare class.

Judge and thresholds come from the training split (the classifier, the originals) and the validation split (how close
honest images come to the originals). Reserve and test images are not read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..attributes import captions
from ..attributes.estimators import measure
from ..config import Config
from ..core.files import write_json, write_table
from ..core.seeds import derive
from ..core.stage import check, enter, finish, is_done, key, over_parts, require
from ..data import consent
from ..data.generated import pictures, plan
from ..data.prepared import load, prompts_of
from ..data.splits import is_there
from ..evaluation.arms import TrainingSet
from ..evaluation.head import fit_head, power_normaliser
from ..evaluation.inputs import features_of, real_features
from ..evaluation.relevance import Real, measure_relevance
from ..evaluation.results_quality import RelevanceTest
from ..methods.base import composed
from ..metrics.nearest import copy_threshold, duplicates, nearest_neighbours
from ..reporting.relevance import doubts
from ..vision.features import Features, Pixels, chunks


class Known(NamedTuple):
    """Features of real images that the filter knows."""

    training: Features
    mirrored: Features
    """Of the training images' mirror images, in their order."""
    held_out: Features
    """Of the validation images."""
    threshold: float | None = None
    """Distance of a copy, where no image is held out to tell it from."""


@over_parts
def filter_images(config: Config) -> Path:
    """Judge every planned image and write `<run>/filter/decisions.parquet`, in plan order.

    Raises:
        UserError: the folder is another configuration's, an earlier stage has not finished, consent to an image has ended,
            or an image cannot be read.
    """
    started, run = time.monotonic(), check(config)
    data, rows = load(config), plan(run)
    consent.recheck(config.dataset, data.frame["path"])
    folder, ids = run / "filter", list(rows["id"])
    sections = ("seed", "resolution", "device", "dataset", "filter")
    wanted = key(config, "filter", sections, [config.root / "dataset", run / "generate"])
    enter(folder, wanted)
    if is_done(folder, wanted):
        return folder
    train, validation = (np.flatnonzero(data.frame["split"] == name) for name in ("train", "validation"))
    real, every = real_features(config, data), np.arange(len(data.frame))
    mirrored = features_of(config, flipped(chunks(data.pixels, every)))
    features = Known(real[train], mirrored[train], real[validation], copied(config))
    synthetic = features_of(config, pictures(run, ids, config.resolution))

    names = [column.removeprefix("measured.") for column in data.frame if column.startswith("measured.")]
    values = measured(pictures(run, ids, config.resolution), names)
    table, threshold = decide(config, data.frame, prompts_of(config), rows, values, synthetic, features)
    write_table(folder / "decisions.parquet", table)
    held_out = alike_rare(config, data.frame)
    sides = Real(data.frame.iloc[train], real[train]), Real(data.frame.iloc[held_out], real[held_out])
    judge_relevance(config, rows.assign(accepted=table["accepted"]), synthetic, *sides, folder)
    return finish(folder, wanted, started, {"copy_threshold": threshold})


def alike_rare(config: Config, frame: pd.DataFrame) -> NDArray[np.int64]:
    """Rows of the images among which the relevance test ranks the rare training images: those of validation.

    With a deployment, rare training images come from elsewhere. Then these do, too, from the same fold: among images from
    there a rare one would be told by where it comes from.
    """
    if not config.dataset.deployment or config.part == "final":
        return np.flatnonzero(frame["split"] == "validation")
    held_out = frame["split"].isin(["validation", "unused"])
    if config.part and config.folds > 1:
        held_out = frame["fold"] == (config.part.fold + 1) % config.folds
    return np.flatnonzero(held_out & ~is_there(frame, config.dataset.deployment))


def copied(config: Config) -> float | None:
    """For the final part, which holds out no image: the median distance of a copy in the other parts; else None.

    Raises:
        UserError: one of these is not filtered yet.
    """
    if config.part != "final":
        return None
    folders = [part.folder / "filter" for part in config.whole.parts]
    for folder in folders:
        require(folder, "the synthetic images are not filtered")
    found = [json.loads((folder / "manifest.json").read_text())["copy_threshold"] for folder in folders]
    return float(np.median(found))


def decide(
    config: Config, frame: pd.DataFrame, prompts: captions.Prompts, rows: pd.DataFrame,
    values: dict[str, NDArray[np.float64]], synthetic: Features, known: Known,
) -> tuple[pd.DataFrame, float]:  # fmt: skip
    """The table decisions.parquet, and the distance within which a picture is a copy.

    Args:
        rows: the plan; `values` are what its pictures measure, `synthetic` their features.
    """
    training, mirrored, held_out, given = known
    train = frame[frame["split"] == "train"]
    confidence = np.full(len(rows), np.nan)  # without a real rare image nothing can be asked to look like one
    if (train["label"] == config.dataset.rare_class).any():
        confidence = rare_confidence(training, train["label"].to_numpy(), synthetic, config.dataset.rare_class)
    originals = np.concatenate([training, mirrored])
    neighbour, distance = nearest_neighbours(synthetic, originals)
    threshold = copy_threshold(held_out, originals, config.filter.copy_quantile) if given is None else given
    categories = found(prompts, rows, values)
    missed = misses(rows, categories) & config.filter.attributes
    unlike = (confidence < config.filter.confidence) & ~rows["method"].isin(composed(rows["method"])).to_numpy()
    reason = reasons(synthetic, unlike, distance, missed, threshold)
    table = {
        "id": list(rows["id"]),
        "accepted": reason == "",
        "reason": reason,
        "confidence": confidence,
        "nearest": train["id"].to_numpy()[neighbour % len(training)],
        "distance": distance,
        **values,
        **categories,
    }
    return pd.DataFrame(table), threshold


def judge_relevance(
    config: Config, rows: pd.DataFrame, synthetic: Features, training: Real, held_out: Real, folder: Path
) -> None:
    """Write `relevance.json`, and warn of each method whose pictures are not shown to resemble real rare images."""
    rare = config.dataset.rare_class
    found = measure_relevance(rows, synthetic, training, held_out, rare, derive(config.seed, "relevance"))
    write_json(folder / "relevance.json", found)
    for doubt in doubts(RelevanceTest.model_validate(found), rare):
        tqdm.write(f"filter: {doubt}")


def flipped(parts: Iterator[Pixels]) -> Iterator[Pixels]:
    """Every picture mirrored left to right: fine-tuning may have learnt it either way round."""
    return (part[:, :, ::-1] for part in parts)


def rare_confidence(training: Features, labels: NDArray[np.object_], synthetic: Features, rare: str) -> NDArray[np.float64]:
    """Probability [N] of the rare class for synthetic features [N, D], by a head whose loss is weighted by class."""
    classes, codes = np.unique(labels.astype(str), return_inverse=True)
    ready = power_normaliser(training)
    known = TrainingSet(ready(training), codes, np.ones(len(codes)))
    probabilities = fit_head(known, len(classes), ready(synthetic), balance="loss")
    return probabilities[:, int(np.flatnonzero(classes == rare)[0])]


def reasons(
    synthetic: Features,
    unlike: NDArray[np.bool_],
    distance: NDArray[np.float64],
    missed: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.object_]:
    """Why each picture is refused: "class", "copy", "attribute" or "duplicate", the first that applies; else "".

    Args:
        unlike: which pictures do not look like the rare class.
        missed: which have another attribute than the one asked for.
        threshold: cosine distance within which a picture copies a training image, or an earlier accepted picture.
    """
    found = np.full(len(synthetic), "", object)
    found[missed] = "attribute"
    found[distance <= threshold] = "copy"
    found[unlike] = "class"
    found[duplicates(synthetic, threshold, found == "")] = "duplicate"
    return found


def measured(parts: Iterator[Pixels], names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Columns `measured.<name>` [N] of `attributes/estimators.py` over all parts."""
    found = [measure(part, names) for part in parts]
    return {f"measured.{name}": np.concatenate([part[name] for part in found]) for name in names}


def found(
    prompts: captions.Prompts, rows: pd.DataFrame, values: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.str_]]:
    """Columns `found.<attribute>` [N]: the measured category of each attribute in the plan that an estimator measures."""
    return {
        f"found.{name}": np.array(captions.categories(prompts.attributes[name], values[f"measured.{estimator}"]), str)
        for name, estimator in prompts.estimators.items()
        if f"attribute.{name}" in rows
    }


def misses(rows: pd.DataFrame, categories: dict[str, NDArray[np.str_]]) -> NDArray[np.bool_]:
    """Which pictures [N] have in `categories` another value than the plan asked for; one that cannot be told is another."""
    missed = np.zeros(len(rows), bool)
    for column, seen in categories.items():
        asked = rows[column.replace("found.", "attribute.", 1)].to_numpy(str)
        missed |= (asked != "") & (asked != seen)
    return missed
