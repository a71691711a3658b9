"""Files that a table lists and that are not there as spelled: found under another spelling, or a cause named."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial

import pandas as pd

from ..errors import UserError
from . import records, spelling, walk
from .suspicions import Suspicion


def respell(frame: pd.DataFrame, source: records.Source) -> tuple[pd.DataFrame, list[Suspicion]]:
    """The records with the paths under which their files are found.

    A file that is not there as listed is looked for with `/` for `\\`, without blanks around its name, and in the other
    Unicode form. It is taken where exactly one such file is there.

    Args:
        frame: `path`, `mask`, `where`, `label`, as of `records.make_records`.

    Raises:
        UserError: none of the images is found, or two rows turn out to list one image.
    """
    root, doubts = str(source.root), []
    other_spelling = _finder(root)
    for column in ("path", "mask"):
        absent = [name for name in frame[column].tolist() if name and not os.path.isfile(os.path.join(root, name))]
        found = {name: other for name in absent if (other := other_spelling(name))}
        if found:
            frame = frame.assign(**{column: [found.get(name, name) for name in frame[column].tolist()]})
            listed, there = next(iter(found.items()))
            doubts.append(Suspicion(
                "note", "paths spelled otherwise",
                f"{len(found)} files are listed in another spelling than on disk, such as {listed!r} for {there!r}; "
                "they are used",
            ))  # fmt: skip
        missing = [name for name in absent if name not in found]
        if column == "path" and missing:
            doubts.append(_missing(frame, missing, source))
    records.refuse_twice(frame)
    return frame, doubts


def _finder(root: str) -> Callable[[str], str]:
    """A function from a name to the one path that is there and differs from it as said in `respell`; "" for none."""

    @cache
    def names(folder: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        with suppress(OSError):  # no folder, or closed
            for name in os.listdir(os.path.join(root, folder) or "."):
                found[spelling.loose(name)].append(name)
        return found

    def within(folder: str | None, name: str) -> str | None:
        same = [] if folder is None else [name] if name in (".", "..") else names(folder).get(name, [])
        return os.path.join(folder or "", same[0]) if len(same) == 1 else None

    @cache
    def folder_of(path: str) -> str | None:
        head, _, last = path.rpartition("/")
        return path if path in ("", "/") else within(folder_of(head or "/" * path.startswith("/")), last)

    def find(name: str) -> str:
        path = spelling.loose(name)
        head, slash, last = path.rpartition("/")
        place = within(folder_of(head or slash), last)
        return place if place is not None and os.path.isfile(os.path.join(root, place)) else ""

    return find


def _missing(frame: pd.DataFrame, missing: list[str], source: records.Source) -> Suspicion:
    listed = [name for name in frame["path"].tolist() if name]
    where = frame["where"].iloc[frame["path"].tolist().index(missing[0])]
    first = f"the first is '{missing[0]}' ({where}), looked for in {source.root.absolute()}"
    if len(missing) < len(listed):
        few = f"{len(missing)} of {len(listed)} listed files are not found"
        return Suspicion("warning", "files not found", f"{few}; {first}")
    none = f"{source.where}: none of the {len(listed)} listed files is found; {first}"
    for words, change in _changes(source, missing[0]):
        found = sum(os.path.isfile(source.root / change(name)) for name in listed)
        raise UserError(f"{none}. {words}; so {found} of them are found")
    raise UserError(none)


def _changes(source: records.Source, name: str) -> Iterator[tuple[str, Callable[[str], str]]]:
    """What may be wrong with every path: changes after which the first file is there, in words and as a function."""
    parts = name.replace("\\", "/").strip("/").split("/")
    possible = [(f"It is relative to {up}", partial(os.path.join, str(up))) for up in source.root.absolute().parents]
    possible += [(f"It is there without '{'/'.join(parts[:cut])}/'", partial(_without, cut)) for cut in range(1, len(parts))]
    possible += [(f"It is there with '{suffix}' behind it (dataset.image: '{{column}}{suffix}')", partial(_with, suffix))
                 for suffix in sorted(walk.suffixes())]  # fmt: skip
    yield from ((words, change) for words, change in possible if os.path.isfile(source.root / change(name)))
    pictures = walk.tree(source.root).pictures if source.folder else []
    lower = {picture.casefold(): picture for picture in pictures}
    if name.casefold() in lower:
        yield f"On disk it is '{lower[name.casefold()]}', in another case", lambda path: lower.get(path.casefold(), path)
    for picture in pictures:
        folder, _, base = picture.rpartition("/")
        if base == parts[-1]:
            yield f"A file of that name is '{picture}'", partial(_moved, folder)


def _without(cut: int, path: str) -> str:
    return "/".join(path.replace("\\", "/").strip("/").split("/")[cut:])


def _moved(folder: str, path: str) -> str:
    return f"{folder}/{path.replace(chr(92), '/').rpartition('/')[2]}"


def _with(suffix: str, path: str) -> str:
    return path + suffix
