"""How well scores of several classifiers rank rare images above ordinary ones, how surely one does so better than another,
and which of them to take.

N = images. Each is scored by one classifier, that of its fold. Scores of different classifiers have no common scale, so an
image is ranked only among the images of its fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .recall import Array, Mask

NO_DIFFERENCE = 1e-12
"""Sums of the same terms in another order differ by less."""


class Ranked(NamedTuple):
    """The images that are ranked; row i of each part is the same image."""

    rare: Mask
    """[N]"""
    folds: NDArray[np.int64]
    """[N], each with a rare and an ordinary image at least."""
    groups: NDArray[np.str_]
    """[N]"""


class Ranking(NamedTuple):
    """What one candidate makes of the images."""

    auc: float
    """Mean over the rare images of the share of their fold's ordinary images that they outscore, ties half."""
    influence: Array
    """[N], how far each image moves `auc` from what it would be on average: the terms whose squares make its variance."""


class Behind(NamedTuple):
    """A candidate beside the best."""

    auc: float
    behind: float
    """AUC of the best less its own, at least 0."""
    error: float
    """Standard error of that difference."""


def rank(scores: Array, images: Ranked) -> Ranking:
    """The AUC of scores [N] and the influence of each image on it (DeLong et al., 1988), by fold.

    A rare image has the share of ordinary images that it outscores, an ordinary one the share of rare images that outscore
    it. The influence is how far this lies from its mean, over the number of such images.
    """
    place = np.zeros(len(scores))
    influence = np.zeros(len(scores))
    count = int(images.rare.sum())
    for fold in np.unique(images.folds):
        rare = np.flatnonzero(images.rare & (images.folds == fold))
        other = np.flatnonzero(~images.rare & (images.folds == fold))
        wins = (scores[rare, None] > scores[other]) + 0.5 * (scores[rare, None] == scores[other])
        place[rare] = wins.mean(axis=1)
        influence[other] = (wins.mean(axis=0) - wins.mean()) * len(rare) / count / len(other)
    auc = float(place[images.rare].mean())
    influence[images.rare] = (place[images.rare] - auc) / count
    return Ranking(auc, influence)


def standard_error(influence: Array, images: Ranked) -> float:
    """The standard error of an AUC, or of a difference of two, from the influence [N] of each image on it.

    Images of a group are not independent, so their influences are summed first (Obuchowski, 1997). The spread of a handful
    of sums may be small by chance. So it is worked out once by group and once by image, and the larger counts, for rare
    and for ordinary images.
    """
    total = 0.0
    for side in (images.rare, ~images.rare):
        _, group = np.unique(images.groups[side], return_inverse=True)
        total += max(_variance(influence[side]), _variance(np.bincount(group, influence[side]).astype(float)))
    return float(np.sqrt(total))


def _variance(terms: Array) -> float:
    """Of the sum of independent terms whose mean is 0; 0 for a single one, which has no spread."""
    return float(np.square(terms).sum() * len(terms) / (len(terms) - 1)) if len(terms) > 1 else 0.0


def least_effort(rankings: Mapping[str, Ranking], images: Ranked) -> tuple[str, dict[str, Behind]]:
    """The first candidate within one standard error of the best (Breiman et al., 1984), and all beside the best.

    All candidates rank the same images, and an image that is hard for one is so for the others. So the error is that of the
    difference to the best, not that of the best itself: the latter is larger and would call nearly all alike.

    Args:
        rankings: by candidate, those that take less effort first.
    """
    best = max(rankings.values(), key=lambda found: found.auc)
    beside = {
        name: Behind(found.auc, best.auc - found.auc, standard_error(best.influence - found.influence, images))
        for name, found in rankings.items()
    }
    return next(name for name, one in beside.items() if one.behind <= one.error + NO_DIFFERENCE), beside
