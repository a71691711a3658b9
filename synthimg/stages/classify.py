"""The stage `classify`: train every arm's classifier on one part of the run, and write what it says of held-out images.

Thresholds come from validation images. Test labels are not read here.
"""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..config import Config
from ..core import extensions
from ..core.files import digest, kept_array, write_table
from ..core.stage import check, enter, finish, is_done, key, over_parts
from ..data import consent, generated
from ..data.prepared import load
from ..data.splits import check_splits
from ..evaluation.arms import ARMS, GROUP, Arm, arms_of, available, parts_of
from ..evaluation.choice import Choice, applied, write_choice
from ..evaluation.choose import make_choice
from ..evaluation.custom import custom_fit
from ..evaluation.distance import with_distance
from ..evaluation.finetune import finetuned
from ..evaluation.head import extracted_of, headed
from ..evaluation.outcomes import tables_of
from ..evaluation.portions import portions_of
from ..evaluation.training import Fit, Probabilities

LATER = ("bootstrap", "extractor", "inception_weights", "metrics", "prevalence", "subgroups")
"""Keys of `evaluate` that only the evaluation reads: with another of these no classifier is trained anew."""
FITS = {"head": headed, "finetune": finetuned}


@over_parts
def classify_images(config: Config) -> Path:
    """Write predictions.parquet and thresholds.parquet to `<part>/classify/`; choice.json and portions.parquet where asked.

    Raises:
        UserError: the folder is another configuration's, an earlier stage has not finished, consent to an image has
            ended, a synthetic image cannot be read, a split lacks images, or code from outside cannot be imported or
            returns something else than it should.
    """
    started, run = time.monotonic(), check(config)
    data, made = load(config), generated.accepted(run)
    consent.recheck(config.dataset, data.frame["path"])
    check_splits(data.frame, config.dataset.rare_class, config.dataset.rare_budget)
    folder, wanted = run / "classify", made_from(config)
    enter(folder, wanted)
    if is_done(folder, wanted):
        return folder
    arms, choice = trained_arms(config, data.frame, len(made)), None
    if config.evaluate.choose:
        choice = make_choice(config, data.frame, extracted_of(config, data, list(made["id"])), made, arms)
        config, made, arms = settled(choice, config, made, arms)
    accepted = list(made["id"])
    fit = with_distance(FITS.get(config.evaluate.classifier, custom_fit)(config, data, accepted), config, data)
    saved = folder / "checkpoints" / hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    found = trained(config, [(arm, arm, accepted) for arm in arms], fit, saved)
    predictions, thresholds = tables_of(config, data.frame, found)
    if choice:
        predictions, thresholds = (
            choice.added(table, "synthetic" in config.evaluate.arms) for table in (predictions, thresholds)
        )
        write_choice(folder, choice)
    write_table(folder / "predictions.parquet", predictions)
    write_table(folder / "thresholds.parquet", thresholds)
    if config.evaluate.portions and "synthetic" in arms:
        rare = int(((data.frame["split"] == "train") & (data.frame["label"] == config.dataset.rare_class)).sum())
        portions = portions_of(made, rare, config.seed)
        if portions:  # a handful of pictures of one kind cannot be divided
            found = trained(config, [(part.name, "synthetic", part.ids) for part in portions], fit, saved)
            predictions, thresholds = tables_of(config, data.frame, found)
            write_table(folder / "portions.parquet", predictions.merge(thresholds, on=["arm", "seed"], validate="m:1"))
    return finish(folder, wanted, started)


def made_from(config: Config) -> dict[str, Any]:
    """The stage's key: configuration, stages before it, and the code from outside that it runs."""
    settings = config.evaluate
    before = [config.root / "dataset", config.folder / "generate", config.folder / "filter"]
    wanted = key(config, "classify", ("seed", "resolution", "device", "dataset", "evaluate"), before)
    for name in LATER:
        del wanted["config"]["evaluate"][name]
    code = extensions.sources_of(GROUP, sorted({parts_of(name)[0] for name in settings.arms} - set(ARMS)))
    if settings.classifier not in FITS:
        code["classifier"] = extensions.source_of(settings.classifier, "evaluate.classifier")
    return wanted | {"code": {name: digest(file) for name, file in code.items()}}


def settled(
    choice: Choice, config: Config, made: pd.DataFrame, arms: dict[str, Arm]
) -> tuple[Config, pd.DataFrame, dict[str, Arm]]:
    """The configuration, the images and the arms to train as they are by a choice."""
    left = {name: arm for name, arm in arms.items() if choice.recipe.methods or not arm.synthetic}
    return applied(config, choice.recipe), choice.used(made), left


def trained_arms(config: Config, frame: pd.DataFrame, accepted: int) -> dict[str, Arm]:
    """The arms of this part, in the order of the table."""
    settings = config.evaluate
    splits = frame.loc[frame["label"] == config.dataset.rare_class, "split"]
    asked = arms_of(settings.arms, settings.beside)
    rare, reserve = bool((splits == "train").any()), bool((splits == "reserve").any())
    # a fold in which no picture passed the filter trains without any: left out, its test images would be, too
    synthetic = accepted > 0 or (config.part is not None and rare)
    return available(asked, settings.classifier, accepted=synthetic, reserve=reserve, rare=rare)


def trained(
    config: Config, jobs: list[tuple[str, str, list[str]]], fit: Fit, saved: Path
) -> dict[tuple[str, int], Probabilities]:
    """Probabilities by name and number of the seed.

    Args:
        jobs: a name, the arm, and the ids of the synthetic images that it may use.
    """
    every = [(job, number) for job in jobs for number in range(config.trainings)]
    return {
        (name, number): np.asarray(
            kept_array(saved / f"{_file_name(name)}-{number}.npy", partial(fit, arm, number, ids)), np.float64
        )
        for (name, arm, ids), number in tqdm(every, desc="classifiers", disable=None)
    }


def _file_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
