"""What other packages add by entry points (docs/extending.md). Only those are imported whose names are used."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .errors import UserError


def names(group: str) -> list[str]:
    """Names of the entry points of a group, such as `synthimg.methods`."""
    return sorted({point.name for point in entry_points(group=group)})


def file_of(group: str, name: str) -> Path:
    """The file of the module that an entry point of an installed package names, for keys that change with the code.

    Raises:
        UserError: it cannot be imported, or is not written in Python.
    """
    load(group, name)
    (point,) = {point.value: point for point in entry_points(group=group, name=name)}.values()
    file = sys.modules[point.module].__file__
    if file is None:
        raise UserError(f"entry point '{name}' of {group}: {point.value} is not written in Python")
    return Path(file)


def load(group: str, name: str) -> Any:
    """Import what an entry point stands for.

    Raises:
        UserError: two packages use the name, or the import fails.
        KeyError: no installed package has this entry point.
    """
    found = {point.value: point for point in entry_points(group=group, name=name)}
    if not found:
        raise KeyError(name)
    if len(found) > 1:
        raise UserError(f"entry point '{name}' of {group}: two packages use this name ({', '.join(sorted(found))})")
    ((value, point),) = found.items()
    try:
        return point.load()
    except Exception as error:  # any code may stand there
        raise UserError(f"entry point '{name}' of {group}: {value} cannot be imported: {error!r}") from error
