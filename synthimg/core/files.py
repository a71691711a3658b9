"""Files that appear whole or not at all: a reader, or a kill at any moment, sees the old one or the new one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable
from mmap import mmap
from pathlib import Path
from typing import Any

CACHE = ".cache"
"""The folder beside the runs for what is found by content; it may be deleted at any time."""


def expanded(path: str | Path) -> Path:
    """A path that a person wrote: `~` is the home folder. Every key and argument that is a path is read by this."""
    return Path(os.path.expanduser(path))


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
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
    part = part_of(path)
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for block in blocks:
            file.write(block.tobytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def part_of(path: Path) -> Path:
    """Where a file lies until it is whole; the same for every try, so that a killed one leaves nothing behind."""
    return path.with_name(f".{path.name}.part")


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let a folder appear whole: written beside its place, then renamed.

    Args:
        write: fills the empty folder that it is given.
    """
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    part.replace(folder)


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


def kept_array(path: Path, make: Callable[[], Any]) -> Any:
    """The NumPy array of a file; made and written first where there is none, as before a killed process got so far."""
    import numpy as np

    if not path.exists():
        write_array(path, make())
    return np.load(path, allow_pickle=False)


def rows_of(array: Any, rows: Any) -> Any:
    """A copy of some rows of an array. Of a whole file's memory map the pages are let go at once: read chunk by chunk, a
    file of any size takes no more memory than a chunk.
    """
    import numpy as np

    if isinstance(array, np.memmap) and isinstance(array.base, mmap):  # not a part of one
        array = np.load(array.filename, mmap_mode="r")
    return np.array(array[rows])


def write_image(path: Path, image: Any) -> None:
    """Write a Pillow image as PNG, atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
