"""What an edit changed, and where: from pictures before and after, without any model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
Values = NDArray[np.float64]


class Change(NamedTuple):
    """Mean absolute change in grey levels of each picture, [N]; NaN where there is nothing inside or outside."""

    inside: Values
    outside: Values


def change(before: Pictures, after: Pictures, mask: NDArray[np.bool_]) -> Change:
    """How much pictures changed where they should and where they should not.

    Args:
        before, after: uint8 [N, H, W, 3].
        mask: bool [N, H, W], where a change is meant to be.
    """
    difference = np.abs(after.astype(np.float64) - before).mean(3)
    return Change(_mean(difference, mask), _mean(difference, ~mask))


def _mean(values: Values, where: NDArray[np.bool_]) -> Values:
    count = where.sum((1, 2))
    return np.where(count > 0, (values * where).sum((1, 2)) / np.maximum(count, 1), np.nan)
