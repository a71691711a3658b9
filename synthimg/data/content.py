"""The content of a data set's files: their digests, and whether each is still the file that was read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

STATE = ["size", "mtime_ns", "ctime_ns", "inode"]
"""While these are equal, nobody has written to a file: programs can set back its `mtime`, but not its `ctime`."""
MOST = 2**63 - 1
"""Some file systems number their files beyond what int64 holds."""
hashed = partial(blake2b, digest_size=16)
"""What a file's bytes are digested by, wherever they are read."""


def state(path: Path) -> tuple[int, int, int, int]:
    """A file's size (bytes), change times of its content and of its inode (ns), and inode; -1 where it cannot be seen."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return -1, -1, -1, -1
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino & MOST


def states(root: Path, names: Sequence[str]) -> np.ndarray:
    """int64 [N, 4], the columns `STATE` of each file; all -1 for the name ""."""
    found = [state(root / name) if name else (-1, -1, -1, -1) for name in names]
    return np.array(found, np.int64).reshape(-1, len(STATE))


def digest(path: Path) -> str:
    """32 hex digits of a file's bytes (BLAKE2b); "" where it is no regular file or cannot be read."""
    if not path.is_file():  # a pipe would be waited for
        return ""
    try:
        with path.open("rb") as file:
            return file_digest(file, hashed).hexdigest()
    except (OSError, ValueError):
        return ""


def changed(root: Path, recorded: pd.DataFrame) -> list[str]:
    """Names of the files that do not hold the bytes any more that were recorded. Only touched files are read.

    Args:
        recorded: columns `path`, `digest` ("" if it could not be read) and `STATE`, one row for each file.
    """
    touched = (states(root, list(recorded["path"])) != recorded[STATE].to_numpy()).any(axis=1)
    suspects = recorded[touched]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(digest, [root / name for name in suspects["path"]])
        bar = tqdm(found, total=len(suspects), desc="files looked at again", unit="file", disable=len(suspects) < 1000)
        return [name for name, old, now in zip(suspects["path"], suspects["digest"], bar, strict=True) if old != now]


def table(records: pd.DataFrame, digests: np.ndarray, seen: np.ndarray) -> pd.DataFrame:
    """What `changed` compares with: one row for each picture and mask.

    Args:
        records: columns `path`, `mask`.
        digests: str [N, 2], of picture and mask.
        seen: int64 [N, 2, 4], the states they had before they were read.
    """
    names = records[["path", "mask"]].to_numpy(object).ravel()
    every = pd.DataFrame(seen.reshape(-1, len(STATE)), columns=STATE).assign(path=names, digest=digests.ravel())
    return every[["path", "digest", *STATE]][names != ""].drop_duplicates("path", ignore_index=True)
