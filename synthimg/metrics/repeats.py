"""One experiment repeated over redrawn splits: what its gain is on average, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from .comparison import NOT_CONTROLS
from .recall import gap_closed


def pool(arms: Mapping[str, Sequence[float]], ratio: float) -> dict[str, Any]:
    """Recall of every arm in K repeats of one experiment -> the section `gain` over them.

    Args:
        arms: recall at the wanted specificity [K] by arm, in one order of repeats for all.
        ratio: test images for each training image.

    Returns:
        repeats; best_control: the control with the highest mean over the repeats; control, synthetic: their means; gain:
        `difference` of the two with points [K]; oracle_gap_closed: share of the oracle's mean lead, None without one. All
        but the first are None without a control or synthetic images.
    """
    controls = [name for name in arms if name not in NOT_CONTROLS]
    repeats = len(next(iter(arms.values())))
    if not controls or "synthetic" not in arms:
        return {"repeats": repeats, **dict.fromkeys(("best_control", "control", "synthetic", "gain", "oracle_gap_closed"))}
    means = {name: float(np.mean(values)) for name, values in arms.items()}
    best = max(controls, key=lambda name: means[name])
    gain = difference(arms["synthetic"], arms[best], ratio)
    closed = gap_closed(gain["mean"], means[best], means["oracle"]) if "oracle" in arms else None
    return {
        "repeats": repeats, "best_control": best, "control": means[best], "synthetic": means["synthetic"], "gain": gain,
        "oracle_gap_closed": closed,
    }  # fmt: skip


def difference(ours: Sequence[float], theirs: Sequence[float], ratio: float) -> dict[str, Any]:
    """Mean of paired differences over K >= 2 redrawn splits: {"mean", "ci95", "points"}; no interval where all are equal.

    Redrawn splits share images, so their results are not independent and a plain t-test is too sure of itself. The
    corrected resampled t-test multiplies the variance by 1/K + n_test / n_train instead of 1/K (Nadeau and Bengio,
    "Inference for the generalization error", Machine Learning 52, 2003). Equal differences give no interval (None): a
    spread of 0 in a handful of repeats is coarse counting, not certainty.

    Args:
        ratio: n_test / n_train.
    """
    points = np.subtract(ours, theirs)
    mean, count = float(points.mean()), len(points)
    if np.ptp(points) < 1e-12:
        return {"mean": mean, "ci95": None, "points": points.tolist()}
    reach = float(stats.t.ppf(0.975, count - 1) * np.sqrt((1 / count + ratio) * points.var(ddof=1)))
    return {"mean": mean, "ci95": [mean - reach, mean + reach], "points": points.tolist()}
