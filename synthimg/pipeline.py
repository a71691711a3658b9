"""The whole flow, stage after stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .config import Config
from .core.device import choose_device
from .diffusion import base
from .evaluation.custom import find_classifier
from .stages.evaluate import evaluate_run
from .stages.filter import filter_images
from .stages.finetune import finetune_model
from .stages.generate import generate_images
from .stages.prepare import prepare_dataset
from .stages.report import write_report
from .vision.features import choose

STAGES: dict[str, Callable[[Config], Path]] = {
    "prepare": prepare_dataset,
    "finetune": finetune_model,
    "generate": generate_images,
    "filter": filter_images,
    "evaluate": evaluate_run,
    "report": write_report,
}


def run(config: Config, announce: Callable[[str], None] = lambda text: None) -> Path:
    """Run every stage that is not done yet; returns the report.

    Args:
        announce: told each stage's name before it starts.
    """
    foresee(config)
    for number, (name, stage) in enumerate(STAGES.items(), 1):
        announce(f"[{number}/{len(STAGES)}] {name}")
        stage(config)
    return config.folder / "report.html"


def foresee(config: Config) -> None:
    """Refuse at once what a stage not yet done would refuse after hours: a device, base or weights that are not there.

    Raises:
        UserError: as those stages raise it.
    """
    if not (config.folder / "generate" / "manifest.json").exists():
        choose_device(config.device)
        if config.draws:
            base.find(config.base)
    if not (config.folder / "evaluate" / "manifest.json").exists():
        choose(config.evaluate)
        if ":" in config.evaluate.classifier:
            find_classifier(config.evaluate.classifier)


def timings(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak memory (MiB) of each finished stage of a run."""
    folders = {name: folder / ("dataset" if name == "prepare" else name) / "timing.json" for name in STAGES}
    return {name: json.loads(path.read_text()) for name, path in folders.items() if path.exists()}
