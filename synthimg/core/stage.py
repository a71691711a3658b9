"""What every stage shares: a folder that is done once its manifest is there, and files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import resource
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from ..config import Config
from ..errors import UserError

PACKAGES = ("synthimg", "torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "numpy", "pillow")
VOLATILE = ("manifest.json", "timing.json", "logs", "checkpoints")
"""Names left out of a manifest's output digests: itself, what differs from run to run, and what only serves resuming."""


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write atomically: a reader, or a kill at any moment, sees the old file or the new one, never a part.

    The temporary name is the same for every try, so a killed write leaves nothing behind that the next does not take over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_blocks(path: Path, shape: tuple[int, ...], blocks: Iterable[Any]) -> None:
    """Write uint8 arrays one after another as a single .npy of this shape, atomically, with one of them in memory.

    Plain writes, unlike a memory map, fail with an error instead of a bus error where the disk is full.
    """
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for block in blocks:
            file.write(block.tobytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, NaN refused."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, frame: Any) -> None:
    """Write a pandas frame as Parquet (or CSV by its ending), atomically and with the same bytes for the same content."""
    buffer = io.BytesIO()
    if path.suffix == ".csv":
        frame.to_csv(buffer, index=False)
    else:
        frame.to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())


def write_array(path: Path, array: Any) -> None:
    """Write a NumPy array as .npy, atomically."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def write_image(path: Path, image: Any) -> None:
    """Write a Pillow image as PNG, atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def check(config: Config) -> Path:
    """The run's folder, once it is known to hold this configuration or nothing yet; writes nothing.

    Raises:
        UserError: the folder belongs to another configuration, or to something else.
    """
    folder = config.folder
    recorded = folder / "config.yaml"
    mine = config.model_dump(mode="json", exclude={"outputs"})
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
                f"nothing was changed. Choose another name, e.g. name={config.name}-2"
            )
    elif not recorded.exists() and folder.is_dir() and any(path.name != _part(recorded).name for path in folder.iterdir()):
        raise UserError(f"{folder}: exists, is not empty and is not a run of synthimg; choose another name")
    return folder


def claim(config: Config) -> Path:
    """Make the run's folder and record the configuration, or check that it is the one recorded there.

    Raises:
        UserError: the folder belongs to another configuration (nothing is touched), or cannot be written.
    """
    folder = check(config)
    recorded = folder / "config.yaml"
    if any(folder.glob("*/manifest.json")):
        return folder
    mine = config.model_dump(mode="json", exclude={"outputs"})
    try:
        write_bytes(recorded, yaml.safe_dump(mine, sort_keys=False, allow_unicode=True).encode())
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    return folder


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(tree, dict):
        return {prefix: json.dumps(tree, default=str)}
    return {key: value for name, sub in tree.items() for key, value in flat(sub, f"{prefix}.{name}".lstrip(".")).items()}


def key(config: Config, name: str, sections: Iterable[str], after: Iterable[Path] = ()) -> dict[str, Any]:
    """What a stage's result depends on: its part of the configuration and the manifests of the stages before it."""
    tree = config.model_dump(mode="json")
    return {
        "stage": name,
        "config": {section: tree[section] for section in sections},
        "inputs": {folder.name: digest(folder / "manifest.json") for folder in after},
    }


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
