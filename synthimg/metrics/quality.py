"""How close accepted synthetic images come to the real rare ones, beside what real images score against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..vision.features import Extractor, Features
from . import frechet, kernel, marginals

Rows = NDArray[np.int64]


class Sides(NamedTuple):
    """Real rare images and accepted synthetic ones, as scores of quality see them."""

    real: Features
    """Features of the rare training and reserve images, float32 [N, D]."""
    groups: Sequence[str]
    """Group of each real image [N]."""
    synthetic: Features
    """Features of the accepted images, float32 [M, D]."""
    attributes: Mapping[str, tuple[marginals.Values, marginals.Values]]
    """Measured values by attribute, real [N] and synthetic [M]; NaN where one could not be measured."""


def assess(extractor: Extractor, sides: Sides, seed: int) -> dict[str, Any]:
    """The section `quality` of metrics.json; scores that the number of images does not allow are None."""
    real, groups, synthetic, attributes = sides
    one, two = halves(groups, seed)
    return {
        "extractor": extractor,
        "fid": frechet.frechet_distance(synthetic, real),
        "kid": kernel.kernel_distance(synthetic, real, seed),
        "n": {"synthetic": len(synthetic), "real": len(real)},
        "floor": {
            "fid": frechet.frechet_distance(real[one], real[two]),
            "kid": kernel.kernel_distance(real[one], real[two], seed),
            "n": [len(one), len(two)],
        },
        "warning": warning(len(synthetic), len(real), len(one), len(two)),
        "marginals": {
            name: marginals.compare_marginals(values, made, (values[one], values[two]))
            for name, (values, made) in attributes.items()
        },
    }


def halves(groups: Sequence[str], seed: int) -> tuple[Rows, Rows]:
    """Two disjoint halves of the rows, no group in both: pictures of one lesion would make the floor too good.

    Groups come in random order, each to the smaller half so far, so sizes differ by no more than the largest group.
    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sizes = np.bincount(member, minlength=len(names))
    first: list[int] = []
    filled = [0, 0]
    for group in np.random.default_rng(seed).permutation(len(names)):
        side = int(filled[1] < filled[0])
        filled[side] += int(sizes[group])
        if side == 0:
            first.append(int(group))
    chosen = np.isin(member, first)
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def warning(synthetic: int, real: int, one: int, two: int) -> str | None:
    """What to mind in these scores for their number of pictures; None where there are enough."""
    if not synthetic:
        return "No synthetic image was accepted, so there is nothing to score."
    least = min(synthetic, real)
    if least < 4:
        return f"Too few images for a score ({synthetic} synthetic, {real} real)."
    if least < frechet.RELIABLE:
        return (
            f"FID is biased upwards below {frechet.RELIABLE} images ({synthetic} synthetic against {real} real; floor "
            f"{one} against {two}), so it compares with no score of another number of images; KID is not biased."
        )
    return None
