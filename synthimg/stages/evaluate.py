"""Do synthetic images raise recall on real ones? Trains every arm's classifier and writes the numbers.

Thresholds come from validation images. Test labels enter at the very end, when the finished predictions are counted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..config import Config
from ..core import extensions
from ..core.files import digest, write_array, write_table
from ..core.seeds import derive
from ..core.stage import check, enter, finish, is_done, key
from ..data import consent, generated
from ..data.prepared import load, prompts_of
from ..data.splits import check_splits
from ..evaluation.arms import ARMS, GROUP, Arm, arms_of, available
from ..evaluation.custom import custom_fit
from ..evaluation.finetune import finetuned
from ..evaluation.head import headed
from ..evaluation.names import METRICS
from ..evaluation.outcomes import outcomes_of, tables_of, test_images
from ..evaluation.portions import measure_portions
from ..evaluation.relevance import pooled_relevance
from ..evaluation.results import Results
from ..evaluation.results_file import write_results
from ..evaluation.sections import counts, followed, scored_outside, sides_of, trained_on
from ..evaluation.training import Fit, Probabilities
from ..metrics.comparison import Outcome, Test, compare_arms
from ..metrics.quality import assess
from ..vision.features import Extractor, choose

FITS = {"head": headed, "finetune": finetuned}


def evaluate_run(config: Config) -> Path:
    """Write metrics.json, predictions.parquet and thresholds.parquet to `<run>/evaluate/`.

    Raises:
        UserError: the folder is another configuration's, an earlier stage has not finished, consent to an image has
            ended, a synthetic image cannot be
            read, a split lacks images, or code from outside cannot be imported or returns something else than it should.
    """
    started, run = time.monotonic(), check(config)
    data, planned = load(run), generated.plan(run)
    decided, made = generated.decisions(run), generated.accepted(run)
    consent.recheck(config.dataset, data.frame["path"])
    check_splits(data.frame, config.dataset.rare_class)
    folder, extractor = run / "evaluate", choose(config.evaluate)
    wanted = made_from(config, extractor)
    enter(folder, wanted)
    if is_done(folder, wanted):
        return folder
    arms, accepted = trained_arms(config, data.frame, len(made)), list(made["id"])
    fit = FITS.get(config.evaluate.classifier, custom_fit)(config, data, accepted)
    saved = folder / "checkpoints" / hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    found = trained(config, list(arms), accepted, fit, saved)
    predictions, thresholds = tables_of(config, data.frame, found)
    write_table(folder / "predictions.parquet", predictions)
    write_table(folder / "thresholds.parquet", thresholds)
    judged, test = outcomes_of(predictions, thresholds), test_images(config, data.frame)
    recall = compared(config, data.frame, arms, judged, test, len(made))
    again = partial(with_only, config, data.frame, fit, saved)
    sides = sides_of(config, data, made, extractor)
    results = Results.model_validate({
        "rare_class": config.dataset.rare_class,
        "n": counts(config, data.frame, decided, len(planned)),
        "quality": assess(extractor, sides, derive(config.seed, "quality")),
        "compliance": followed(planned, decided, prompts_of(config)),
        "relevance": pooled_relevance([generated.relevance(run)]),
        "recall": recall,
        "portions": portioned(config, made, recall, judged, test, again),
        "extra": scored_outside(config.evaluate.metrics, sides, derive(config.seed, "extra")),
    })  # fmt: skip
    write_results(run, results)
    return finish(folder, wanted, started)


def made_from(config: Config, extractor: Extractor) -> dict[str, Any]:
    """The stage's key: configuration, stages before it, extractor, and the code from outside that it runs."""
    settings = config.evaluate
    before = [config.folder / name for name in ("dataset", "generate", "filter")]
    wanted = key(config, "evaluate", ("seed", "resolution", "device", "dataset", "evaluate"), before)
    code = extensions.sources_of(GROUP, [name for name in settings.arms if name not in ARMS])
    code |= extensions.sources_of(METRICS, settings.metrics)
    if settings.classifier not in FITS:
        code["classifier"] = extensions.source_of(settings.classifier, "evaluate.classifier")
    return wanted | {"extractor": extractor, "code": {name: digest(file) for name, file in code.items()}}


def trained_arms(config: Config, frame: pd.DataFrame, accepted: int) -> dict[str, Arm]:
    """The arms of this evaluation, in the order of the table."""
    settings = config.evaluate
    reserve = bool((frame["split"] == "reserve").any())
    asked = arms_of(settings.arms, settings.beside)
    return available(asked, settings.classifier, accepted=accepted > 0, reserve=reserve)


def trained(
    config: Config, arms: list[str], accepted: list[str], fit: Fit, saved: Path
) -> dict[tuple[str, int], Probabilities]:
    """Probabilities by arm and number of the seed, with all accepted images."""
    jobs = [(name, number) for name in arms for number in range(config.evaluate.seeds)]
    return {
        job: kept(saved / f"{job[0]}-{job[1]}.npy", partial(fit, *job, accepted))
        for job in tqdm(jobs, desc="classifiers", disable=None)
    }


def kept(file: Path, fit: Callable[[], Probabilities]) -> Probabilities:
    """One classifier's probabilities, from the killed run before where that got so far."""
    if not file.exists():
        write_array(file, fit())
    return np.asarray(np.load(file, allow_pickle=False), np.float64)


def compared(
    config: Config, frame: pd.DataFrame, arms: dict[str, Arm], judged: dict[str, Outcome], test: Test, accepted: int
) -> dict[str, Any]:
    """The section `recall` of metrics.json."""
    settings = config.evaluate
    found = compare_arms(judged, test, settings.specificity, [name for name, arm in arms.items() if not arm.control])
    for name, described in found["arms"].items():
        arm = arms[name]
        described |= {"title": arm.title, "control": arm.control, "n_train": trained_on(config, frame, arm, accepted)}
        described["words"] = arm.words.format(beside=settings.beside, weight=settings.synthetic_weight)
    tuned = settings.classifier == "finetune"
    return {"seeds": settings.seeds, "classifier": settings.classifier, "specificity": settings.specificity,
            "steps": settings.steps if tuned else None, "batch_size": settings.batch_size if tuned else None,
            "synthetic_weight": settings.synthetic_weight, "beside": settings.beside, **found}  # fmt: skip


def with_only(config: Config, frame: pd.DataFrame, fit: Fit, saved: Path, ids: list[str]) -> Outcome:
    """What the synthetic arm does on the test images with these synthetic images alone."""
    name = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]
    files = [saved / f"only-{name}-{number}.npy" for number in range(config.evaluate.seeds)]
    found = {("only", number): kept(file, partial(fit, "synthetic", number, ids)) for number, file in enumerate(files)}
    return outcomes_of(*tables_of(config, frame, found))["only"]


def portioned(
    config: Config,
    made: pd.DataFrame,
    recall: dict[str, Any],
    judged: dict[str, Outcome],
    test: Test,
    again: Callable[[list[str]], Outcome],
) -> dict[str, Any] | None:
    """The section `portions` of metrics.json; None where it is not asked for or there is nothing to divide.

    Args:
        made: rows of the accepted images.
        recall: the section `recall`.
        again: what the synthetic arm does with these images alone.
    """
    best = recall["best_control"]
    if not config.evaluate.portions or "synthetic" not in judged or best is None:
        return None
    rare = recall["arms"]["synthetic"]["n_train"]["rare"]
    return measure_portions(made, rare, config.seed, judged["synthetic"], judged[best], test, again)
