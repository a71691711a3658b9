"""Templates such as `images/{image_id}.png`: a name in braces stands for a value, and nothing else is computed.

Python's own format strings would read `{image.path}` as an attribute, `{a[0]}` as an index and `{a!r}` as a conversion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PADDED = re.compile(r"(.+):0(\d{1,3})d")


def split(template: str) -> list[tuple[str, str | None]]:
    """Pieces of a template: text and None, or the braces' content and that once more. `{{` and `}}` stand for braces.

    >>> split("{a.b}/x{{1}}")
    [('{a.b}', 'a.b'), ('/x', None), ('{', None), ('1', None), ('}', None)]

    Raises:
        ValueError: a brace without its partner, or nothing between braces.
    """
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for match in _PART.finditer(template):
        if match.start() > end:
            pieces.append((template[end : match.start()], None))
        end = match.end()
        if match[0] in ("{", "}"):
            raise ValueError(f"the brace at character {match.start() + 1} has no partner")
        if match[1] is None:
            pieces.append((match[0][0], None))
        elif not match[1].strip():
            raise ValueError(f"nothing between the braces at character {match.start() + 1}")
        else:
            pieces.append((match[0], match[1]))
    return [*pieces, (template[end:], None)] if end < len(template) else pieces


def fields(template: str) -> list[str]:
    """What stands between braces, in order.

    Raises:
        ValueError: as `split`.
    """
    return [name for _, name in split(template) if name is not None]


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each name in braces replaced by its value.

    Raises:
        ValueError: as `split`.
        KeyError: a name without a value.
    """
    return "".join(text if name is None else values[name] for text, name in split(template))


def escaped(text: str) -> str:
    """The template that is filled with this very text."""
    return text.replace("{", "{{").replace("}", "}}")


def padded(name: str) -> tuple[str, int]:
    """A field's name and the width to which its whole numbers are filled with zeros; width 0 for a plain name.

    >>> padded("number:03d"), padded("number")
    (('number', 3), ('number', 0))
    """
    match = _PADDED.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 0)
