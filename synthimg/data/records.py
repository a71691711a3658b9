"""Reads a data set into one table of records: an image folder, a folder with a table, a table, or a PyPI package."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from string import Formatter
from typing import NamedTuple

import pandas as pd

from ..config import Consent, Dataset
from ..errors import UserError
from . import elpv, twins

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
TABLES = {".csv", ".tsv", ".parquet", ".jsonl"}
NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
SYNONYMS = ("file_name", "path", "image", "filename", "file")
"""Columns taken as the image's path, in this order, while `dataset.image` is left at its default."""


class Source(NamedTuple):
    """A data set before any of its images is opened."""

    root: Path
    """Folder to which the rows' paths are relative."""
    rows: pd.DataFrame
    """Every column as strings, an empty string where a value is missing."""
    where: str
    """What messages call the table."""
    is_table: bool
    consent: Consent | None = None
    """The consent entry that comes with the source itself."""
    notice: str = ""
    group: str | None = None
    """What `dataset.group` is where the configuration leaves it out."""


def open_source(path: str, table: str | None = None) -> Source:
    """Find and read the rows of a data set.

    Raises:
        UserError: nothing there, an unreadable table, no images, or an empty class folder.
    """
    if path == elpv.NAME:
        root, rows = elpv.read()
        own = Consent(licence=elpv.LICENCE, scope=list(elpv.SCOPE))
        return Source(root, rows, elpv.NAME, True, own, elpv.notice(), "module")
    if path.startswith("pypi:"):
        raise UserError(f"dataset.path: unknown source '{path}'; the one known is {elpv.NAME}")
    folder = Path(path).expanduser()
    if folder.is_file():
        if table:
            raise UserError(f"dataset.table: '{path}' is itself a table; leave dataset.table out")
        return Source(folder.parent, read_table(folder), folder.name, True)
    if not folder.is_dir():
        raise UserError(f"dataset.path: no folder or table '{path}'")
    names = [table] if table else [name for name in NAMES if (folder / name).is_file()]
    if names:
        file = folder / names[0]
        if not file.is_file():
            raise UserError(f"dataset.table: no file '{names[0]}' in {folder}")
        return Source(file.parent, read_table(file), names[0], True)
    return Source(folder, _image_folder(folder), folder.name, False)


def read_table(file: Path) -> pd.DataFrame:
    """A CSV, TSV, Parquet or JSONL file as strings, so that `007` stays `007`.

    Raises:
        UserError: unknown ending, not parsable (with the line), or no rows.
    """
    if file.suffix not in TABLES:
        raise UserError(f"{file}: expected a table ending in {', '.join(sorted(TABLES))}")
    try:
        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
        elif file.suffix == ".jsonl":
            frame = _read_jsonl(file)
        else:
            separator = "\t" if file.suffix == ".tsv" else ","
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, sep=separator, encoding="utf-8-sig")
    except UserError:
        raise
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parsing errors are ValueErrors
        raise UserError(f"{file}: cannot be read as a table: {' '.join(str(error).split())}") from error
    if frame.empty:
        raise UserError(f"{file}: has no rows")
    return frame.astype(object).where(frame.notna(), "").astype(str).rename(columns=str).reset_index(drop=True)


def _read_jsonl(file: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{file} line {number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number}: expected an object, found {type(row).__name__}")
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _image_folder(folder: Path) -> pd.DataFrame:
    """One row per image below a class folder; `label` is the class folder's name."""
    classes = sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith((".", "_")))
    if not classes:
        raise UserError(f"{folder}: expected one sub-folder per class, or one of {', '.join(NAMES)}")
    rows = []
    for sub in classes:
        found = [Path(parent) / name for parent, _, names in os.walk(sub, followlinks=True) for name in names]
        found = [file for file in found if file.suffix.lower() in IMAGES and not file.name.startswith(".")]
        rows += [(file.relative_to(folder).as_posix(), sub.name) for file in found]
        if not found:
            rows.append(("", sub.name))  # so that `make_records` can refuse it, unless dataset.classes leaves it out
    frame = pd.DataFrame(rows, columns=["file_name", "label"], dtype=str).sort_values("file_name", ignore_index=True)
    return frame.assign(stem=[name.removesuffix(Path(name).suffix) for name in frame["file_name"]])


def make_records(source: Source, dataset: Dataset, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """The records, sorted by path: what comes later cannot depend on the order of the rows.

    Args:
        columns: further columns to keep as attributes, beside `dataset.attribute_columns`.

    Returns:
        Strings: `path`, `label`, `group`, `mask` (path or ""), `where` (for messages), `attribute.<name>`, and
        `scope`, `expires` if the configuration names such columns. Rows without label, image or group stay, with "".

    Raises:
        UserError: a column that is not there, an image listed twice, an empty class folder.
    """
    rows = source.rows
    consent = dataset.consent
    _require(source, "dataset.label_column", dataset.label_column)
    wanted = list(dict.fromkeys([*dataset.attribute_columns, *columns]))
    for name in wanted:
        _require(source, "dataset.attribute_columns" if name in dataset.attribute_columns else "dataset.prompts", name)
    frame = pd.DataFrame({"path": _fill(source, "dataset.image", _image_template(rows, dataset.image))})
    frame["label"] = rows[dataset.label_column].str.strip()
    frame["where"] = [f"{source.where} row {number}" for number in range(1, len(rows) + 1)]
    frame["mask"] = _fill(source, "dataset.mask", dataset.mask) if dataset.mask else ""
    for key, column in (("scope", consent.scope_column), ("expires", consent.expires_column)):
        if column:
            _require(source, f"dataset.consent.{key}_column", column)
            frame[key] = rows[column]
    for name in wanted:
        frame[f"attribute.{name}"] = rows[name].str.strip()
    rule = _group_rule(source, dataset.group or source.group)
    frame = frame[~twins.masks_of_others(frame)]
    kept = _check(frame, source, dataset)
    return kept.assign(group=_groups(source, kept, rule)).sort_values("path", ignore_index=True)


def _group_rule(source: Source, named: str | None) -> pd.Series | re.Pattern[str] | None:
    """The column that holds the groups, or the pattern that finds them in the paths; None: every image is its own."""
    if named is None:
        return None
    if named in source.rows.columns:
        return source.rows[named].str.strip()
    try:
        pattern = re.compile(named)
        if pattern.groups == 1:
            return pattern
    except re.error:
        pass
    raise UserError(f"{_absent(source, 'dataset.group', named)}. It is no regular expression with exactly one group in "
                    "parentheses either, such as '^([^_]+)_'")  # fmt: skip


def _groups(source: Source, frame: pd.DataFrame, rule: pd.Series | re.Pattern[str] | None) -> list[str]:
    """The group of each record, "" where it has none."""
    paths = list(frame["path"])
    if rule is None:
        return paths
    if isinstance(rule, pd.Series):
        return list(rule.loc[frame.index])
    # an image folder's first folder is the class, which must not become a part of the group
    below = paths if source.is_table else [path.partition("/")[2] for path in paths]
    found = [(match[1] or "") if (match := rule.search(path)) else "" for path in below]
    missed = [path for path, group in zip(paths, found, strict=True) if path and not group]
    if missed:
        raise UserError(
            f"dataset.group: the regular expression '{rule.pattern}' finds no group in {len(missed)} of {len(paths)} "
            f"images; the first is {missed[0]}"
        )
    return found


def _check(frame: pd.DataFrame, source: Source, dataset: Dataset) -> pd.DataFrame:
    labels = sorted(set(frame["label"]) - {""})
    unknown = sorted(set(dataset.classes) - set(labels))
    if unknown:
        raise UserError(f"dataset.classes: no image is labelled {', '.join(unknown)}; there are {', '.join(labels)}")
    if dataset.classes and dataset.rare_class not in dataset.classes:
        raise UserError(f"dataset.rare_class: '{dataset.rare_class}' is not among dataset.classes")
    if dataset.rare_class not in labels:
        there = ", ".join(labels) or "none"
        raise UserError(f"dataset.rare_class: no image is labelled '{dataset.rare_class}'; the classes are: {there}")
    if dataset.classes:
        frame = frame[frame["label"].isin([*dataset.classes, ""])]
    if not source.is_table and (frame["path"] == "").any():
        empty = ", ".join(frame.loc[frame["path"] == "", "label"])
        raise UserError(f"{source.root}: class folder without images: {empty}; fill it, remove it, or name the others "
                        "in dataset.classes")  # fmt: skip
    twice = frame[(frame["path"] != "") & frame.duplicated("path")]
    if len(twice):
        again = twice.iloc[0]
        raise UserError(f"{again['where']}: lists {again['path']} a second time; each image needs exactly one row")
    return frame


def _require(source: Source, key: str, column: str) -> None:
    if column not in source.rows.columns:
        raise UserError(_absent(source, key, column))


def _absent(source: Source, key: str, column: str) -> str:
    there = ", ".join(source.rows.columns)
    more = "" if source.is_table else "; an image folder has no others: add a metadata.csv with them"
    return f"{key}: no column '{column}' in {source.where}; there are: {there}{more}"


def _image_template(rows: pd.DataFrame, template: str) -> str:
    if template != Dataset.model_fields["image"].default or "file_name" in rows.columns:
        return template
    return next((f"{{{name}}}" for name in SYNONYMS if name in rows.columns), template)


def _fill(source: Source, key: str, template: str) -> list[str]:
    """The template filled from every row; "" where a value is missing."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"{key}: '{template}' is not a template: {error}") from error
    fields = [name for _, name, _, _ in parts if name is not None]
    for name in fields:
        _require(source, key, name)
    if not fields:
        raise UserError(f"{key}: '{template}' names no {{column}}, so every row would have the same file")
    rows = source.rows[fields].to_dict("records")
    return [template.format(**row) if all(row.values()) else "" for row in rows]
