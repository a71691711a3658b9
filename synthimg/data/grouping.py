"""How the images of each class lie in groups: counted for `prepare`'s summary and said in words."""

from __future__ import annotations

import pandas as pd

ORDER = ("train", "reserve", "validation", "test")
"""The splits that have a name, as they are shown; others, such as the numbers of folds, follow in their own order."""


def group_counts(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Groups of each class, `{label: {split: groups, ..., "all": groups}}`; one with images of two classes counts in both.

    Args:
        frame: columns `label`, `group`, `split`.
    """
    groups = frame.groupby(["label", "split"])["group"].nunique()
    return {
        str(label): {str(split): int(groups.get((label, split), 0)) for split in _splits(frame)} | {"all": own.nunique()}
        for label, own in frame.groupby("label")["group"]
    }


def group_table(frame: pd.DataFrame) -> str:
    """Images and groups of each class in each split, as lines of text.

    Args:
        frame: columns `label`, `group`, `split`. `split` holds names or the numbers of folds.
    """
    groups = group_counts(frame)
    images = frame.groupby(["label", "split"]).size()
    rows = {
        label: [f"{images.get((label, split), 0)} in {counts[str(split)]}" for split in _splits(frame)]
        + [f"{(frame['label'] == label).sum()} in {counts['all']}"]
        for label, counts in groups.items()
    }
    heads = ["images in groups", *map(str, _splits(frame)), "all"]
    table = [heads, *([label, *cells] for label, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table)


def _splits(frame: pd.DataFrame) -> list[object]:
    found = sorted(frame["split"].unique())
    return [name for name in ORDER if name in found] + [name for name in found if name not in ORDER]
