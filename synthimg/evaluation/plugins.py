"""Code from outside the package: entry points of installed packages, and functions named as `module:function`."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ..errors import UserError

ARMS, METRICS = "synthimg.arms", "synthimg.metrics"
"""Groups of entry points."""


def names(group: str) -> list[str]:
    """The entry points of a group in the installed packages, in alphabetical order."""
    return sorted({entry.name for entry in entry_points(group=group)})


def reference(group: str, name: str) -> str | None:
    """`module:object` of the entry point of this group and name; None where no package has one."""
    return next((entry.value for entry in entry_points(group=group, name=name)), None)


def load(group: str, name: str) -> Any:
    """What the entry point of this group and name points to; None where no package has one.

    Raises:
        UserError: it cannot be imported.
    """
    found = reference(group, name)
    return resolve(found, f"{group}: {name}") if found else None


def resolve(reference: str, asked_by: str) -> Any:
    """The object that `module:object` refers to.

    Args:
        asked_by: the configuration key or entry point, for the message.

    Raises:
        UserError: the module cannot be imported, or has no such object.
    """
    try:
        return EntryPoint(asked_by, reference, "").load()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{asked_by}: '{reference}' cannot be imported: no module '{error.name}'; install it, or put its folder on "
            "PYTHONPATH"
        ) from error
    except (AttributeError, ImportError, SyntaxError) as error:
        raise UserError(f"{asked_by}: '{reference}' cannot be imported: {error}") from error


def source_of(reference: str, asked_by: str) -> Path | None:
    """The file that `module:object` is written in; None where it is not written in Python.

    Args and errors as of `resolve`.
    """
    resolve(reference, asked_by)
    file = sys.modules[reference.partition(":")[0].strip()].__file__
    return Path(file) if file else None


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint for an unknown name, or nothing where no known one is like it."""
    close = get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
