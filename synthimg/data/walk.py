"""Every file below a folder, each once: pictures, files left out with a reason, files ignored by a stated rule."""

from __future__ import annotations

import mimetypes
import os
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..errors import UserError
from .images import formats
from .suspicions import Suspicion

SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__", "@eadir", "#recycle", "@recycle",
          "lost+found", "$recycle.bin", "system volume information", "node_modules"}  # fmt: skip
"""Names, in lower case, of what systems and tools leave behind, beside the hidden ones."""
OWN = ".store"
"""What marks a folder of synthimg's results."""

AGAIN = "a link to what is listed elsewhere"
ASIDE = "in a folder whose name starts with _"
BROKEN = "a link that leads nowhere"
CLOSED = "a folder that cannot be opened"
HIDDEN = "hidden, or in a hidden folder"
LEFTOVER = "left by a system or a tool"
RESULTS = "in a folder of synthimg's results"
SPECIAL = "no regular file"
SUFFIX = "no picture by its suffix"
BYTES = "name is not UTF-8"
FORMAT = "a picture in a format that cannot be opened"
DISGUISED = "a picture without a picture's suffix"


class Tree(NamedTuple):
    """The files below a folder, by path relative to it with `/`. Bytes of a name that are not UTF-8 are shown as `\\xe9`."""

    pictures: list[str]
    left_out: dict[str, str]
    """The reason for each file that seems to be a picture but cannot serve as one."""
    ignored: dict[str, str]
    """The rule for each file that is no part of the data set. A link to a folder that is not followed counts as a file."""
    folders: dict[str, str]
    """Real path of each folder: its path here."""
    suspicions: list[Suspicion]


class Entry(NamedTuple):
    name: str
    """Relative to the listed folder."""
    path: str
    rule: str
    """Why it is ignored, "" for none."""
    within: tuple[int, int] | None
    """Identity of its folder, where that is ignored."""
    to_folder: bool
    """A link to a folder, which is not ignored."""


class Seen(NamedTuple):
    """The folders that were met so far, each by its identity."""

    names: dict[tuple[int, int], str]
    """What each is called here; "" for the folders above the root, too."""
    places: dict[str, str]
    """`Tree.folders`."""
    ignored: set[tuple[int, int]]


def tree(root: Path, deep: bool = True) -> Tree:
    """List a folder, or with `deep=False` only the files directly in it.

    A folder or file that is also reached through links is listed where it lies. If it lies elsewhere, it is listed under
    the first of the links. A link to `root` or to a folder above it is not followed.

    Raises:
        UserError: the folder cannot be opened.
    """
    seen = Seen({_identity(str(parent)): "" for parent in root.resolve().parents}, {}, set())
    found = list(_below("", str(root), seen, deep))
    if found and not found[0].name:
        raise UserError(f"{root}: cannot be opened; check its permissions")
    again: dict[str, str] = {}
    links = deque(sorted(entry for entry in found if entry.to_folder))
    while deep and links:
        link = links.popleft()
        if (identity := _identity(link.path)) in seen.names:
            again[link.name] = seen.names[identity]
            continue
        below = list(_below(link.name, link.path, seen))
        links.extend(sorted(entry for entry in below if entry.to_folder))
        found += below
    # where a link leads into a hidden folder, the files are listed under the link alone
    files = [entry for entry in found if not entry.to_folder and not (entry.within and entry.within in seen.names)]
    return _sorted(files, again, seen.places)


def _below(top: str, place: str, seen: Seen, deep: bool = True) -> Iterator[Entry]:
    """What lies below a folder and is no folder. No link is followed; `seen` takes up the folders."""
    stack = [(top, place, "")]
    while stack:
        name, path, rule = stack.pop()
        try:
            entries = list(os.scandir(path))
            identity = _identity(path)
        except OSError:
            yield Entry(name, path, rule or CLOSED, None, False)
            continue
        if identity in (seen.ignored if rule else seen.names):
            continue
        rule = rule or RESULTS * (name != "" and any(entry.name == OWN for entry in entries))
        if rule:
            seen.ignored.add(identity)
        else:
            seen.names[identity] = seen.places[os.path.realpath(path)] = name
        for entry in entries:
            full = f"{name}/{entry.name}" if name else entry.name
            why = rule or _rule(entry.name, not name)
            if entry.is_dir(follow_symlinks=False):
                if deep:
                    stack.append((full, entry.path, why))
            else:
                special = not entry.is_symlink() and not entry.is_file(follow_symlinks=False)
                to_folder = not why and entry.is_symlink() and _is_folder(entry)
                yield Entry(full, entry.path, why or SPECIAL * special, identity if rule else None, to_folder)


def _identity(path: str) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _rule(name: str, top: bool) -> str:
    """The rule by which a file or folder of this name is ignored, "" for none.

    Args:
        top: it lies on the first level, where folders are classes.
    """
    if name.startswith("."):
        return HIDDEN
    if name.lower() in SYSTEM:
        return LEFTOVER
    return ASIDE if top and name.startswith("_") else ""


def _sorted(files: list[Entry], again: dict[str, str], places: dict[str, str]) -> Tree:
    """The files by what becomes of them.

    Args:
        again: links to folders that are listed elsewhere, and where.
    """
    pictures: list[str] = []
    left_out: dict[str, str] = {}
    ignored = {shown(link): AGAIN for link in again}
    twice = dict(again)
    taken: dict[str, str] = {}
    for entry in sorted(files):
        rule = entry.rule
        if not rule and os.path.islink(entry.path):
            first = _first(entry, places, taken)
            rule = _linked(entry.path) or AGAIN * (first != entry.name)
            if rule == AGAIN:
                twice[entry.name] = first
        reason = "" if rule else _reason(entry)
        if not rule and not reason and not is_picture(entry.name):
            rule = f"{SUFFIX} ({_suffix(entry.name) or 'none'})"
        if rule:
            ignored[shown(entry.name)] = rule
        elif reason:
            left_out[shown(entry.name)] = reason
        else:
            pictures.append(entry.name)
    return Tree(pictures, left_out, ignored, places, _suspicions(left_out, ignored, twice))


def _first(link: Entry, places: dict[str, str], taken: dict[str, str]) -> str:
    """The name under which the file is listed to which a link leads: the link's own, unless the file has another."""
    real = os.path.realpath(link.path)
    folder, _, base = real.rpartition("/")
    inside = places.get(folder)
    if inside is not None and not _rule(base, not inside):
        return f"{inside}/{base}".lstrip("/")
    return taken.setdefault(real, link.name)


def _linked(path: str) -> str:
    """Why the target of a link is no file, "" where it is one."""
    if os.path.isfile(path):
        return ""
    return SPECIAL if os.path.exists(path) else BROKEN


@cache
def suffixes() -> frozenset[str]:
    """Endings of the pictures that the installed Pillow opens, in lower case, with the dot."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in _formats())


@cache
def _formats() -> frozenset[str]:
    return frozenset({*formats(), "MPO"} - {"IPTC"})  # MPO opens as JPEG; a file of captions is no picture


def is_picture(name: str) -> bool:
    """Whether a file's suffix is that of a picture."""
    return _suffix(name) in suffixes()


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def stem(name: str) -> str:
    """A file's path without its suffix: the field `stem` of an image folder's rows."""
    return os.path.splitext(name)[0]


def shown(path: str) -> str:
    """A path as text that can be printed and written: bytes that are not UTF-8 as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _reason(entry: Entry) -> str:
    """Why a file that seems to be a picture cannot serve as one, "" for none."""
    suffix = _suffix(entry.name)
    if suffix in suffixes():
        return "" if shown(entry.name) == entry.name else f"{BYTES} (rename the file or its folder)"
    kind, _ = mimetypes.guess_type("x" + suffix)
    if kind and kind.startswith("image/"):
        return f"{FORMAT} ({suffix})"
    found = _format_by_bytes(entry.path)
    return f"{DISGUISED} (its first bytes are those of {found}; rename it)" if found else ""


def _format_by_bytes(path: str) -> str:
    """The format of a file by its first bytes, "" where they are not those of a picture."""
    _formats()
    try:
        with open(path, "rb") as file:
            prefix = file.read(16)
        likely = [name for name, (_, accept) in Image.OPEN.items() if accept and name in _formats() and accept(prefix)]
        if not likely:
            return ""
        with Image.open(path, formats=likely) as image:
            return image.format or ""
    except Exception:  # as many kinds as Pillow has decoders; none means a picture
        return ""


def _suspicions(left_out: dict[str, str], ignored: dict[str, str], twice: dict[str, str]) -> list[Suspicion]:
    found = []
    for reason, what in ((DISGUISED, "have no picture's suffix but a picture's first bytes"),
                         (FORMAT, "are pictures in a format that cannot be opened"),
                         (BYTES, "have a name that is not UTF-8")):  # fmt: skip
        names = [name for name, why in left_out.items() if why.startswith(reason)]
        if names:
            found.append(Suspicion("warning", reason, f"{len(names)} files {what}, such as {names[0]}; they are left out"))
    closed = [name for name, rule in ignored.items() if rule == CLOSED]
    if closed:
        found.append(Suspicion("warning", CLOSED, f"{len(closed)} folders cannot be opened, such as {closed[0]}"))
    crossed = [(shown(name), shown(first)) for name, first in twice.items()
               if first and name.partition("/")[0] != first.partition("/")[0]]  # fmt: skip
    if crossed:
        found.append(Suspicion(
            "warning", "links to another class",
            f"{len(crossed)} links lead to what is listed in another folder, such as {crossed[0][0]} to {crossed[0][1]}; it "
            "keeps the label of the folder in which it lies",
        ))  # fmt: skip
    return found
