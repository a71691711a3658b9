"""Kernel distance between two sets of features (Bińkowski et al., 2018: "KID"): unbiased for every N, unlike FID."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..vision.features import Features

SUBSETS = 100
LARGEST = 1000
"""Pictures per subset at most, as is usual; below 2 * LARGEST pictures it is half of them, so that subsets differ."""


def kernel_distance(
    first: Features, second: Features, seed: int, subsets: int = SUBSETS, size: int | None = None
) -> dict[str, float] | None:
    """Mean and standard deviation of MMD^2 over random subsets of features [N1, D] and [N2, D].

    Args:
        size: pictures per subset and side; default min(1000, half the smaller side).

    Returns:
        {"mean", "std"}; slightly negative values mean "no difference"; None with fewer than 4 pictures on a side.
    """
    least = min(len(first), len(second))
    size = size or min(LARGEST, least // 2)
    if size < 2 or size > least:
        return None
    draw = np.random.default_rng(seed)
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    values = [
        mmd2(a[draw.choice(len(a), size, replace=False)], b[draw.choice(len(b), size, replace=False)])
        for _ in range(subsets)
    ]
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}


def mmd2(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al., 2012, eq. 3) of [M, D] and [N, D]; can be negative."""
    m, n = len(first), len(second)
    within_first, within_second = _cubic(first, first), _cubic(second, second)
    return float(
        (within_first.sum() - np.trace(within_first)) / (m * (m - 1))
        + (within_second.sum() - np.trace(within_second)) / (n * (n - 1))
        - 2 * _cubic(first, second).mean()
    )


def _cubic(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return (first @ second.T / first.shape[1] + 1) ** 3
