"""metrics.json as a file: written from its type and read through it, nowhere else, and described from its docstrings.

python -m synthimg.evaluation.results_file > docs/metrics.md
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from ..config import Section
from ..core.files import write_json
from ..errors import UserError
from .results import VERSION, Results


def write_results(run: Path, results: Results) -> None:
    """Write `<run>/evaluate/metrics.json`."""
    write_json(run / "evaluate" / "metrics.json", results.model_dump(mode="json"))


def read_results(run: Path) -> Results:
    """What `<run>/evaluate/metrics.json` holds.

    Raises:
        UserError: the file is missing, damaged, or of another version.
    """
    path = run / "evaluate" / "metrics.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: no such file; {run} is not a run that has been evaluated") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    return parse_results(tree, str(path))


def parse_results(tree: Any, where: str = "metrics.json") -> Results:
    """Check a tree of plain values against the type.

    Raises:
        UserError: it is of another version, or a key is missing, unknown or of the wrong kind.
    """
    found = tree.get("version") if isinstance(tree, dict) else None
    if found != VERSION:
        raise UserError(
            f"{where}: holds results of version {found}, expected {VERSION}; evaluate the run again with this synthimg"
        )
    try:
        return Results.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: damaged or written by hand: key '{key}': {first['msg']}") from error


def page() -> str:
    """docs/metrics.md."""
    found: list[type[Section]] = []
    _collect(Results, found)
    made = "Made from synthimg/evaluation/results.py by `python -m synthimg.evaluation.results_file`; do not edit."
    head = f"# metrics.json\n\n{made}"
    return "\n\n".join([head, *map(_chapter, found)]) + "\n"


def _collect(model: type[Section], found: list[type[Section]]) -> None:
    """A model, then those of its fields, each once."""
    if model in found:
        return
    found.append(model)
    for field in model.model_fields.values():
        for inner in _models(field.annotation):
            _collect(inner, found)


def _models(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _chapter(model: type[Section]) -> str:
    fields = [f"- `{name}` ({_words(field.annotation)}): {field.description}" for name, field in model.model_fields.items()]
    listed = "\n".join(_wrapped(text, "  ") for text in fields)
    return f"## {model.__name__}\n\n{_wrapped(model.__doc__ or '')}\n\n{listed}"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), 118, subsequent_indent=indent, break_long_words=False)


def _words(annotation: Any) -> str:
    """A field's type in words; other models by a link."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _words(part) for part in parts)
    if origin is dict:
        return f"map of {_words(parts[1])}"
    if origin is list:
        return f"list of {_words(parts[0])}"
    if origin is tuple:
        return f"{len(parts)} numbers"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[annotation]


if __name__ == "__main__":
    print(page(), end="")
