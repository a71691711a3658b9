"""Evaluated runs as they are read back to be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from ..config import PARTS
from ..core import files, stage
from ..errors import UserError
from ..evaluation.results import Results
from ..evaluation.results_file import read_results
from .wording import Verdict, verdict_on

DECISIVE = {
    "folds": "the number of folds",
    "specificity": "the wanted specificity",
    "classifier": "the classifier",
    "steps": "the classifier's steps",
    "batch_size": "the classifier's batch size",
    "synthetic_weight": "how much a synthetic image counts",
    "beside": "what the synthetic images join",
}
"""Fields of metrics.json's `recall` that must be equal for two recalls to be comparable."""


class Run(NamedTuple):
    name: str
    results: Results
    verdict: Verdict
    config: dict[str, str]
    """The configuration, flat: `finetune.steps` -> value as text."""
    test: frozenset[str]
    """Ids of the test images."""


def load(runs: list[Path]) -> list[Run]:
    """Read what is compared of each run.

    Raises:
        UserError: one named twice, or files missing.
    """
    paths = [files.expanded(run) for run in runs]
    resolved = [path.resolve() for path in paths]
    for path in (path for path, full in zip(paths, resolved, strict=True) if resolved.count(full) > 1):
        raise UserError(f"{path}: named twice")
    return [_load(path, name) for path, name in zip(paths, _names(resolved), strict=True)]


def _load(path: Path, name: str) -> Run:
    results = read_results(path)
    config, whole = path / "config.yaml", path / "classify" / "predictions.parquet"
    predictions = sorted(path.glob(f"{PARTS}/*/classify/predictions.parquet")) or [whole]
    for file in (file for file in (*predictions, config) if not file.exists()):
        raise UserError(f"{file}: no such file; {path} is not a run that has been evaluated")
    frame = pd.concat([pd.read_parquet(file, columns=["id", "split"]) for file in predictions])
    test = frozenset(frame.loc[frame.split == "test", "id"])
    settings = {key: _plain(text) for key, text in stage.flat(yaml.safe_load(config.read_text())).items()}
    return Run(name, results, verdict_on(results), settings, test)


def _names(paths: list[Path]) -> list[str]:
    """Folder names, with as many of the folders above as it takes to tell the runs apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _plain(text: str) -> str:
    """A value of `stage.flat` for the eye: strings without quotes."""
    value = json.loads(text)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
