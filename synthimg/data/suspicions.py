"""What is probably wrong with a data set that can be read: one list for terminal, summary.json, report and `--strict`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..errors import UserError

UNREADABLE, ALIKE, FEW = 0.05, 0.8, 10
"""Shares of a class from which its unreadable pictures and its near duplicates are told, and the size that a class needs."""


Severity = Literal["note", "warning"]


class Suspicion(NamedTuple):
    """Something about a data set that is probably wrong, though it can be read."""

    severity: Severity
    """`--strict` refuses warnings."""
    kind: str
    """Short, stable name, such as "masks as images"."""
    text: str
    """One plain sentence with the count and one example."""


def tell(found: Sequence[Suspicion]) -> None:
    """Print each on a line of its own."""
    for one in found:
        tqdm.write(f"{one.severity}: {one.text}")


def refuse(found: Sequence[Suspicion]) -> None:
    """Stop where something is suspected, for `dataset.strict`.

    Raises:
        UserError: there are warnings; lists all of them. Notes pass.
    """
    warnings = [f"{one.kind}: {one.text}" for one in found if one.severity == "warning"]
    if warnings:
        raise UserError(f"dataset.strict: refuses {len(warnings)} warning{'s' * (len(warnings) > 1)}:\n  "
                        + "\n  ".join(warnings))  # fmt: skip


class Hit(NamedTuple):
    """A class of which some pictures are hit by something."""

    label: str
    hits: int
    total: int
    first: str
    """The path of the first of them."""

    @property
    def words(self) -> str:
        return f"{self.hits} of {self.total} pictures of '{self.label}'"


def by_class(frame: pd.DataFrame, rows: np.ndarray) -> list[Hit]:
    """The classes that have some of these pictures, in alphabetical order.

    Args:
        frame: columns `path`, `label`.
        rows: bool [N].
    """
    totals = frame["label"].value_counts()
    return [Hit(str(label), len(own), int(totals[label]), own["path"].iloc[0])
            for label, own in frame[rows].groupby("label")]  # fmt: skip


def equal_pictures(frame: pd.DataFrame) -> list[Suspicion]:
    """Files of the same bytes: under several labels (a warning), and more than once under one (a note).

    Args:
        frame: columns `path`, `label`, `digest` of the readable pictures.
    """
    if frame.empty:
        return []
    found: list[Suspicion] = []
    labels = frame.groupby("digest")["label"].nunique()
    torn = frame[frame["digest"].isin(labels.index[labels > 1])]
    if len(torn):
        first = torn.iloc[0]
        other = torn[(torn["digest"] == first["digest"]) & (torn["label"] != first["label"])].iloc[0]
        pictures = f"{torn['digest'].nunique()} picture{'s' * (torn['digest'].nunique() > 1)}"
        found.append(Suspicion("warning", "one picture under several labels",
            f"{len(torn)} files show {pictures} under several labels: the bytes of {first['path']} "
            f"({first['label']}) and {other['path']} ({other['label']}) are equal"))  # fmt: skip
    counts = frame.groupby(["label", "digest"])["path"].agg(["size", "first"])
    again = counts[counts["size"] > 1]
    if len(again):
        most = again.loc[again["size"].idxmax()]
        found.append(Suspicion("note", "one picture many times",
            f"{(again['size'] - 1).sum()} files repeat the bytes of another one of their class: {most['first']} is there "
            f"{most['size']} times; equal pictures share a group"))  # fmt: skip
    return found


def own_groups(frame: pd.DataFrame) -> list[Suspicion]:
    """Whether no group was named.

    Args:
        frame: columns `path`, `group`; a group that was not named is the path of one of its images.
    """
    if frame.empty or not frame["group"].isin(frame["path"]).all():
        return []
    joined = len(frame) - frame["group"].nunique()
    return [Suspicion("note", "every image its own group",
        f"every image is its own group{f', but for {joined} near duplicates' if joined else ''}: images of one object, "
        "patient or module can be on both sides of the split; name dataset.group if they are")]  # fmt: skip


def unreadable(labels: Sequence[str], read: np.ndarray, paths: Sequence[str]) -> list[Suspicion]:
    """Classes of which more than 5 % cannot be read.

    Args:
        labels, paths: of all records.
        read: bool [N].
    """
    return [
        Suspicion("warning", "unreadable pictures",
                  f"{hit.words} cannot be read: the first is {hit.first}; the reasons are in excluded.csv")
        for hit in by_class(pd.DataFrame({"label": labels, "path": paths}), ~read) if hit.hits > UNREADABLE * hit.total
    ]  # fmt: skip


def alike(frame: pd.DataFrame, pairs: np.ndarray) -> list[Suspicion]:
    """Classes of ten pictures or more of which 80 % repeat an earlier one, such as the frames of a film.

    Args:
        frame: columns `path`, `label`.
        pairs: int [M, 2], rows of near duplicates, first < second.
    """
    labels = frame["label"].to_numpy(object)
    within = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]
    later = pd.Series(within[:, 0], within[:, 1]).groupby(level=0).first()
    sizes, counts = frame["label"].value_counts(), pd.Series(labels[later.index]).value_counts()
    found = []
    for label, count in counts.sort_index().items():
        if sizes[label] >= FEW and count >= ALIKE * sizes[label]:
            second = next(row for row in later.index if labels[row] == label)
            one, other = frame["path"].iloc[later[second]], frame["path"].iloc[second]
            found.append(Suspicion("warning", "a class of near duplicates",
                f"{count} of {sizes[label]} pictures of '{label}' nearly repeat an earlier one, such as {other} "
                f"that of {one}; they say little more than {sizes[label] - count} pictures"))  # fmt: skip
    return found


def one_colour(frame: pd.DataFrame, plain: np.ndarray) -> list[Suspicion]:
    """Pictures of one colour, by class: placeholders, empty slices, frames under a closed lid.

    Args:
        frame: columns `path`, `label`.
        plain: bool [N].
    """
    return [Suspicion("warning", "pictures of one colour", f"{hit.words} show one colour: the first is {hit.first}")
            for hit in by_class(frame, plain)]  # fmt: skip
