"""Every record's picture and mask decoded, in parts that a killed stage finds again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..config import Config
from ..core import files
from . import content, duplicates
from .images import UnreadableError
from .opening import Facts, Opened, open_record

PART = 256
"""Images decoded between two checkpoints."""
ONE_COLOUR = 2
"""Grey levels by which the thumbnail of a picture of one colour may differ: what a JPEG makes of it."""
Job = tuple[str, str]
"""The paths of a record's picture and mask, or ""."""


class Part(NamedTuple):
    """What was decoded of a run of records; pixels, masks and thumbnails stay on disk, one row per readable image."""

    folder: Path
    read: np.ndarray
    """bool [PART]: which records are readable."""
    digests: np.ndarray
    """str [PART, 2]: of the bytes of picture and mask; "" where there is no such file."""
    facts: pd.DataFrame
    """The columns of `opening.Facts` [n]."""
    plain: np.ndarray
    """bool [n]: pictures of one colour."""
    lost: list[tuple[str, str]]


class Decoded(NamedTuple):
    path: str
    digests: tuple[str, str]
    picture: Opened | str
    """Or why it cannot be read."""


def decode_all(
    usable: pd.DataFrame, states: np.ndarray, root: Path, config: Config, checkpoints: Path, wanted: Any
) -> list[Part]:  # fmt: skip
    """Decode every record in parts. Those are taken over that a killed run finished, if nobody has touched their files.

    Args:
        usable: columns `path`, `mask`.
        states: int64 [N, 2, 4], the state of each picture and mask, see `content.state`.
    """
    mine = checkpoints / sha256(repr(wanted).encode()).hexdigest()[:16]
    for other in checkpoints.glob("*"):
        if other != mine:
            shutil.rmtree(other)
    jobs: list[Job] = list(usable[["path", "mask"]].itertuples(index=False, name=None))
    parts = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(jobs), desc="images", unit="image") as bar:
        for start in range(0, len(jobs), PART):
            some, theirs = jobs[start : start + PART], states[start : start + PART]
            folder = mine / f"{start:07d}"
            if _is_whole(folder, theirs):
                bar.update(len(some))
            else:
                _write_part(folder, theirs, pool.map(lambda job: _decode(root, job, config), some), config, bar)
            parts.append(_read_part(folder))
    return parts


def _decode(root: Path, job: Job, config: Config) -> Decoded:
    """One record, or why its picture cannot be read."""
    path, mask = job
    picture: Opened | str
    try:
        picture = open_record(root, path, mask, config.resolution, config.dataset.fit)
        digest, of_mask = picture.facts.digest, picture.facts.mask_digest
    except UnreadableError as error:
        picture, digest, of_mask = str(error), content.digest(root / path), ""
    return Decoded(path, (digest, of_mask or (content.digest(root / mask) if mask else "")), picture)


def _is_whole(folder: Path, states: np.ndarray) -> bool:
    """Whether a part was finished from files that nobody has touched since."""
    file = folder / "part.npz"
    if not file.exists():
        return False
    with np.load(file) as facts:
        return np.array_equal(facts["states"], states)


def _write_part(folder: Path, states: np.ndarray, decoded: Iterator[Decoded], config: Config, bar: Any) -> None:
    every: list[Decoded] = []
    for one in decoded:
        bar.update()
        every.append(one)
    good = [one.picture for one in every if isinstance(one.picture, Opened)]
    folder.mkdir(parents=True, exist_ok=True)
    size, side = config.resolution, duplicates.SIDE
    blank = np.zeros((size, size), np.uint8)
    files.write_blocks(folder / "pixels.npy", (len(good), size, size, 3), (item.pixels for item in good))
    files.write_blocks(folder / "thumbnails.npy", (len(good), side, side), (item.thumbnail for item in good))
    if config.dataset.mask:
        masks = (blank if item.mask is None else item.mask for item in good)
        files.write_blocks(folder / "masks.npy", (len(good), size, size), masks)
    lost = [(one.path, f"unreadable ({one.picture})") for one in every if isinstance(one.picture, str)]
    facts: dict[str, Any] = {
        "states": states,
        "read": np.array([isinstance(one.picture, Opened) for one in every], bool),
        "digests": np.array([one.digests for one in every], str).reshape(-1, 2),
        "facts": np.array(pd.DataFrame([item.facts for item in good], columns=Facts._fields).to_json(orient="records")),
        "plain": np.array([_is_plain(item) for item in good], bool),
        "lost": np.array(lost, str).reshape(-1, 2),
    }
    with (folder / "part.tmp").open("wb") as file:
        np.savez(file, **facts)
    (folder / "part.tmp").replace(folder / "part.npz")  # last: marks the part as whole


def _is_plain(picture: Opened) -> bool:
    """Whether a picture is of one colour, as a whole and in the part that is used."""
    return bool(np.ptp(picture.thumbnail) <= ONE_COLOUR and np.ptp(picture.pixels, axis=(0, 1)).max() <= 2 * ONE_COLOUR)


def _read_part(folder: Path) -> Part:
    with np.load(folder / "part.npz") as facts:
        lost = [(str(path), str(why)) for path, why in facts["lost"]]
        known = pd.DataFrame(json.loads(str(facts["facts"])), columns=Facts._fields)
        return Part(folder, facts["read"], facts["digests"], known, facts["plain"], lost)


def read(parts: list[Part]) -> np.ndarray:
    """bool [N]: which records are readable."""
    return np.concatenate([part.read for part in parts])


def digests(parts: list[Part]) -> np.ndarray:
    """str [N, 2]: of the bytes of each record's picture and mask."""
    return np.concatenate([part.digests for part in parts])


def assemble(path: Path, pieces: list[Path]) -> np.ndarray:
    """Join arrays on disk, one piece in memory at a time; returns a memory map of the whole."""
    shapes = [np.load(piece, mmap_mode="r").shape for piece in pieces]
    whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    files.write_blocks(path, whole, map(np.load, pieces))
    return np.load(path, mmap_mode="r")
