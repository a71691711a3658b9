"""synthimg: synthetic images for rare classes, and an honest measure of whether they help.

from synthimg import load_config, run
report = run(load_config("configs/quickstart.yaml", ["seed=1"]))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config
    from .errors import UserError
    from .pipeline import run
    from .pretrain.training import pretrain_base
    from .reading import load_config
    from .reporting.compare import compare_runs
    from .stages.classify import classify_images
    from .stages.evaluate import evaluate_run
    from .stages.filter import filter_images
    from .stages.finetune import finetune_model
    from .stages.generate import generate_images
    from .stages.prepare import prepare_dataset
    from .stages.report import write_report
    from .tools.augment import augment_dataset
    from .tools.doctor import describe_machine
    from .tools.edit import edit_images
    from .tools.init import write_config
    from .tools.preview import preview_grid
    from .tools.store import free_store, list_runs

__all__ = [
    "Config",
    "UserError",
    "augment_dataset",
    "classify_images",
    "compare_runs",
    "describe_machine",
    "edit_images",
    "evaluate_run",
    "filter_images",
    "finetune_model",
    "free_store",
    "generate_images",
    "list_runs",
    "load_config",
    "prepare_dataset",
    "pretrain_base",
    "preview_grid",
    "run",
    "write_config",
    "write_report",
]

_MODULES = {
    "Config": "config",
    "UserError": "errors",
    "augment_dataset": "tools.augment",
    "classify_images": "stages.classify",
    "compare_runs": "reporting.compare",
    "describe_machine": "tools.doctor",
    "edit_images": "tools.edit",
    "evaluate_run": "stages.evaluate",
    "filter_images": "stages.filter",
    "finetune_model": "stages.finetune",
    "free_store": "tools.store",
    "generate_images": "stages.generate",
    "list_runs": "tools.store",
    "load_config": "reading",
    "prepare_dataset": "stages.prepare",
    "pretrain_base": "pretrain.training",
    "preview_grid": "tools.preview",
    "run": "pipeline",
    "write_config": "tools.init",
    "write_report": "stages.report",
}


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import: `synthimg --help` should not wait for them
    if name not in _MODULES:
        raise AttributeError(f"module 'synthimg' has no attribute '{name}'")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
