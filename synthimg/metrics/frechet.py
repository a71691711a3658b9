"""Fréchet distance between the Gaussians fitted to two sets of features (Heusel et al., 2017: "FID").

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

The last trace is the sum of the square roots of the eigenvalues of S1 S2. With S = F^T F these are the squared singular
values of F1 F2^T, which needs no matrix square root, stays accurate where a covariance is singular (fewer pictures than
features), and is small then: F is [min(N, D), D].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..vision.features import Features

RELIABLE = 2048
"""Pictures per side below which the covariance of 2048 features is singular and the score biased upwards."""


def frechet_distance(first: Features, second: Features) -> float | None:
    """Squared Fréchet distance of features [N1, D] and [N2, D], in float64; None with fewer than 2 pictures on a side.

    Biased upwards for small N: print N beside it, and compare only scores of the same N.
    """
    if min(len(first), len(second)) < 2:
        return None
    mean1, factor1 = _statistics(first)
    mean2, factor2 = _statistics(second)
    shared = np.linalg.svd(factor1 @ factor2.T, compute_uv=False).sum()
    spread = (factor1**2).sum() + (factor2**2).sum() - 2 * shared
    # Never negative but for rounding.
    return max(0.0, float(((mean1 - mean2) ** 2).sum() + spread))


def _statistics(features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] and a factor F [min(N, D), D] of the covariance F^T F."""
    wide = np.asarray(features, np.float64)
    mean = wide.mean(axis=0)
    factor = (wide - mean) / np.sqrt(len(wide) - 1)
    return mean, factor if len(wide) <= wide.shape[1] else np.asarray(np.linalg.qr(factor, mode="r"))
