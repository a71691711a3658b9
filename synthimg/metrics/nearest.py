"""Nearest neighbours in feature space: is a synthetic picture a near-copy of a training image, or of another one?

Distances are 1 - cosine of the features (0: same direction, at most 2). What counts as too close is calibrated on
images that are certainly no copies: real validation images, none of whose groups is in the training set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..vision.features import Features

NOISE = 1e-6
"""Distance that float32 rounding alone can make between two identical pictures."""


def directions(features: Features) -> Features:
    """Rows [N, D] scaled to length 1 (all-zero rows stay zero)."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)


def nearest_neighbours(
    queries: Features, references: Features, chunk: int = 1024
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Index [N] of the nearest reference (the first of equals) and the cosine distance [N] to it.

    Raises:
        ValueError: no references.
    """
    if not len(references):
        raise ValueError("nearest: no references")
    targets = directions(references)
    index = np.empty(len(queries), np.intp)
    distance = np.empty(len(queries), np.float64)
    for start in range(0, len(queries), chunk):
        likeness = directions(queries[start : start + chunk]) @ targets.T
        best = likeness.argmax(axis=1)
        index[start : start + chunk] = best
        distance[start : start + chunk] = 1 - likeness[np.arange(len(best)), best]
    return index, np.clip(distance, 0, 2)


def copy_threshold(held_out: Features, training: Features, quantile: float) -> float:
    """The distance to the training set that only the share `quantile` of held-out real images undercuts.

    At least `NOISE`, so that exact copies are found even where the held-out images hold some; just `NOISE` without any.
    """
    if not len(held_out):
        return NOISE
    return max(NOISE, float(np.quantile(nearest_neighbours(held_out, training)[1], quantile)))


def duplicates(features: Features, threshold: float, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows lie within `threshold` of an earlier row that stays; the first of a cluster stays.

    Args:
        features: [N, D] in plan order.
        kept: [N]; rows that are False are out already: neither judged nor compared with.
    """
    unit = directions(features)
    rows = np.flatnonzero(kept)
    # filled from the front: a copy of what stays, for each row, would take N squared in time
    staying = np.empty((len(rows), unit.shape[1]), unit.dtype)
    count, found = 0, np.zeros(len(unit), bool)
    for row in rows:
        likeness = staying[:count] @ unit[row]
        found[row] = count > 0 and 1 - float(likeness.max()) <= threshold
        if not found[row]:
            staying[count] = unit[row]
            count += 1
    return found
