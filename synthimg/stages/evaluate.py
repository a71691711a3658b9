"""Do synthetic images raise recall on real ones? Pools the predictions of all parts and counts.

Test labels enter here, when all predictions and thresholds are written.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd

from ..config import Config
from ..core import extensions
from ..core.files import digest
from ..core.seeds import derive
from ..core.stage import check, enter, finish, is_done, key, require
from ..data import consent, generated
from ..data.prepared import prompts_of
from ..evaluation.arms import Arm, arms_of
from ..evaluation.choice import chosen_arm, read_choice, summary
from ..evaluation.judged import Judged, first_draw, judged_parts
from ..evaluation.names import METRICS
from ..evaluation.outcomes import pooled, test_images
from ..evaluation.portions import measure_portions
from ..evaluation.relevance import pooled_relevance
from ..evaluation.results import Results
from ..evaluation.results_file import write_results
from ..evaluation.sections import counts, followed, scored_outside, sides_of, trained_on
from ..evaluation.subgroups import check_pairs, subgrouped
from ..metrics.comparison import CHOSEN, Outcome, Test, compare_arms
from ..metrics.prevalence import in_the_field
from ..metrics.quality import assess
from ..vision.features import Extractor, choose


def evaluate_run(config: Config) -> Path:
    """Write `<run>/evaluate/metrics.json`.

    Raises:
        UserError: the folder is another configuration's, an earlier stage has not finished in a part, consent to an image
            has ended, a synthetic image cannot be read, `evaluate.subgroups` names an unknown attribute, or code from
            outside returns something else than it should.
    """
    config = config.whole
    started, run = time.monotonic(), check(config)
    for part in config.parts:
        require(part.folder / "classify", "the classifiers are not trained")
    parts = judged_parts(config)
    consent.recheck(config.dataset, parts[0].frame["path"])
    check_pairs(config, (name for name in parts[0].frame if name.startswith("attribute.")))
    folder, extractor = run / "evaluate", choose(config.evaluate)
    wanted = made_from(config, extractor)
    enter(folder, wanted)
    if is_done(folder, wanted):
        return folder
    judged, tested = pooled(parts, "predictions"), pd.concat([part.tested for part in first_draw(parts)])
    test = test_images(config, tested)
    recall, sides = compared(config, parts, judged, test), sides_of(config, parts, extractor)
    results = Results.model_validate({
        "rare_class": config.dataset.rare_class,
        "n": counts(config, parts),
        "quality": assess(extractor, sides, derive(config.seed, "quality")),
        "compliance": followed(parts, prompts_of(config)),
        "relevance": pooled_relevance([generated.relevance(part.config.folder) for part in parts]),
        "recall": recall,
        "subgroups": subgrouped(config, tested, judged, test, recall),
        "prevalence": in_the_field(judged, test, recall, config.evaluate.prevalence),
        "portions": portioned(config, parts, recall, judged, test),
        "extra": scored_outside(config.evaluate.metrics, sides, derive(config.seed, "extra")),
    })  # fmt: skip
    write_results(run, results)
    return finish(folder, wanted, started)


def made_from(config: Config, extractor: Extractor) -> dict[str, Any]:
    """The stage's key: configuration, the stages before it in every part, extractor, and the scores from outside."""
    names = ("generate", "filter", "classify")
    before = [config.root / "dataset", *(part.folder / name for part in config.parts for name in names)]
    sections = ("seed", "resolution", "device", "folds", "draws", "dataset", "evaluate")
    wanted = key(config, "evaluate", sections, before)
    code = extensions.sources_of(METRICS, config.evaluate.metrics)
    return wanted | {"extractor": extractor, "code": {name: digest(file) for name, file in code.items()}}


def compared(config: Config, parts: list[Judged], judged: dict[str, Outcome], test: Test) -> dict[str, Any]:
    """The section `recall` of metrics.json."""
    settings = config.evaluate
    arms = arms_of(settings.arms, settings.beside)
    choices = [choice for part in parts if (choice := read_choice(part.classified))]
    if choices:
        arms[CHOSEN] = chosen_arm(choices, arms)
    shown = {name: arms[name] for name in judged}
    found = compare_arms(judged, test, settings.specificity, [name for name, arm in shown.items() if not arm.control])
    if len(parts) > 1:
        found = without_tests(found)
    for name, described in found["arms"].items():
        arm = shown[name]
        described |= {"title": arm.title, "control": arm.control, "n_train": trained_on(parts, arm)}
        described["words"] = described_arm(config, name, arm)
    tuned = settings.classifier == "finetune"
    return {"folds": config.folds, "draws": config.redraws, "seeds": config.trainings, "classifier": settings.classifier,
            "specificity": settings.specificity, "steps": settings.steps if tuned else None,
            "batch_size": settings.batch_size if tuned else None, "synthetic_weight": settings.synthetic_weight,
            "beside": settings.beside, "choice": summary(choices) if choices else None, **found}  # fmt: skip


def described_arm(config: Config, name: str, arm: Arm) -> str:
    """What an arm is, for the report's table."""
    settings = config.evaluate
    if settings.choose and name == "synthetic":
        return "trained as inner cross-validation chose in each part; where it chose no synthetic images, the chosen control"
    beside = "the chosen control" if settings.choose else settings.beside
    return arm.words.format(beside=beside, weight=settings.synthetic_weight)


def without_tests(found: dict[str, Any]) -> dict[str, Any]:
    """The comparison less McNemar's test, which knows of one classifier: over several parts an image would count often."""
    gain = found["gain"] and found["gain"] | {"p": None}
    matched = found["matched"] and found["matched"] | {"gain": found["matched"]["gain"] | {"p": None}}
    return found | {"gain": gain, "matched": matched}


def portioned(
    config: Config, parts: list[Judged], recall: dict[str, Any], judged: dict[str, Outcome], test: Test
) -> dict[str, Any] | None:
    """The section `portions` of metrics.json; None where it is not asked for or there is nothing to divide."""
    best = recall["best_control"]
    if not config.evaluate.portions or "synthetic" not in judged or best is None:
        return None
    return measure_portions(parts, judged["synthetic"], judged[best], pooled(parts, "portions"), test)
