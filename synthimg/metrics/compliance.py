"""Do synthetic pictures have the attributes they were asked for? Each is measured on the finished picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def assess_compliance(asked: NDArray[np.str_], found: NDArray[np.str_], categories: Sequence[str]) -> dict[str, Any]:
    """How often the category measured is the one asked for, and how often it would be were the request ignored.

    Args:
        asked: category names [N].
        found: category names [N], "" where the property could not be told, which counts as a miss.
        categories: all there are, in their order.

    Returns:
        n; share with its 95 % interval (Wilson, 1927); chance: the share expected of the same requests and the same
        measured categories, paired at random; p: exact binomial test, one-sided, of more matches than that; table
        {asked: {found: count}}, each category a row and a column, and "" a column where it occurs. Without pictures n is 0
        and the rest None or empty.
    """
    n = len(asked)
    if not n:
        return {"n": 0, "share": None, "ci95": None, "chance": None, "p": None, "table": {}}
    matches = int((asked == found).sum())
    chance = min(1.0, float(sum((asked == name).mean() * (found == name).mean() for name in categories)))
    interval = stats.binomtest(matches, n).proportion_ci(method="wilson")
    columns = [*categories, *([""] if (found == "").any() else [])]
    table = {name: {other: int(((asked == name) & (found == other)).sum()) for other in columns} for name in categories}
    return {
        "n": n,
        "share": matches / n,
        "ci95": [float(interval.low), float(interval.high)],
        "chance": chance,
        "p": float(stats.binomtest(matches, n, chance, alternative="greater").pvalue),
        "table": table,
    }
