"""`kill -9` at the worst moments, then the same command: every file is bit for bit that of an unbroken run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


@pytest.mark.slow  # ten fresh processes
def test_killed_again_and_again_and_continued(tmp_path: Path) -> None:
    tree = tiny.settings(tiny.photographs(tmp_path / "data"), tmp_path / "killed", tiny.sd15(tmp_path / "base"))
    tree["finetune"] |= {"controlnet": "mask", "controlnet_steps": 8, "decoder_steps": 6}
    tree["generate"] |= {"count": COUNT, "detail": 1, "methods": {"text": 1, "image": 1, "controlnet": 1}}
    config, unbroken = tmp_path / "killed.yaml", tmp_path / "unbroken.yaml"
    config.write_text(yaml.safe_dump(tree))
    unbroken.write_text(yaml.safe_dump({**tree, "outputs": str(tmp_path / "unbroken")}))
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    run = tmp_path / "killed" / "tiny"
    for moment, (stage, reached) in MOMENTS.items():
        kill_when(start(config), lambda reached=reached: reached(run))  # type: ignore[misc]
        assert not (run / stage / "manifest.json").exists(), f"killed too late for: {moment}"
    assert start(config).wait(DEADLINE) == 0, config.with_suffix(".log").read_text()[-2000:]
    assert start(unbroken).wait(DEADLINE) == 0, unbroken.with_suffix(".log").read_text()[-2000:]

    assert contents(run) == contents(tmp_path / "unbroken" / "tiny")
    left = [path for path in tmp_path.rglob("*") if path.name.endswith((".part", ".tmp"))]
    assert not left
    assert not (run / "finetune" / "checkpoints").exists(), "a finished training keeps none of its moments"
