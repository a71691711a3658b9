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

from ..attributes import captions
from ..config import Config
from ..core.seeds import derive
from ..core.stage import check, enter, finish, is_done, key, write_array, write_json, write_table
from ..data import consent
from ..data.generated import decisions, plan
from ..data.prepared import Prepared, load, prompts_of
from ..data.splits import check_splits
from ..evaluation.arms import (
    Arm,
    Fit,
    arms_of,
    available,
    classes_of,
    finetuned,
    headed,
    rare_features,
    rows_of,
    synthetic_features,
)
from ..evaluation.classifier import Probabilities
from ..evaluation.portions import OutcomeOf, measure_portions
from ..metrics.comparison import Outcome, Test, arrange, compare_arms
from ..metrics.compliance import assess_compliance
from ..metrics.quality import assess
from ..metrics.recall import threshold_at
from ..vision.features import Extractor, choose


def evaluate_run(config: Config) -> Path:
    """Write metrics.json, predictions.parquet and thresholds.parquet to `<run>/evaluate/`.

    Raises:
        UserError: the folder is another configuration's, an earlier stage has not finished, consent to an image has ended,
            a synthetic image cannot be read, or a split lacks images.
    """
    started, run = time.monotonic(), check(config)
    data, planned, decided = load(run), plan(run), decisions(run)
    consent.recheck(config.dataset, data.frame["path"])
    check_splits(data.frame, config.dataset.rare_class)
    folder, extractor = run / "evaluate", choose(config.evaluate)
    before = [run / name for name in ("dataset", "generate", "filter")]
    wanted = key(config, "evaluate", ("seed", "resolution", "device", "dataset", "evaluate"), before)
    wanted["extractor"] = extractor
    enter(folder, wanted)
    if is_done(folder, wanted):
        return folder
    accepted = list(decided.loc[decided["accepted"], "id"])
    names = available(config, data.frame, len(accepted))
    prepare = {"head": headed, "finetune": finetuned}[config.evaluate.classifier]
    fit = prepare(config, data, accepted)
    saved = folder / "checkpoints" / hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    jobs = [(name, number) for name in names for number in range(config.evaluate.seeds)]
    found = {
        job: kept(saved / f"{job[0]}-{job[1]}.npy", partial(fit, *job, accepted))
        for job in tqdm(jobs, desc="classifiers", disable=None)
    }

    predictions = pd.concat([predicted(config, data.frame, *job, found[job]) for job in jobs], ignore_index=True)
    thresholds = chosen(predictions, config.dataset.rare_class, config.evaluate.specificity)
    write_table(folder / "predictions.parquet", predictions)
    write_table(folder / "thresholds.parquet", thresholds)
    judged, test = outcomes(config, data.frame, predictions, thresholds), test_images(config, data.frame)
    measured = recall(config, data.frame, judged, test, len(accepted))
    again = partial(with_only, config, data.frame, fit, saved)
    metrics = {
        "rare_class": config.dataset.rare_class,
        "n": sizes(data.frame, decided, config.dataset.rare_class, len(planned)),
        "quality": quality(config, data, decided, extractor),
        "compliance": followed(planned, decided, prompts_of(config)),
        "recall": measured,
        "portions": portioned(config, planned[planned["id"].isin(accepted)], measured, judged, test, again),
    }
    write_json(folder / "metrics.json", metrics)
    return finish(folder, wanted, started)


def kept(file: Path, fit: Callable[[], Probabilities]) -> Probabilities:
    """One classifier's probabilities, from the killed run before where that got so far."""
    if not file.exists():
        write_array(file, fit())
    return np.asarray(np.load(file, allow_pickle=False), np.float64)


def predicted(config: Config, frame: pd.DataFrame, arm: str, number: int, probabilities: Probabilities) -> pd.DataFrame:
    """One classifier's rows of predictions.parquet, validation first."""
    names, _ = classes_of(frame)
    judged = frame.iloc[np.concatenate([rows_of(frame, "validation"), rows_of(frame, "test")])]
    score = probabilities[:, names.index(config.dataset.rare_class)]
    best = np.array(names, object)[probabilities.argmax(axis=1)]
    columns = {name: judged[name].to_numpy() for name in ("id", "label", "split")}
    return pd.DataFrame({"arm": arm, "seed": number, **columns, "score": score, "predicted": best})


def chosen(predictions: pd.DataFrame, rare: str, specificity: float) -> pd.DataFrame:
    """thresholds.parquet, from the validation images of the other classes alone."""
    seen = predictions[(predictions["split"] == "validation") & (predictions["label"] != rare)]
    rows = [
        {"arm": arm, "seed": number, "threshold": threshold_at(part["score"].to_numpy(np.float64), specificity)}
        for (arm, number), part in seen.groupby(["arm", "seed"], sort=False)
    ]
    return pd.DataFrame(rows)


def outcomes(config: Config, frame: pd.DataFrame, predictions: pd.DataFrame, thresholds: pd.DataFrame) -> dict[str, Outcome]:
    """What each arm's finished predictions are on the test images."""
    shape = (config.evaluate.seeds, int((frame["split"] == "test").sum()))
    return {
        str(arm): Outcome(
            part["score"].to_numpy(np.float64).reshape(shape),
            part["predicted"].to_numpy(str).reshape(shape),
            thresholds.loc[thresholds["arm"] == arm, "threshold"].to_numpy(np.float64),
        )
        for arm, part in predictions[predictions["split"] == "test"].groupby("arm", sort=False)
    }


def test_images(config: Config, frame: pd.DataFrame) -> Test:
    """The test images, and the resamples of them that all arms share."""
    tested, rare = frame[frame["split"] == "test"], config.dataset.rare_class
    labels, groups = tested["label"].to_numpy(str), tested["group"].to_numpy(str)
    return arrange(labels, groups, rare, config.evaluate.bootstrap, config.seed)


def recall(config: Config, frame: pd.DataFrame, judged: dict[str, Outcome], test: Test, accepted: int) -> dict[str, Any]:
    """The section `recall` of metrics.json."""
    settings, compared, specs = config.evaluate, compare_arms(judged, test, config.evaluate.specificity), arms_of(config)
    tuned = settings.classifier == "finetune"
    for arm, described in compared["arms"].items():
        described["n_train"] = trained_on(frame, specs[arm], config.dataset.rare_class, accepted)
    return {"seeds": settings.seeds, "classifier": settings.classifier, "specificity": settings.specificity,
            "steps": settings.steps if tuned else None, "batch_size": settings.batch_size if tuned else None,
            "synthetic_weight": settings.synthetic_weight, "beside": settings.beside, **compared}  # fmt: skip


def with_only(config: Config, frame: pd.DataFrame, fit: Fit, saved: Path, ids: list[str]) -> Outcome:
    """What the synthetic arm does on the test images with these synthetic images alone."""
    name = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]
    files = [saved / f"only-{name}-{number}.npy" for number in range(config.evaluate.seeds)]
    found = [kept(file, partial(fit, "synthetic", number, ids)) for number, file in enumerate(files)]
    tables = [predicted(config, frame, "only", number, scores) for number, scores in enumerate(found)]
    table = pd.concat(tables, ignore_index=True)
    thresholds = chosen(table, config.dataset.rare_class, config.evaluate.specificity)
    return outcomes(config, frame, table, thresholds)["only"]


def portioned(
    config: Config, made: pd.DataFrame, measured: dict[str, Any], judged: dict[str, Outcome], test: Test, again: OutcomeOf
) -> dict[str, Any] | None:
    """The section `portions` of metrics.json; None where it is not asked for or there is nothing to divide.

    Args:
        made: the plan's rows of the accepted images.
        measured: the section `recall`.
    """
    best = measured["best_control"]
    if not config.evaluate.portions or "synthetic" not in judged or best is None:
        return None
    rare = measured["arms"]["synthetic"]["n_train"]["rare"]
    return measure_portions(made, rare, config.seed, judged["synthetic"], judged[best], test, again)


def trained_on(frame: pd.DataFrame, arm: Arm, rare: str, accepted: int) -> dict[str, int]:
    """How many different images an arm learns from (augmented views are not images of their own)."""
    used = frame[frame["split"].isin(["train", "reserve"] if arm.reserve else ["train"])]
    found = int((used["label"] == rare).sum())
    return {"rare": found, "other": len(used) - found, "synthetic": accepted if arm.synthetic else 0}


def quality(config: Config, data: Prepared, decided: pd.DataFrame, extractor: Extractor) -> dict[str, Any]:
    """The section `quality` of metrics.json: accepted images against real rare training and reserve images."""
    frame = data.frame
    rows, real = rare_features(config, data, extractor)
    accepted = decided[decided["accepted"]]
    made = synthetic_features(config, list(accepted["id"]), extractor)
    columns = [column for column in frame if column.startswith("measured.") and column in decided]
    attributes = {
        column.removeprefix("measured."): (frame[column].to_numpy(float)[rows], accepted[column].to_numpy(float))
        for column in columns
    }
    groups = frame["group"].to_numpy(str)[rows].tolist()
    return assess(extractor, real, groups, made, attributes, derive(config.seed, "quality"))


def followed(
    planned: pd.DataFrame, decided: pd.DataFrame, prompts: captions.Prompts
) -> dict[str, dict[str, dict[str, Any]] | None]:
    """The section `compliance` of metrics.json: each varied attribute by method, before any picture was refused for it."""
    columns = [column for column in planned if column.startswith("attribute.") and (planned[column] != "").any()]
    made = planned[["id", "method", *columns]].merge(decided, on="id", validate="1:1")
    sections: dict[str, dict[str, dict[str, Any]] | None] = {}
    for column in columns:
        name = column.removeprefix("attribute.")
        told, order = made[made[column] != ""], list(prompts.attributes[name].values)
        measured = {
            str(method): assess_compliance(part[column].to_numpy(str), part[f"found.{name}"].to_numpy(str), order)
            for method, part in told.groupby("method", sort=False)
            if f"found.{name}" in made
        }
        sections[name] = measured or None
    return sections


def sizes(frame: pd.DataFrame, decided: pd.DataFrame, rare: str, planned: int) -> dict[str, Any]:
    """The section `n` of metrics.json."""
    is_rare = (frame["label"] == rare).to_numpy()
    counts = {}
    for split in ("train", "reserve", "validation", "test"):
        inside = (frame["split"] == split).to_numpy()
        counts[f"{split}_rare"] = int((inside & is_rare).sum())
        counts[f"{split}_other"] = int((inside & ~is_rare).sum())
    del counts["reserve_other"]
    tested = frame[(frame["split"] == "test") & is_rare]
    rejected = decided.loc[~decided["accepted"], "reason"].value_counts().sort_index()
    return {
        **counts, "test_rare_groups": int(tested["group"].nunique()), "planned": planned, "generated": len(decided),
        "accepted": int(decided["accepted"].sum()),
        "rejected": {str(reason): int(number) for reason, number in rejected.items()},
    }  # fmt: skip
