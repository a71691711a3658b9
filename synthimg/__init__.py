"""synthimg: synthetic images for rare classes, and an honest measure of whether they help.

from synthimg import load_config, run
report = run(load_config("configs/quickstart.yaml", ["seed=1"]))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Config": "config", "load_config": "config", "UserError": "errors", "run": "run", "prepare": "prepare",
    "finetune": "finetune", "generate": "generate", "filter_images": "filter", "evaluate": "evaluate", "report": "report",
    "compare": "compare", "augment": "augment", "init": "init", "doctor": "doctor", "pretrain": "pretrain",
    "preview": "preview",
}  # fmt: skip
_NAMES = {"load_config": "load"}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import: `synthimg --help` should not wait for them
    if name in _PLACES:
        return getattr(import_module(f".{_PLACES[name]}", __name__), _NAMES.get(name, name))
    raise AttributeError(f"module 'synthimg' has no attribute '{name}'")
