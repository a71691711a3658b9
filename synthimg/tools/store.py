"""What lies in an outputs folder: the runs, the stages' work that they share, and what of it no run needs any more."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..config import PARTS
from ..core.files import expanded
from ..core.stage import STORE
from ..errors import UserError
from ..evaluation.results_file import read_results
from ..reporting.report import STAGES
from ..reporting.wording import verdict_on

MIB = 2**20


class Run(NamedTuple):
    """One run as it lies in its outputs folder."""

    name: str
    done: list[str]
    """The stages that have finished, in their order."""
    mib: float
    """Of all that it refers to, also where other runs do so, too."""
    verdict: str
    """The first sentence of its report; empty before the evaluation."""


def list_runs(outputs: str | Path = "outputs") -> list[Run]:
    """The runs in an outputs folder, by name.

    Raises:
        UserError: there is no such folder.
    """
    return [_run(folder) for folder in _folders(expanded(outputs))]


def free_store(outputs: str | Path = "outputs", dry_run: bool = False) -> dict[str, float]:
    """Delete the stages' work to which no run of an outputs folder refers, unless a process works on it.

    Args:
        dry_run: delete nothing, only say what would be.

    Returns:
        The size (MiB) of what was deleted, by name.

    Raises:
        UserError: there is no such folder.
    """
    outputs = expanded(outputs)
    _folders(outputs)  # refuses a folder that is not there
    freed = {}
    for entry in sorted((outputs / STORE).glob("*")):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        size = _mib(entry)
        # asked last and for each: freeing the others takes time, in which a run may have begun that needs this one
        if entry.resolve() in _used(outputs) or _is_busy(entry):
            continue
        freed[entry.name] = size
        if not dry_run:
            gone = entry.with_name(f".freed-{entry.name}")  # at once: half of it must never be taken for the whole
            entry.rename(gone)
            shutil.rmtree(gone)
    if not dry_run:
        for rest in (outputs / STORE).glob(".freed-*"):  # of a process that was killed here
            shutil.rmtree(rest)
    return freed


def _used(outputs: Path) -> set[Path]:
    """What the runs refer to. Every link counts, one that a killed process did not put into its place, too."""
    places = [place for folder in _folders(outputs) for place in (folder, *_parts(folder))]
    return {path.resolve() for place in places for path in place.iterdir() if path.is_symlink()}


def _parts(run: Path) -> list[Path]:
    return sorted(path for path in (run / PARTS).glob("*") if path.is_dir())


def _folders(outputs: Path) -> list[Path]:
    if not outputs.is_dir():
        raise UserError(f"{outputs}: no such folder; expected one that holds runs, e.g. outputs")
    return sorted(path for path in outputs.iterdir() if path.is_dir() and (path / "config.yaml").exists())


def _run(folder: Path) -> Run:
    done = [name for name in (*STAGES, "report") if _is_done(folder, name)]
    return Run(folder.name, done, _mib(folder), _verdict(folder) if "evaluate" in done else "")


def _is_done(run: Path, stage: str) -> bool:
    """Whether a stage has finished: in the run, or in all of its parts that were begun."""
    whole, parts = run / stage / "manifest.json", [part / stage / "manifest.json" for part in _parts(run)]
    return whole.exists() or (bool(parts) and all(file.exists() for file in parts))


def _verdict(folder: Path) -> str:
    """The headline; of a run whose results cannot be read, why: the others are listed all the same."""
    try:
        return verdict_on(read_results(folder)).headline
    except UserError as error:
        return str(error)


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in files_of(folder)) / MIB


def files_of(folder: Path) -> Iterator[Path]:
    """Every file of a folder, those behind its links, too."""
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (Path(parent) / name for name in names if (Path(parent) / name).is_file())


def _is_busy(entry: Path) -> bool:
    """Whether a process has the lock of a stage's work (`core.stage.enter`)."""
    handle = os.open(entry, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
