"""What became of every file of a data set: the counts add up to what is on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from . import records, walk

USED, MASK, LEFT_OUT, IGNORED = "used", "mask", "left out", "ignored: "
TABLE = "the table of the images"
BEYOND = "beyond dataset.limit"
UNLISTED = "not listed in the table"
OTHER_CLASS = "not in the table, or of a class that dataset.classes leaves out"


class Account(NamedTuple):
    """Counts of files."""

    used: int
    mask: int
    left_out: int
    ignored: dict[str, int]
    """By rule, the most frequent first."""
    absent: int
    """Images that the table lists and that are not there; no part of `on_disk`."""

    @property
    def on_disk(self) -> int:
        return self.used + self.mask + self.left_out + sum(self.ignored.values())

    @property
    def line(self) -> str:
        """All counts in one line."""
        rules = ", ".join(f"{rule}: {count}" for rule, count in self.ignored.items())
        absent = f"; listed but not found: {self.absent}" if self.absent else ""
        return (f"files on disk: {self.on_disk} = {self.used} used + {self.mask} masks + {self.left_out} left out + "
                f"{sum(self.ignored.values())} ignored{f' ({rules})' if rules else ''}{absent}")  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """The same for summary.json."""
        rules = sum(self.ignored.values())
        return {"on_disk": self.on_disk, "used": self.used, "mask": self.mask, "left_out": self.left_out,
                "ignored": rules, "rules": self.ignored, "absent": self.absent}  # fmt: skip


def take(
    source: records.Source, listed: pd.DataFrame, used: Iterable[str], left_out: Iterable[str], classes: bool = False
) -> Account:  # fmt: skip
    """Account for every file of a data set.

    They are the files below the data set's folder. Where the data set is a table, they are the table and the files
    directly in the folders that hold listed files. A listed file elsewhere counts as well.

    Args:
        listed: `path`, `mask` of all records of the kept classes.
        used: paths of the records that are used.
        left_out: paths of those that are not, for a reason of their own.
        classes: whether classes were left out.
    """
    here = str(source.root)
    place = cache(lambda folder: os.path.realpath(os.path.join(here, folder)))

    def key(path: str) -> str:
        folder, _, base = path.rpartition("/")
        return f"{place(folder or ('/' if path.startswith('/') else ''))}/{base}"

    rows = [key(path) for path in listed["path"].tolist() if path]
    masks = {key(path) for path in set(listed["mask"].tolist()) if path}
    held = {path: os.path.lexists(path) and not os.path.isdir(path) for path in {*rows, *masks}}
    if source.folder:
        status = _on_disk(source.folder, source.tree or walk.tree(source.folder))
    else:
        folders = sorted({os.path.dirname(path) for path, there in held.items() if there})
        flat = [_on_disk(Path(folder), walk.tree(Path(folder), deep=False)) for folder in folders]
        status = {name: what for some in flat for name, what in some.items()}
    status = {name: _default(what, source.is_table, classes) for name, what in status.items()}
    if source.table:
        status[str(source.table.resolve())] = IGNORED + TABLE
    for paths, what in ((rows, IGNORED + BEYOND), (masks, MASK), (map(key, left_out), LEFT_OUT), (map(key, used), USED)):
        status.update((path, what) for path in paths if held.get(path) or path in status)
    counts = Counter(status.values())
    ignored = Counter({what.removeprefix(IGNORED): count for what, count in counts.items() if what.startswith(IGNORED)})
    absent = sum(not held[path] for path in set(rows))
    return Account(counts[USED], counts[MASK], counts[LEFT_OUT], dict(ignored.most_common()), absent)


def _on_disk(folder: Path, tree: walk.Tree) -> dict[str, str]:
    """The files of a tree by their folder's real path and their name: "" for a picture, `LEFT_OUT`, or the rule."""
    real = {name: path for path, name in tree.folders.items()}
    top = os.path.realpath(folder)

    @cache
    def place(name: str) -> str:  # an ignored folder is not among the tree's
        return real.get(name) or (f"{place(os.path.dirname(name))}/{os.path.basename(name)}" if name else top)

    what = dict.fromkeys(tree.pictures, "") | dict.fromkeys(tree.left_out, LEFT_OUT)
    what |= {name: IGNORED + rule.partition(" (")[0] for name, rule in tree.ignored.items()}
    return {f"{place(os.path.dirname(name))}/{os.path.basename(name)}": found for name, found in what.items()}


def _default(what: str, is_table: bool, classes: bool) -> str:
    """What a file is that no record names."""
    if what == "" or (what == LEFT_OUT and is_table):
        return IGNORED + (OTHER_CLASS if classes else UNLISTED)
    return what
