"""What a training runs on: accelerate's view of device, precision, processes and tracker."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import filter_trackers

from ..config import Config
from ..core.device import choose_device, choose_precision
from ..errors import UserError


def accelerator_for(config: Config, folder: Path) -> Accelerator:
    """The accelerator of a run's fine-tuning.

    Args:
        folder: the stage's folder; the tracker writes to `logs` there.

    Raises:
        UserError: the tracker's package is not installed, or there is no such tracker.
    """
    settings, device = config.finetune, choose_device(config.device)
    precision, tracker = choose_precision(settings.precision, device), _tracker(settings.tracker, folder)
    # accelerate keeps the precision and the device of the first Accelerator for the whole process
    AcceleratorState._reset_state(True)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=settings.accumulate,
        log_with=tracker,
        project_dir=folder / "logs",
    )


def _tracker(name: str, folder: Path) -> str | None:
    if name == "none":
        return None
    try:
        found = filter_trackers(name, folder)
    except ValueError as error:
        raise UserError(f"finetune.tracker '{name}': {' '.join(str(error).split())}") from error
    if not found:
        raise UserError(f"finetune.tracker '{name}': its package is not installed; install it, or use none")
    return name
