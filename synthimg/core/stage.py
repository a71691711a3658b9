"""What every stage shares: a run's folder, and the folder of a stage's work, which is found by what it is made from.

The work lies in `<outputs>/.store/<stage>-<digest>/`, and `<run>/<stage>` is a link to it. So runs that differ in a later
stage share the earlier ones. A folder is done once its manifest is there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any, Protocol

import yaml

from ..config import PARTS, Config
from ..errors import UserError
from .files import CACHE, digest, kept_array, part_of, write_bytes, write_json

PACKAGES = ("synthimg", "torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "numpy", "pillow")
VOLATILE = ("manifest.json", "timing.json", "content.parquet", "logs", "checkpoints")
"""Names left out of a manifest's output digests: itself, what differs from run to run or place to place, and what only
serves resuming."""
STORE = ".store"
"""The folder beside the runs in which the stages' work lies."""
_locks: dict[Path, int] = {}
"""The folders in which this process works, and the open files that hold their locks, which end with the process."""


def check(config: Config) -> Path:
    """The folder of the run, or of the part, once the run's is known to hold this configuration or nothing yet.

    It writes nothing.

    Raises:
        UserError: the run's folder belongs to another configuration, or to something else.
    """
    folder = config.root
    recorded = folder / "config.yaml"
    mine = recorded_part(config)
    # a configuration for which nothing was finished, say one that was refused, may be mended in place
    if recorded.exists() and any(folder.glob("*/manifest.json")):
        try:
            theirs = yaml.safe_load(recorded.read_text())
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{recorded}: cannot be read as YAML: {' '.join(str(error).split())}") from error
        changed = sorted(flat(mine).items() ^ flat(theirs).items())
        if changed:
            keys = ", ".join(sorted({key for key, _ in changed}))
            raise UserError(
                f"{folder}: holds a run with another configuration (differs in {keys}); "
                f"nothing was changed. Choose another name, e.g. name={config.name}-2: what does not depend on these "
                "is taken over"
            )
        return config.folder
    others = folder.is_dir() and any(path.name != part_of(recorded).name for path in folder.iterdir())
    if others and not recorded.exists():  # asked last: another process may just have written it
        raise UserError(f"{folder}: exists, is not empty and is not a run of synthimg; choose another name")
    return config.folder


def recorded_part(config: Config) -> dict[str, Any]:
    """What a run's config.yaml holds: all that is the same for its parts, and does not name the place."""
    return config.model_dump(mode="json", exclude={"outputs", "part"})


def claim(config: Config) -> Path:
    """Make the run's folder and record the configuration, or check that it is the one recorded there.

    Raises:
        UserError: the folder belongs to another configuration (nothing is touched), or cannot be written.
    """
    check(config)
    folder = config.root
    if any(folder.glob("*/manifest.json")):
        return folder
    text = yaml.safe_dump(recorded_part(config), sort_keys=False, allow_unicode=True)
    try:
        with alone(folder):
            write_bytes(folder / "config.yaml", text.encode())
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    return folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block, say of the several that `torchrun` starts: the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """`files.kept_array`, where several processes that need the same array make it once, and others do not wait."""
    if file.exists():
        return kept_array(file, make)
    with alone(file.parent / "locks" / hashlib.sha256(file.name.encode()).hexdigest()[:2]):
        return kept_array(file, make)


def cache_of(config: Config) -> Path:
    """The folder for what is found by content, which all runs of an outputs folder share."""
    return config.root.parent / CACHE


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(tree, dict):
        return {prefix: json.dumps(tree, default=str)}
    return {key: value for name, sub in tree.items() for key, value in flat(sub, f"{prefix}.{name}".lstrip(".")).items()}


def key(config: Config, name: str, sections: Iterable[str], after: Iterable[Path] = ()) -> dict[str, Any]:
    """What a stage's result depends on: its part of the configuration and the manifests of the stages before it."""
    tree = config.model_dump(mode="json")
    part = {"folds": config.folds, "part": tree["part"]} if config.part else {}
    return {
        "stage": name,
        "config": {section: tree[section] for section in sections} | part,
        "inputs": {folder.relative_to(config.root).as_posix(): digest(folder / "manifest.json") for folder in after},
    }


def over_parts(stage: Callable[[Config], Path]) -> Callable[[Config], Path]:
    """A stage that does its work for each part of a run, one after the other. It returns the folder of the work; where there
    are several, the run's.
    """

    @wraps(stage)
    def each(config: Config) -> Path:
        folders = [stage(part) for part in config.parts]
        return folders[0] if len(folders) == 1 else config.root

    return each


def require(folder: Path, what: str, command: str = "") -> None:
    """Check that the stage whose work a later one reads has finished.

    Args:
        what: the complaint in words, "the images are not generated".
        command: the stage's command where it is not the folder's name.

    Raises:
        UserError: it has not.
    """
    if not (folder / "manifest.json").exists():
        raise UserError(f"{folder}: {what} yet; run `synthimg {command or folder.name}` first")


def is_done(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder holds the finished result of this very key."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        return False
    found = json.loads(manifest.read_text())
    return all(found.get(part) == value for part, value in wanted.items())


def enter(folder: Path, wanted: dict[str, Any], also: Any = None) -> Path:
    """Open the folder of a stage's work, taking over what any run has made of the same; returns the folder.

    Until `finish`, or until this process ends, no other process works there: it waits here.

    Args:
        folder: `<run>/<stage>`, which becomes a link. A folder that is none, say in a copied run, serves as it is.
        wanted: the stage's key.
        also: what else, beside the key and the program's code, the work has to share with that of another run.

    Raises:
        UserError: the folder holds work from other inputs; nothing is touched.
    """
    begun, real = (folder / "key.json"), folder.is_dir() and not folder.is_symlink()
    mine = begun.exists() and json.loads(begun.read_text()) == wanted
    if not (mine or real or (folder / "manifest.json").exists()):
        with alone(folder.parent):
            _link(folder, _outputs(folder.parent) / STORE / _address(wanted, also))
    if is_done(folder, wanted):
        return folder
    _lock(folder)
    if is_done(folder, wanted):  # by the process that worked there
        _unlock(folder)
    else:
        begin(folder, wanted)
    return folder


class Processes(Protocol):
    """What is asked of accelerate's `PartialState`."""

    @property
    def is_main_process(self) -> bool: ...

    def wait_for_everyone(self) -> None: ...


def enter_together(folder: Path, wanted: dict[str, Any], processes: Processes, also: Any = None) -> bool:
    """`enter` for a stage on which several processes work: the main one enters. Returns whether the work is done already."""
    if processes.is_main_process:
        enter(folder, wanted, also)
    processes.wait_for_everyone()
    done = is_done(folder, wanted)
    processes.wait_for_everyone()  # all have looked before one writes
    return done


def _outputs(folder: Path) -> Path:
    """The outputs folder that holds a run, or the run of a part."""
    is_part = folder.parent.name == PARTS and (folder.parents[1] / "config.yaml").exists()
    return folder.parents[2] if is_part else folder.parent


def _address(wanted: dict[str, Any], also: Any) -> str:
    facts = json.dumps([wanted, also, versions(), _code()], sort_keys=True)
    return f"{wanted['stage']}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


@cache
def _code() -> str:
    """Digest of the program and of what others have added to it: other code may make other things of the same inputs."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    others = [(package, entry) for package in distributions() for entry in package.entry_points]
    added = [f"{entry} {package.version}" for package, entry in others if entry.group.startswith("synthimg.")]
    found.update("\n".join(sorted(added)).encode())
    return found.hexdigest()


def _link(folder: Path, entry: Path) -> None:
    """Make `folder` a relative link to `entry`, at once: the link first, so that `synthimg clean` sees the entry is used."""
    part = part_of(folder)
    part.unlink(missing_ok=True)
    part.symlink_to(os.path.relpath(entry, folder.parent))
    part.replace(folder)
    entry.mkdir(parents=True, exist_ok=True)


def _lock(folder: Path) -> None:
    place = folder.resolve()
    place.mkdir(parents=True, exist_ok=True)
    if place in _locks:
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{folder}: another process works there; waiting until it has ended", file=sys.stderr, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    _locks[place] = handle


def _unlock(folder: Path) -> None:
    handle = _locks.pop(folder.resolve(), None)
    if handle is not None:
        os.close(handle)


def begin(folder: Path, wanted: dict[str, Any]) -> None:
    """Note what the folder's work is for before it starts, or check that work found there is for the same.

    Raises:
        UserError: the folder holds work from other inputs, say of a data set prepared anew since; nothing is touched.
    """
    path = folder / "key.json"
    if path.exists() and json.loads(path.read_text()) != wanted:
        raise UserError(
            f"{folder}: holds work from other inputs than the stages before it now have; nothing was changed. "
            f"Delete that folder to do it anew, or choose another name"
        )
    write_json(path, wanted)


def finish(folder: Path, wanted: dict[str, Any], started: float, extra: dict[str, Any] | None = None) -> Path:
    """Write timing.json, then manifest.json: the completion marker, and the last file a stage writes.

    Args:
        started: `time.monotonic()` at the stage's start.
        extra: further facts of this stage, deterministic ones only.
    """
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if platform.system() == "Darwin" else 1)
    seconds = round(time.monotonic() - started, 1)
    write_json(folder / "timing.json", {"seconds": seconds, "peak_memory_mib": peak_kib // 1024})
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in files if not set(path.relative_to(folder).parts) & set(VOLATILE)]
    kept = [path for path in kept if not path.name.startswith(".")]
    outputs = {path.relative_to(folder).as_posix(): digest(path) for path in kept}
    facts = {**wanted, **(extra or {}), "versions": versions(), "outputs": outputs}
    write_json(folder / "manifest.json", facts)
    _unlock(folder)
    return folder


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
