"""The stage before all others: looks at a data set and writes a configuration to start from."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from ..attributes import captions
from ..config import Config, Dataset, Split
from ..data import elpv, records, spelling, walk
from ..errors import UserError
from ..reading import parse
from ..stages.prepare import dealt_out
from . import proposals
from .proposals import quoted

LABELS = ("label", "class", "category", "diagnosis", "dx", "target", "y")
GROUPS = re.compile(
    r"patient|subject|person|lesion|case|group|part|module|panel|serial|slide|specimen|session", re.IGNORECASE
)
SCOPES = re.compile(r"consent|scope|allowed|permission|permitted", re.IGNORECASE)
ENDS = re.compile(r"expir|valid_until|valid_to|consent_end", re.IGNORECASE)
TRIED = 20
"""Most proposals that are tried."""
RARE = 0.5
"""A class with less than this share of an equal part is called rare."""

RECIPE = """
# Much of configs/quickstart.yaml, the embedded base's recipe, found on one data set of two classes; with a larger base take
# that of configs/sd15-lora.yaml instead.
finetune:
  method: full
  steps: 300
  warmup: 30
  decoder_steps: 200
  decoder_learning_rate: 5.0e-4
  batch_size: 16
  learning_rate: 3.0e-4
  ema: 0.98
generate:
  count: {count}  # about ten to each real training image of the rare class; 100 at least, 1000 at most
  methods: {{text: 0.2, image: 0.4, from_common: 0.4}}  # what leads so far needs no model (docs/gain.md):
  # methods: {{procedural: 1}}  # where the rare class has cracks, scratches or spots and the others have not
  # methods: {{transplant: 1}}  # with dataset.mask: its objects in the places of others'
  strength: [0.25, 0.4, 0.55, 0.7]  # raise it if pictures made from common images still look common
  detail: 1                         # the start image's own grain and thin lines: also a reason to look at its privacy
  guidance: 2.0
  batch_size: 16
filter:
  confidence: 0.2  # raise it if accepted pictures do not look like the rare class
evaluate:
  beside: mirrored  # mirror images; `turned` with quarter turns, too, `real` where an image has an upright
  synthetic_weight: 0.5  # of a real image
  choose: true  # control, methods and weight, or none, by cross-validation inside the training groups
"""


class Seen(NamedTuple):
    """What was found in a data set."""

    name: str
    """Of the run."""
    path: str
    source: records.Source
    rows: pd.DataFrame
    """Those of images."""
    label: str
    """The column of the classes."""
    groups: list[str]
    """The columns that may hold groups, the best first."""
    consent: dict[str, list[str]]
    """Columns by key of `dataset.consent`."""
    pictures: list[str]
    """Lines on masks and fit, from a look at some pictures."""


def write_config(folder: str | Path) -> Path:
    """Look at an image folder, a table or `pypi:elpv-dataset`; print what is there; write `./<name>.yaml`.

    Consent is never guessed: the configuration cannot be run before a person has filled it in.

    What is proposed is what `prepare` accepts; where nothing is, it says why.

    Raises:
        UserError: no data set there, no column that looks like a label or an empty one, or the configuration exists.
    """
    source = records.open_source(str(folder))
    rows = source.rows
    if not source.is_table:
        rows = rows[rows["file_name"] != ""]
        if rows.empty:
            raise UserError(f"{folder}: no images in its sub-folders ({', '.join(sorted(set(source.rows['label'])))})")
    label = label_column(rows, source.where)
    column = next((name for name in records.SYNONYMS if name in rows), None)
    looked = proposals.propose(source.root, list(rows[column]), source.is_table) if column else None
    if looked and looked.mask:
        rows = rows[looked.is_image]
        print(f"{(~looked.is_image).sum()} masks among the images: dataset.mask: '{looked.mask}'")
    counts = Counter(spelling.text(rows[label]))
    if set(counts) == {""}:
        raise UserError(f"{source.where}: column '{label}' is empty in every row")
    stem = Path(str(folder).removeprefix("pypi:")).resolve().stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "run"
    path = Path(f"{name}.yaml")
    if path.exists():
        raise UserError(f"{path}: exists already and was left as it is; move it away first")
    groups = [source.group] if source.group else group_columns(rows, label) if source.is_table else []
    found = {key: [column for column in rows if pattern.search(column)] for key, pattern in
             (("scope_column", SCOPES), ("expires_column", ENDS))}  # fmt: skip
    found["scope_column"] = [column for column in found["scope_column"] if column not in found["expires_column"]]
    print(f"{source.where}: {len(rows)} images, {len(counts)} classes (column '{label}')")
    for value, count in counts.most_common():
        print(f"  {value or '(none)':20} {count:6}{'   rare' if value in rare_classes(counts) else ''}")
    print(f"group columns (what must not straddle splits): {', '.join(groups) or 'none found'}")
    if not groups:
        print("  without dataset.group every image is its own group; name a column, or a pattern for the files' names")
    print(f"consent columns: {', '.join([*found['scope_column'], *found['expires_column']]) or 'none found'}")
    if source.notice:
        print(source.notice)
    seen = Seen(name, str(folder), source, rows, label, groups, found, looked.lines if looked else [])
    text, refusal = proposal(seen)
    if refusal:
        print(f"warning: `synthimg prepare` will refuse this as it is: {refusal}")
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {path}; " + ("it is ready to run" if source.consent else "fill in dataset.consent before you run it"))
    return path


def proposal(seen: Seen) -> tuple[str, str]:
    """The text of the first configuration that `prepare` accepts as far as the table tells, and "".

    Near duplicates join groups only once the pictures are read, so fewer may be left then.

    Returns:
        Where none is accepted: the first of them, and why it is refused.
    """
    refused: list[tuple[str, str]] = []
    for folds, rare in candidates(seen):
        text = _text(seen, folds, rare)
        refusal = refusal_of(text, seen.source)
        if not refusal:
            return text, ""
        refused.append((text, refusal))
    return refused[0]


def candidates(seen: Seen) -> list[tuple[int, str]]:
    """Folds and rare classes to propose, the best first: the rarest class that lies in as many groups as there are folds.

    The most frequent class is none; the last candidate is what would be proposed if no class had few groups.
    """
    labels = spelling.text(seen.rows[seen.label])
    groups = (
        spelling.text(seen.rows[seen.groups[0]]) if seen.groups else pd.Series(seen.rows.index.astype(str), labels.index)
    )
    sizes = groups[(labels != "") & (groups != "")].groupby(labels).nunique()
    named = [value for _, value in sorted((count, value) for value, count in Counter(labels).items() if value)]
    smaller = ["defective"] if seen.path == elpv.NAME else named[:-1] or named
    most = int(Config.model_fields["folds"].default)
    able = [(folds, rare) for folds in range(most, 2, -1) for rare in smaller if sizes.get(rare, 0) >= folds]
    return [*able[:TRIED], (most, smaller[0])]


def refusal_of(text: str, source: records.Source) -> str:
    """Why `prepare` would refuse a configuration before it opens a picture; "" where it would not."""
    try:
        config = parse(yaml.safe_load(text))
        frame = records.make_records(source, config.dataset, captions.load(config.dataset.prompts).columns)
        frame = frame[(frame["path"] != "") & (frame["label"] != "") & (frame["group"] != "")].reset_index(drop=True)
        dealt_out(frame.assign(id=frame["path"]), config)
    except UserError as error:
        return str(error)
    return ""


def label_column(rows: pd.DataFrame, where: str) -> str:
    """The column that looks like the class: by its name, in the order of `LABELS`."""
    lower = {column.lower(): column for column in reversed(rows.columns)}
    for name in LABELS:
        if name in lower:
            return lower[name]
    raise UserError(f"{where}: no column that looks like a label ({', '.join(LABELS)}); there are: {', '.join(rows)}. "
                    "Rename the one that is, or write the configuration by hand")  # fmt: skip


def group_columns(rows: pd.DataFrame, label: str) -> list[str]:
    """Columns named like a group whose values repeat, but are many more than the classes."""
    few, many = 2 * rows[label].nunique(), len(rows)
    named = [column for column in rows if column != label and GROUPS.search(column)]
    return [column for column in named if few < rows[column].nunique() < many]


def rare_classes(counts: Counter[str]) -> list[str]:
    """Classes far below an equal share, the rarest first; the smallest of all where none is."""
    named = sorted((count, value) for value, count in counts.items() if value)
    equal = sum(count for count, _ in named) / max(1, len(named))
    return [value for count, value in named if count < RARE * equal] or [named[0][1]]


def image_template(source: records.Source) -> str | None:
    """How the rows name their images, found by looking for the first row's file; None where the default serves."""
    rows, first = source.rows, source.rows.iloc[0]
    if any(name in rows and (source.root / first[name]).is_file() for name in records.SYNONYMS[:1]):
        return None
    candidates = [column for column in rows if rows[column].is_unique and first[column]]
    files = [file for file in sorted(source.root.rglob("*")) if walk.is_picture(file.name)]
    for column in candidates:
        for file in files:
            place = file.relative_to(source.root).as_posix()
            for known in (first[column], Path(first[column]).name):
                if known and (place.endswith(known) or file.stem == known):
                    return place.replace(first[column], f"{{{column}}}") if first[column] in place else None
    return None


def _text(seen: Seen, folds: int, rare: str) -> str:
    source, groups, known = seen.source, seen.groups, seen.path == elpv.NAME
    counts = Counter(spelling.text(seen.rows[seen.label]))
    template = image_template(source) if source.is_table and not source.consent else None
    also = [label for label in rare_classes(counts) if label != rare]
    # a class without images is refused unless it is left out
    classes = sorted(counts) if len(set(source.rows[seen.label])) > len(counts) and not source.is_table else []
    lines = [
        f"# Written by `synthimg init`; every key is described in synthimg/config.py.\nname: {quoted(seen.name)}",
        "resolution: 128",
        "base: embedded                 # or a diffusers folder, a .safetensors checkpoint, a hub id",
        f"folds: {folds}  # no rare class lies in more groups" if folds != Config.model_fields["folds"].default else None,
        f"\ndataset:\n  path: {quoted(seen.path)}",
        f"  image: {quoted(template)}" if template else None,
        *seen.pictures,
        f"  label_column: {quoted(seen.label)}" if seen.label != Dataset.model_fields["label_column"].default else None,
        f"  classes: ['functional', 'defective']  # the certain votes; {counts['uncertain']} cells are uncertain"
        if known else None,
        f"  classes: [{', '.join(map(quoted, classes))}]  # the others have no images" if classes else None,
        f"  group: {quoted(groups[0])}  # check it: its images stay on one side of every split"
        + (f", or {', '.join(map(quoted, groups[1:]))}" if groups[1:] else "")
        if groups else "  # group: <column of the patient, lesion or part, or a pattern of file names like '^([^_]+)_'>\n"
        "  # none was found: every image is its own group until you name one",
        f"  rare_class: {quoted(rare)}" + (f"  # also rare: {', '.join(map(quoted, also))}" if also and not known else ""),
        "  prompts: solar-cell" if known else "  prompts: generic  # a name in prompts/, or a file",
        *_consent_lines(source, seen.consent),
    ]  # fmt: skip
    recipe = RECIPE.format(count=min(1000, max(100, 10 * round(Split().train * counts[rare]))))
    return "\n".join(line for line in lines if line is not None) + "\n" + recipe


def _consent_lines(source: records.Source, found: dict[str, list[str]]) -> list[str]:
    use = "  consent:\n    use: research"
    if source.consent:
        return [f"{use}                # licence of the source: {source.consent.licence}"]
    seen = [f"    # {key}: {quoted(column)}  # may hold it" for key, columns in found.items() for column in columns]
    return [
        f"{use}                # what you will use the images for",
        "    # TODO, yours to state: nothing runs before the images' consent or licence is entered here.",
        "    # licence: <name of the licence or consent form that covers all images>",
        "    # scope: [<uses that it allows, e.g. research>]",
        *seen,
    ]
