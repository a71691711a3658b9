"""What other packages add: entry points, and functions named as `module:function` (docs/extending.md). Only those are
imported whose names are used."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ..errors import UserError


def names(group: str) -> list[str]:
    """Names of the entry points of a group, such as `synthimg.methods`, in alphabetical order."""
    return sorted({point.name for point in entry_points(group=group)})


def reference(group: str, name: str) -> str | None:
    """`module:object` of an entry point; None where no installed package has one of this group and name.

    Raises:
        UserError: two packages use the name.
    """
    found = {point.value for point in entry_points(group=group, name=name)}
    if len(found) > 1:
        raise UserError(f"entry point '{name}' of {group}: two packages use this name ({', '.join(sorted(found))})")
    return next(iter(found), None)


def load(group: str, name: str) -> Any:
    """What an entry point stands for; None where no installed package has one of this group and name.

    Raises:
        UserError: two packages use the name, or it cannot be imported.
    """
    found = reference(group, name)
    return resolve(found, f"entry point '{name}' of {group}") if found else None


def resolve(reference: str, asked_by: str) -> Any:
    """The object that `module:object` refers to.

    Args:
        asked_by: the configuration key or entry point, for the message.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return EntryPoint(asked_by, reference, "").load()
    except ModuleNotFoundError as error:
        hint = f"no module '{error.name}'; install it, or put its folder on PYTHONPATH"
        raise UserError(f"{asked_by}: '{reference}' cannot be imported: {hint}") from error
    except (AttributeError, ImportError, SyntaxError) as error:
        raise UserError(f"{asked_by}: '{reference}' cannot be imported: {error}") from error
    except Exception as error:  # the module may do anything while it is imported
        raise UserError(f"{asked_by}: '{reference}' cannot be imported: {error!r}") from error


def sources_of(group: str, names: Iterable[str]) -> dict[str, Path]:
    """The files in which those of some names that are entry points of a group are written, by `<group>: <name>`.

    Raises:
        UserError: as for `source_of`.
    """
    found = {f"{group}: {name}": reference(group, name) for name in names}
    return {asked_by: source_of(code, asked_by) for asked_by, code in found.items() if code}


def source_of(reference: str, asked_by: str) -> Path:
    """The file that `module:object` is written in, for keys that change with the code.

    Args:
        asked_by: as for `resolve`.

    Raises:
        UserError: it cannot be imported, or is not written in Python.
    """
    resolve(reference, asked_by)
    file = sys.modules[reference.partition(":")[0].strip()].__file__
    if file is None:
        raise UserError(f"{asked_by}: '{reference}' is not written in Python")
    return Path(file)
