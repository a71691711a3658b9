"""Do measured attributes (brightness, texture, ...) of synthetic images spread like those of real ones?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance

Values = NDArray[np.float64]


def compare_marginals(real: Values, synthetic: Values, halves: tuple[Values, Values]) -> dict[str, Any]:
    """Kolmogorov-Smirnov and Wasserstein distance of one measured attribute; NaN entries are left out.

    Args:
        real, synthetic: values [N] and [M].
        halves: two disjoint parts of the real values, whose distance is the floor.

    Returns:
        {"ks", "p", "wasserstein", "floor": {"ks", "wasserstein"}}; Wasserstein in standard deviations of the real
        values (None where these do not vary); every entry None where a side is empty.
    """
    real, synthetic = _finite(real), _finite(synthetic)
    scale = float(real.std()) if len(real) else 0.0
    floor = _distances(_finite(halves[0]), _finite(halves[1]), scale)
    return {**_distances(real, synthetic, scale), "floor": {name: floor[name] for name in ("ks", "wasserstein")}}


def _distances(first: Values, second: Values, scale: float) -> dict[str, float | None]:
    if not len(first) or not len(second):
        return {"ks": None, "p": None, "wasserstein": None}
    test = ks_2samp(first, second)
    moved = float(wasserstein_distance(first, second)) / scale if scale > 0 else None
    return {"ks": float(test.statistic), "p": float(test.pvalue), "wasserstein": moved}


def _finite(values: Values) -> Values:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]
