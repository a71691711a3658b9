"""Recall by subgroup of the rare test images: which of them are missed most, and what synthetic images change there.

Which subgroup is worst is read off the same images as its recall. Chance has a share in that: another classifier tends to
do a little better there for this reason alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.seeds import derive
from .comparison import bounded
from .recall import Array, rates, resample

LEAST_GROUPS = 6
"""With fewer groups a subgroup has no interval and is neither worst nor best: even if all groups change in the same
direction, that comes by chance more often than once in twenty times (two-sided sign test: 2 / 2^5)."""
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Hits:
    """What the arms find of the N rare test images."""

    control: str | None
    """The arm that the synthetic one is compared with."""
    shares: Mapping[str, Array]
    """Arm -> [N]: share of the seeds that find each image, 0 to 1."""
    groups: NDArray[np.str_]
    """[N]: what is resampled as a whole."""


@dataclass(frozen=True)
class Subgroup:
    """The rare test images of one category, or of one pair of categories."""

    categories: tuple[str, ...]
    images: int
    groups: int
    means: Mapping[str, float]
    """Recall by arm."""
    resampled: Mapping[str, Array]
    """Recall by arm in each of B resamples, the same resamples for all arms: [B]."""


def by_subgroup(hits: Hits, categories: Mapping[str, NDArray[np.str_]], draws: int, seed: int) -> dict[str, Any]:
    """A `Partition` of metrics.json.

    Args:
        categories: of one attribute or of several, name -> [N]; "" where an image's category cannot be told.
        draws: bootstrap resamples of whole groups within each subgroup.
        seed: root seed; each subgroup derives its own by name.
    """
    keys = list(zip(*(values.tolist() for values in categories.values()), strict=True))
    told = sorted({key for key in keys if all(key)})
    members = {key: np.array([key == other for other in keys]) for key in told}
    found = [
        subgroup(hits, key, inside, draws, derive(seed, "subgroup", *categories, *key)) for key, inside in members.items()
    ]
    ends = {arm: extremes(found, arm) for arm in hits.shares}
    worst = ends[hits.control]["worst"] if hits.control in ends else None
    changes = {part.categories: change(part, hits.control) for part in found}
    return {
        "attributes": list(categories),
        "untold": sum(not all(key) for key in keys),
        "subgroups": [described(part, changes[part.categories]) for part in found],
        "arms": ends,
        "change_of_worst": changes[tuple(worst)] if worst else None,
    }


def subgroup(hits: Hits, categories: tuple[str, ...], inside: NDArray[np.bool_], draws: int, seed: int) -> Subgroup:
    """Recall of every arm among some of the images.

    Args:
        inside: bool [N], at least one.
    """
    groups = hits.groups[inside]
    counts = resample(groups, draws, seed)
    return Subgroup(
        categories,
        len(groups),
        len(np.unique(groups)),
        {arm: float(shares[inside].mean()) for arm, shares in hits.shares.items()},
        {arm: rates(shares[inside], counts) for arm, shares in hits.shares.items()},
    )


def described(part: Subgroup, changed: dict[str, Any] | None) -> dict[str, Any]:
    """A subgroup as metrics.json holds it."""
    recall = {arm: _spread(part.means[arm], part.resampled[arm], part.groups, 0.0) for arm in part.means}
    return {
        "categories": list(part.categories), "images": part.images, "groups": part.groups, "recall": recall,
        "change": changed,
    }  # fmt: skip


def change(part: Subgroup, control: str | None) -> dict[str, Any] | None:
    """Recall, synthetic minus control, paired by image: {"mean", "ci95"}; None where one of them is missing."""
    if control is None or not {control, SYNTHETIC} <= part.means.keys():
        return None
    mean = part.means[SYNTHETIC] - part.means[control]
    return _spread(mean, part.resampled[SYNTHETIC] - part.resampled[control], part.groups, -1.0)


def extremes(parts: list[Subgroup], arm: str) -> dict[str, Any]:
    """An arm's subgroups with the lowest and the highest recall, of those with LEAST_GROUPS groups, and the gap between.

    The interval of the gap draws the groups of the two subgroups independently. Where they share groups it is too wide
    rather than too narrow, as a group's images are alike.

    Returns:
        {"worst", "best": categories, "gap": {"mean", "ci95"}}; None where there is no such subgroup, and no gap with one.
    """
    large = sorted((part for part in parts if part.groups >= LEAST_GROUPS), key=lambda part: part.means[arm])
    if not large:
        return {"worst": None, "best": None, "gap": None}
    worst, best = large[0], large[-1]
    found: dict[str, Any] = {"worst": list(worst.categories), "best": list(best.categories), "gap": None}
    if worst is not best:
        resampled = best.resampled[arm] - worst.resampled[arm]
        groups = min(best.groups, worst.groups)
        found["gap"] = _spread(best.means[arm] - worst.means[arm], resampled, groups, -1.0)
    return found


def _spread(mean: float, resampled: Array, groups: int, least: float) -> dict[str, Any]:
    """A mean and its interval between `least` and 1; no interval where the groups are too few."""
    if groups < LEAST_GROUPS:
        return {"mean": round(mean, 12), "ci95": None}
    return bounded(mean, resampled, groups, least)
