"""Suspicions: what is probably wrong with a data set, though it can be read."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Suspicion(NamedTuple):
    """Something about a data set that is probably wrong, though it can be read."""

    severity: Literal["note", "warning"]
    """`--strict` refuses warnings."""
    kind: str
    """Short, stable name, such as "masks as images"."""
    text: str
    """One plain sentence with the count and one example."""
