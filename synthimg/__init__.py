"""synthimg: synthetic images for rare classes, and an honest measure of whether they help.

from synthimg import load_config, run
report = run(load_config("configs/quickstart.yaml", ["seed=1"]))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Config": "config", "load_config": "config", "UserError": "errors", "run": "pipeline", "prepare": "stages.prepare",
    "finetune": "stages.finetune", "generate": "stages.generate", "filter_images": "stages.filter",
    "evaluate": "stages.evaluate", "report": "stages.report", "compare": "reporting.compare", "augment": "tools.augment",
    "init": "tools.init", "doctor": "tools.doctor", "pretrain": "pretrain.training", "preview": "tools.preview",
}  # fmt: skip
_NAMES = {"load_config": "load"}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import: `synthimg --help` should not wait for them
    if name in _PLACES:
        return getattr(import_module(f".{_PLACES[name]}", __name__), _NAMES.get(name, name))
    raise AttributeError(f"module 'synthimg' has no attribute '{name}'")
