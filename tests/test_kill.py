"""`kill -9` at the worst moments, then the same command: every file is bit for bit that of an unbroken run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from synthimg.core.files import digest

COUNT = 12
VOLATILE = {"timing.json", "logs", "checkpoints"}
DEADLINE = 600
"""Seconds after which a process that reached neither the moment nor its end is given up."""


def some(folder: Path, pattern: str, least: int = 1, below: int = sys.maxsize) -> bool:
    return least <= len(list(folder.glob(pattern))) < below


MOMENTS: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "first checkpoint of the decoder": ("finetune", lambda run: some(run, "finetune/checkpoints/decoder/step-*")),
    "first checkpoint of the adapter": ("finetune", lambda run: some(run, "finetune/checkpoints/adapter/step-*")),
    "second checkpoint of the ControlNet": ("finetune", lambda run: some(run, "finetune/checkpoints/controlnet/step-*", 2)),
    "some of the images": ("generate", lambda run: some(run, "generate/images/*.png", 1, COUNT)),
    "first features of the filter": ("filter", lambda run: some(run, "../.cache/features/*.npy")),
    "second classifier": ("classify", lambda run: some(run, "classify/checkpoints/*/*.npy", 2)),
}
"""Stage and sign, in the order in which a run reaches them."""


def start(config: Path) -> subprocess.Popen[bytes]:
    with config.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "synthimg", "run", str(config)], stdout=log, stderr=log)


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    """Watch the file system and send SIGKILL at the moment."""
    end = time.monotonic() + DEADLINE
    while not reached():
        assert process.poll() is None, "the run ended before the moment came"
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def contents(run: Path) -> dict[str, str]:
    kept = {path.relative_to(run): path for path in tiny.files(run) if not VOLATILE & set(path.relative_to(run).parts)}
    return {name.as_posix(): digest(path) for name, path in kept.items()}


MOMENTS_OF_PARTS: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "some images of the second part": (
        "parts/fold1-draw0/generate", lambda run: some(run, "parts/fold1-draw0/generate/images/*.png", 1, COUNT),
    ),
    "second classifier of the third part": (
        "parts/fold2-draw0/classify", lambda run: some(run, "parts/fold2-draw0/classify/checkpoints/*/*.npy", 2),
    ),
    "first files of a second draw": ("parts/fold0-draw1/filter", lambda run: some(run, "parts/fold0-draw1/filter")),
}  # fmt: skip
"""The same in a run of three folds and two draws."""


def killed_and_continued(place: Path, tree: dict[str, Any], moments: dict[str, tuple[str, Callable[[Path], bool]]]) -> Path:
    """A run that was killed at each of the moments, once it is known to have the files of an unbroken one."""
    config, unbroken = place / "killed.yaml", place / "unbroken.yaml"
    config.write_text(yaml.safe_dump({**tree, "outputs": str(place / "killed")}))
    unbroken.write_text(yaml.safe_dump({**tree, "outputs": str(place / "unbroken")}))
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    run = place / "killed" / "tiny"
    for moment, (stage, reached) in moments.items():
        kill_when(start(config), lambda reached=reached: reached(run))  # type: ignore[misc]
        assert not (run / stage / "manifest.json").exists(), f"killed too late for: {moment}"
    assert start(config).wait(DEADLINE) == 0, config.with_suffix(".log").read_text()[-2000:]
    assert start(unbroken).wait(DEADLINE) == 0, unbroken.with_suffix(".log").read_text()[-2000:]

    assert contents(run) == contents(place / "unbroken" / "tiny")
    left = [path for path in place.rglob("*") if path.name.endswith((".part", ".tmp"))]
    assert not left
    return run


@pytest.mark.slow  # ten fresh processes
def test_killed_again_and_again_and_continued(tmp_path: Path) -> None:
    tree = tiny.settings(tiny.photographs(tmp_path / "data"), tmp_path, tiny.sd15(tmp_path / "base"))
    tree["finetune"] |= {"controlnet": "mask", "controlnet_steps": 8, "decoder_steps": 6}
    tree["generate"] |= {"count": COUNT, "detail": 1, "methods": {"text": 1, "image": 1, "controlnet": 1}}
    run = killed_and_continued(tmp_path, tree, MOMENTS)
    assert not (run / "finetune" / "checkpoints").exists(), "a finished training keeps none of its moments"


@pytest.mark.slow  # five fresh processes, each with six parts
def test_killed_within_parts_and_continued(tmp_path: Path) -> None:
    tree = tiny.settings(tiny.photographs(tmp_path / "data", rare=18, common=24), tmp_path, "embedded", folds=3, draws=2)
    tree["generate"] |= {"count": COUNT, "methods": {"text": 0, "procedural": 1, "transplant": 1}}
    killed_and_continued(tmp_path, tree, MOMENTS_OF_PARTS)
