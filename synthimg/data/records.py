"""Reads a data set into one table of records: an image folder, a folder with a table, a table, or a PyPI package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..config import Consent, Dataset
from ..core import files, templates
from ..errors import UserError
from . import elpv, spelling, tables, twins, walk
from .suspicions import Suspicion

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
    table: Path | None
    """The file that holds the rows; None for an image folder and a package."""
    folder: Path | None
    """The folder that is the data set; None where a table is."""
    consent: Consent | None = None
    """The consent entry that comes with the source itself."""
    notice: str = ""
    group: str | None = None
    """What `dataset.group` is where the configuration leaves it out."""
    tree: walk.Tree | None = None
    """The files of an image folder."""
    nested: dict[str, str] = {}  # noqa: RUF012  read only
    """Columns whose values are lists or objects, and where the first is."""

    @property
    def is_table(self) -> bool:
        """Whether rows name the files, rather than folders."""
        return self.tree is None


def open_source(path: str, table: str | None = None) -> Source:
    """Find and read the rows of a data set.

    Raises:
        UserError: nothing there, an unreadable table, no images, or an empty class folder.
    """
    if path == elpv.NAME:
        root, rows = elpv.read()
        own = Consent(licence=elpv.LICENCE, scope=list(elpv.SCOPE))
        return Source(root, rows, elpv.NAME, None, root, own, elpv.notice(), "module")
    if path.startswith("pypi:"):
        raise UserError(f"dataset.path: unknown source '{path}'; the one known is {elpv.NAME}")
    folder = files.expanded(path)
    if folder.is_file():
        if table:
            raise UserError(f"dataset.table: '{path}' is itself a table; leave dataset.table out")
        return _from_table(folder, folder.name, None)
    if not folder.is_dir():
        raise UserError(f"dataset.path: no folder or table '{path}'")
    names = [table] if table else [name for name in NAMES if (folder / name).is_file()]
    if names:
        file = folder / files.expanded(names[0])
        if not file.is_file():
            raise UserError(f"dataset.table: no file '{names[0]}' in {folder}")
        return _from_table(file, names[0], folder)
    tree = walk.tree(folder)
    return Source(folder, _image_folder(folder, tree), folder.absolute().name, None, folder, tree=tree)


def _from_table(file: Path, where: str, folder: Path | None) -> Source:
    read = tables.read(file)
    return Source(file.parent, read.rows, where, file, folder, nested=read.nested)


def _image_folder(folder: Path, tree: walk.Tree) -> pd.DataFrame:
    """One row per image; `label` is the name of the folder on the first level, "" for an image that lies beside these."""
    classes = sorted(walk.shown(name) for name in tree.folders.values() if name and "/" not in name)
    if not classes:
        beside = f"; {len(tree.pictures)} images lie directly in it" if tree.pictures else ""
        raise UserError(f"{folder}: expected one sub-folder per class, or one of {', '.join(NAMES)}{beside}")
    rows = [(name, name.partition("/")[0] if "/" in name else "") for name in tree.pictures]
    empty = sorted(set(classes) - {label for _, label in rows})
    rows += [("", label) for label in empty]  # so that `make_records` can refuse it, unless dataset.classes leaves it out
    frame = pd.DataFrame(rows, columns=["file_name", "label"], dtype=str).sort_values("file_name", ignore_index=True)
    return frame.assign(stem=[walk.stem(name) for name in frame["file_name"]])


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
    rows, consent = source.rows, dataset.consent
    _require(source, "dataset.label_column", dataset.label_column)
    wanted = list(dict.fromkeys([*dataset.attribute_columns, *columns]))
    for name in wanted:
        _require(source, "dataset.attribute_columns" if name in dataset.attribute_columns else "dataset.prompts", name)
    frame = pd.DataFrame({"path": _paths(source, "dataset.image", _image_template(rows, dataset.image))})
    frame["label"] = spelling.text(rows[dataset.label_column])
    numbers = pd.Series(range(1, len(rows) + 1)).astype(str)
    frame["where"] = f"{source.where} row " + numbers if source.is_table else rows["file_name"]
    frame["mask"] = _paths(source, "dataset.mask", dataset.mask) if dataset.mask else ""
    for key, column in (("scope", consent.scope_column), ("expires", consent.expires_column)):
        if column:
            _require(source, f"dataset.consent.{key}_column", column)
            frame[key] = rows[column]
    for name in wanted:
        frame[f"attribute.{name}"] = spelling.text(rows[name])
    rule = _group_rule(source, dataset.group or source.group)
    frame = frame[~twins.masks_of_others(frame)]
    kept = _check(frame, source, dataset)
    refuse_twice(kept)
    return kept.assign(group=_groups(source, kept, rule)).sort_values("path", ignore_index=True)


def _group_rule(source: Source, named: str | None) -> pd.Series | re.Pattern[str] | None:
    """The column that holds the groups, or the pattern that finds them in the paths; None: every image is its own."""
    if named is None:
        return None
    if named in source.rows.columns:
        _require(source, "dataset.group", named)
        return spelling.text(source.rows[named])
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
    labelled = (frame["label"] != "").tolist()
    missed = [path for path, group, known in zip(paths, found, labelled, strict=True) if path and known and not group]
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
    if source.tree and (frame["path"] == "").any():
        empty = ", ".join(_what_is_there(label, source.tree) for label in frame.loc[frame["path"] == "", "label"])
        raise UserError(f"{source.root}: class folder without images: {empty}; fill it, remove it, or name the others "
                        "in dataset.classes")  # fmt: skip
    return frame


def _what_is_there(label: str, tree: walk.Tree) -> str:
    files = {**tree.ignored, **tree.left_out}
    rules = [rule for name, rule in files.items() if name.startswith(f"{label}/")]
    return f"{label} (its {len(rules)} files: {rules[0]})" if rules else label


def refuse_twice(frame: pd.DataFrame) -> None:
    """Check that no two records have the same path.

    Raises:
        UserError: the two rows, and their labels where these differ.
    """
    twice = frame[(frame["path"] != "") & frame.duplicated("path")]
    if len(twice):
        again = twice.iloc[0]
        first = frame[frame["path"] == again["path"]].iloc[0]
        labels = f" as '{first['label']}', here as '{again['label']}'" if first["label"] != again["label"] else ""
        raise UserError(f"{again['where']}: lists {again['path']} a second time, after {first['where']}{labels}; each image "
                        "needs exactly one row")  # fmt: skip


def doubts(source: Source, frame: pd.DataFrame, dataset: Dataset) -> list[Suspicion]:
    """What is probably wrong with the files and the spelling of values.

    Args:
        frame: as of `make_records`.
    """
    found = list(source.tree.suspicions) if source.tree else []
    found += spelling.doubts("columns", source.rows.columns)
    others = [name for name in NAMES if source.table and (source.root / name).is_file() and name != source.table.name]
    if others and not dataset.table:
        why = f"{source.where} is read; {', '.join(others)} beside it is not. Name one in dataset.table"
        found.append(Suspicion("warning", "several tables", why))
    raw = source.rows[dataset.label_column]
    labels = spelling.text(raw)
    found += spelling.doubts("labels", labels[labels != ""].tolist())
    if changed := int((raw != labels).sum()):
        why = f"{changed} labels lose blanks around them or take Unicode form NFC, such as {raw[raw != labels].iloc[0]!r}"
        found.append(Suspicion("note", "labels with blanks", why))
    if dataset.group or source.group:
        found += spelling.doubts("groups", frame["group"].tolist())
    for name in frame:
        if name.startswith("attribute."):
            found += spelling.doubts(f"values of {name.removeprefix('attribute.')}", frame[name].tolist())
    return found


def _require(source: Source, key: str, column: str) -> None:
    if column not in source.rows.columns:
        raise UserError(_absent(source, key, column))
    if column in source.nested:
        raise UserError(f"{key}: column '{column}' holds lists, objects or bytes ({source.nested[column]}); expected plain "
                        "values")  # fmt: skip


def _absent(source: Source, key: str, column: str) -> str:
    there = ", ".join(source.rows.columns)
    more = "" if source.is_table else "; an image folder has no others: add a metadata.csv with them"
    if len(source.rows.columns) == 1 and (mark := re.search(r"[;\t|,]", there)):
        more = f"; it seems to be separated by {mark[0]!r}: save it with commas, or with tabs as .tsv"
    return f"{key}: no column '{column}' in {source.where}; there are: {there}{more}"


def _image_template(rows: pd.DataFrame, template: str) -> str:
    if template != Dataset.model_fields["image"].default or "file_name" in rows.columns:
        return template
    return next((f"{{{name}}}" for name in SYNONYMS if name in rows.columns), template)


def _paths(source: Source, key: str, template: str) -> pd.Series:
    """The template filled from every row; "" where a value is missing."""
    try:
        pieces = templates.split(template)
    except ValueError as error:
        raise UserError(f"{key}: '{template}' is not a template: {error}") from error
    if all(name is None for _, name in pieces):
        raise UserError(f"{key}: '{template}' names no {{column}}, so every row would have the same file")
    filled = pd.Series("", index=source.rows.index, dtype=str)
    complete = pd.Series(True, index=source.rows.index)
    for text, name in pieces:
        values = text if name is None else _values(source, key, name)
        complete &= values != ""
        filled = filled + values
    zero = filled.str.contains("\0", regex=False)
    if zero.any():
        raise UserError(f"{source.where} row {int(zero.argmax()) + 1}: the path of {key} holds a zero character")
    return spelling.paths(filled.where(complete, ""), source.root)


def _values(source: Source, key: str, name: str) -> pd.Series:
    """A template's column; of `{number:03d}` its whole numbers, filled with zeros."""
    column, width = (name, 0) if name in source.rows.columns else templates.padded(name)
    _require(source, key, column)
    values = source.rows[column]
    if not width:
        return values
    wrong = (values != "") & ~values.str.fullmatch(r"\s*-?\d+\s*")
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(f"{key}: {{{name}}} needs whole numbers, found '{values.iloc[row]}' ({source.where} row {row + 1})")
    return pd.Series([f"{int(value):0{width}d}" if value else "" for value in values], index=values.index, dtype=str)
