"""One spelling for one thing: paths, labels, groups; and what is spelled in several ways."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from .suspicions import Suspicion

_DETOUR = r"(?:^|/)\.{0,2}(?:/|$)|^~"
_BLANKS = re.compile(r"[\s\u200b-\u200d\u2060\ufeff]+")


def text(values: pd.Series) -> pd.Series:
    """Values as `core.words.plain` spells them."""
    return values.str.normalize("NFC").str.strip()


def paths(values: pd.Series, root: Path) -> pd.Series:
    """Each path in one spelling, relative to `root` where it lies below it: `./a//b.png` is `a/b.png`."""
    odd = values.str.contains(_DETOUR, regex=True)
    if not odd.any():
        return values
    top = os.path.abspath(root)
    plain = values.astype(object)
    plain[odd] = [_path(path, top) for path in values[odd]]
    return plain.astype(str)


def _path(path: str, top: str) -> str:
    there = os.path.lexists(os.path.join(top, path))  # a folder of the data set may be called ~
    path = path if there else os.path.expanduser(path)
    given = os.path.join(top, path)
    plain = os.path.normpath(given)
    if not path or (".." in path.split("/") and os.path.realpath(plain) != os.path.realpath(given)):
        return path  # behind a link, `..` is another folder than it seems
    for start in (top, os.path.realpath(top)):
        if plain.startswith(start + os.sep):
            return os.path.relpath(plain, start)
    return plain if os.path.isabs(path) else os.path.relpath(plain, top)


def loose(path: str) -> str:
    """A path as people mean it: `/` for `\\`, no blanks around a name, Unicode form NFC."""
    return "/".join(part.strip() for part in unicodedata.normalize("NFC", path).replace("\\", "/").split("/"))


def variants(counts: Mapping[str, int]) -> list[list[str]]:
    """Values that differ only in case, blanks, invisible characters or Unicode form; of each the most frequent first."""
    found: dict[str, list[str]] = defaultdict(list)
    for value in counts:
        found[_BLANKS.sub(" ", unicodedata.normalize("NFKC", value)).strip().casefold()].append(value)
    return [sorted(same, key=lambda value: (-counts[value], value)) for key, same in found.items() if key and len(same) > 1]


def doubts(what: str, values: Iterable[str]) -> list[Suspicion]:
    """A warning where one value is spelled in several ways.

    Args:
        what: what they are, in the plural, such as "labels".
    """
    counts = Counter(values)
    found = variants(counts)
    if not found:
        return []
    named = " and ".join(f"'{value}' ({counts[value]})" for value in found[0])
    more = f" (and {len(found) - 1} more such)" if len(found) > 1 else ""
    alike = "differ only in case, blanks or Unicode form, and are taken as different"
    return [Suspicion("warning", f"{what} spelled alike", f"the {what} {named} {alike}{more}")]
