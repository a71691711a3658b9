"""Tables as they are written: every value as text, without a change of type on the way through a library."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UserError

READERS = (".csv", ".tsv", ".parquet", ".jsonl")
CHUNK = 100_000
"""Rows turned into columns at once: a million Python lists would take more memory than the table."""
BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class Table(NamedTuple):
    rows: pd.DataFrame
    """Text; "" where a value is missing."""
    nested: dict[str, str]
    """Columns that hold lists, objects or bytes, and where the first is. Their cells are ""."""


def read(file: Path) -> Table:
    """Read a CSV, TSV, Parquet or JSONL file.

    `007`, `None`, `NA`, `yes` and `true` stay as they are. A JSON number stays as it is written. Whole numbers in a
    Parquet column of floats, which is what pandas makes of whole numbers with a gap, have no decimal point. Missing
    values, null and NaN become "". Names of columns lose blanks around them; a column without a name is called
    `column N`. The index of a pandas table is a column if it has a name.

    Raises:
        UserError: unknown ending, not parsable (with the line), a line with more or fewer fields than the header, two
            columns of one name, text that is not UTF-8 (or UTF-16 with a byte order mark), or no rows.
    """
    ending = file.suffix.lower()
    if ending not in READERS:
        raise UserError(f"{file}: expected a table ending in {', '.join(sorted(READERS))}")
    try:
        if ending == ".parquet":
            table = _parquet(file)
        elif ending == ".jsonl":
            table = _jsonl(file, _text(file))
        else:
            table = _separated(file, _text(file), "\t" if ending == ".tsv" else ",")
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read as a table: {' '.join(str(error).split())}") from error
    if table.rows.empty:
        raise UserError(f"{file}: has no rows")
    return table


def _text(file: Path) -> str:
    data = file.read_bytes()
    encoding = next((name for mark, name in BOMS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file} line {line}: is not UTF-8 text (byte 0x{data[error.start]:02x}); save the table as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{file} line {line}: has a zero byte, so it is no UTF-8 text; save the table as UTF-8")
    return text


def _separated(file: Path, text: str, separator: str) -> Table:
    csv.field_size_limit(len(text) + 1)  # an outline of a mask may well be longer than the default of 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header = _names(file, next(reader, []))
    pieces = [pd.DataFrame(columns=header, dtype=str)]
    rows = _of_width(file, reader, len(header))
    while chunk := list(islice(rows, CHUNK)):
        pieces.append(pd.DataFrame(dict(zip(header, map(list, zip(*chunk, strict=True)), strict=True)), dtype=str))
    return Table(pd.concat(pieces[1:] or pieces, ignore_index=True), {})


def _of_width(file: Path, reader: Any, width: int) -> Iterator[list[str]]:
    """The rows but for empty lines, each known to have one field for each column."""
    start = reader.line_num + 1
    try:
        for row in reader:
            if len(row) == width:
                yield row
            elif row:
                raise UserError(
                    f"{file} line {start}: has {len(row)} fields, the header has {width}. A value that holds the separator "
                    "must stand in double quotes"
                )
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{file} line {start}: cannot be read, a double quote is out of place ({error})") from error


def _names(file: Path, header: Iterable[str]) -> list[str]:
    """The columns' names without blanks around them."""
    found = [unicodedata.normalize("NFC", name).strip() for name in header]
    twice = [name for name, count in Counter(found).items() if name and count > 1]
    if twice:
        raise UserError(f"{file}: has {Counter(found)[twice[0]]} columns named '{twice[0]}'; each needs its own name")
    return [name or f"column {number}" for number, name in enumerate(found, 1)]


def _jsonl(file: Path, text: str) -> Table:
    """Lines end in \\n alone: U+2028, U+0085 and others that `str.splitlines` cuts at are part of a value."""
    columns: dict[str, list[str]] = {}
    nested: dict[str, str] = {}
    count = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        for name, value in _object(file, number, line):
            column = columns.setdefault(name, [])
            column.extend([""] * (count - len(column)))
            if isinstance(value, (list, dict)):
                nested.setdefault(name, f"{file.name} line {number}")
            column.append(_as_text(value))
        count += 1
    for column in columns.values():
        column.extend([""] * (count - len(column)))
    names = _names(file, columns)
    return Table(pd.DataFrame(dict(zip(names, columns.values(), strict=True)), dtype=str), nested)


def _object(file: Path, number: int, line: str) -> list[tuple[str, Any]]:
    """The keys and values of one line. Numbers are text as they are written, NaN is missing."""
    try:
        pairs = json.loads(line, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=_constant)
        line.encode() if "\\" not in line else json.dumps(pairs, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(f"{file} line {number}: not valid JSON: {error}") from error
    except RecursionError as error:
        raise UserError(f"{file} line {number}: not valid JSON: too many levels") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{file} line {number}: holds half of a character (a lone surrogate)") from error
    if not isinstance(pairs, _Pairs):
        raise UserError(f"{file} line {number}: expected an object, found {type(pairs).__name__}")
    if len({name for name, _ in pairs}) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise UserError(f"{file} line {number}: has the key '{twice}' twice")
    return pairs


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they stand, which a dict would merge."""


def _constant(name: str) -> str:
    return "" if name == "NaN" else name


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else ""


def _parquet(file: Path) -> Table:
    """Read without `read_table`, which takes columns from folders named `key=value`."""
    source = pq.ParquetFile(file)
    schema = source.schema_arrow
    kept = [field.name for field in schema if not re.fullmatch(r"__index_level_\d+__", field.name)]
    names = _names(file, kept)
    flat = [name for name in kept if not _is_nested(schema.field(name).type)]
    table = source.read(columns=flat)
    found = {name: _column(table[name]) if name in flat else [""] * table.num_rows for name in kept}
    nested = {new: file.name for old, new in zip(kept, names, strict=True) if old not in flat}
    rows = pd.DataFrame({new: found[old] for old, new in zip(kept, names, strict=True)}, dtype=str)
    return Table(_with_ranges(rows, schema), nested)


def _is_nested(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
                or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind))  # fmt: skip


def _column(values: Any) -> list[str]:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if pa.types.is_null(values.type):
        return [""] * len(values)
    return pc.fill_null(values.cast(pa.string()), "").to_pylist()


def _with_ranges(rows: pd.DataFrame, schema: Any) -> pd.DataFrame:
    """The rows with an index of consecutive numbers as a column: pandas keeps only its name and where it starts."""
    for index in (schema.pandas_metadata or {}).get("index_columns", []):
        if isinstance(index, dict) and index.get("name") and index["name"] not in rows:
            numbers = range(index["start"], index["stop"], index["step"])
            rows = rows.assign(**{str(index["name"]): [str(number) for number in numbers]})
    return rows
