"""The whole flow, stage after stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .config import Config, Part
from .core.device import choose_device
from .diffusion import base
from .evaluation.custom import find_classifier
from .stages.classify import classify_images
from .stages.evaluate import evaluate_run
from .stages.filter import filter_images
from .stages.finetune import finetune_model
from .stages.generate import generate_images
from .stages.prepare import prepare_dataset
from .stages.report import write_report
from .vision.features import choose

EACH: dict[str, Callable[[Config], Path]] = {
    "finetune": finetune_model,
    "generate": generate_images,
    "filter": filter_images,
    "classify": classify_images,
}
"""The stages that work on one part of a run after the other."""
STAGES: dict[str, Callable[[Config], Path]] = {
    "prepare": prepare_dataset,
    **EACH,
    "evaluate": evaluate_run,
    "report": write_report,
}


def run(config: Config, announce: Callable[[str], None] = lambda text: None) -> Path:
    """Run every stage that is not done yet; returns the report. With `part`, only that part, and its folder.

    Args:
        announce: told each stage's name, and which part it works on, before it starts.
    """
    foresee(config)
    parts, numbers = config.parts, {name: number for number, name in enumerate(STAGES, 1)}

    def tell(name: str, where: str = "") -> None:
        announce(f"[{numbers[name]}/{len(STAGES)}] {name}{where}")

    tell("prepare")
    prepare_dataset(config)
    for one in parts:
        for name, stage in EACH.items():
            if one.part != "final" or name != "classify":  # nothing is left to test the final part
                tell(name, _words(one))
                stage(one)
    if config.part:
        return config.folder
    for name in ("evaluate", "report"):
        tell(name)
        STAGES[name](config)
    return config.root / "report.html"


def _words(config: Config) -> str:
    """Which part it is, for people, who count from 1."""
    if not isinstance(config.part, Part):
        return f" ({config.part})" if config.part else ""
    draw = f", draw {config.part.draw + 1} of {config.redraws}" if config.redraws > 1 else ""
    return f" (fold {config.part.fold + 1} of {config.folds}{draw})"


def foresee(config: Config) -> None:
    """Refuse at once what a stage not yet done would refuse after hours: a device, base or weights that are not there.

    Raises:
        UserError: as those stages raise it.
    """
    if any(not (part.folder / "generate" / "manifest.json").exists() for part in config.parts):
        choose_device(config.device)
        if config.draws_with_model:
            base.find(config.base)
    if not (config.root / "evaluate" / "manifest.json").exists():
        choose(config.evaluate)
        if ":" in config.evaluate.classifier:
            find_classifier(config.evaluate.classifier)


def timings(config: Config) -> dict[str, dict[str, float]]:
    """Seconds and peak memory (MiB) of each finished stage of a run, over all its parts."""
    found = {}
    for name in STAGES:
        folders = [part.folder / name for part in config.parts] if name in EACH else [config.root / _folder(name)]
        spent = [json.loads((folder / "timing.json").read_text()) for folder in folders if (folder / "timing.json").exists()]
        if spent:
            found[name] = {"seconds": sum(one["seconds"] for one in spent),
                           "peak_memory_mib": max(one["peak_memory_mib"] for one in spent)}  # fmt: skip
    return found


def _folder(stage: str) -> str:
    return "dataset" if stage == "prepare" else stage
