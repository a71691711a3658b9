"""One-class scores: how far an image is from the ordinary training images. No rare image is needed to work them out.

`distance` is of the features of the whole image, `patches` of those of its parts, `outlier` the two averaged. Each stands
alone as an arm, or is averaged with the classifier of another arm. `with_distance` makes a `Fit` of all these arms from one
of classifiers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..config import Config
from ..core import stage
from ..core.device import CPU, choose_device
from ..core.seeds import derive
from ..data.prepared import Prepared
from ..metrics.recall import Array, threshold_at
from ..vision.features import Features, Pixels, chunks
from ..vision.patches import PATCHES, WIDTH, Patches, patch_features
from .arms import OneClass, arms_of
from .head import power_normaliser
from .inputs import Rows, classes_of, real_features, rows_of
from .training import Fit, Probabilities

NEIGHBOURS = 5
"""Ordinary images to which the distance is averaged."""
BANK = 5_000
"""Patches of ordinary images that are remembered, at most."""
AT_ONCE = 8
"""Pictures whose patches are compared at once; with them the table of distances takes 64 MB."""
DIGITS = 6
"""Digits of a standard deviation that are told apart: rounding in floating point neither makes nor breaks a tie."""
MOST = 36.0
"""Standard deviations from the threshold that are told apart; beyond, a probability would be 1 and its log-odds infinite."""
LEAST = 1e-9
"""Probabilities below this count as this in log-odds. It is also by how much an image that ties with the threshold is put
below it, so that it is not called rare, in whatever order the classes are."""


def with_distance(fit: Fit, config: Config, data: Prepared) -> Fit:
    """A fit of all arms from one of classifiers: arms with a one-class score are given it, alone or averaged.

    Each score is worked out once, when the first arm asks for it. It is the same for all seeds and all synthetic images.
    """
    settings, frame = config.evaluate, data.frame
    arms, (names, labels) = arms_of(settings.arms, settings.beside), classes_of(frame, config.dataset.rare_class)
    rare, held = names.index(config.dataset.rare_class), rows_of(frame, "validation")
    ordinary = np.flatnonzero((frame["label"] != config.dataset.rare_class).to_numpy()[held])
    known = labels[rows_of(frame, "train")]
    shares = np.bincount(known[known != rare], minlength=len(names)) / max((known != rare).sum(), 1)

    @cache
    def scores(which: OneClass) -> Array:
        if which == "outlier":
            return standardised(scores("distance"), ordinary) + standardised(scores("patches"), ordinary)
        return one_class_score(config, data, which)

    def judged(name: str, number: int, only: list[str]) -> Probabilities:
        arm = arms[name]
        if arm.one_class is None:
            return fit(name, number, only)
        distance = scores(arm.one_class)
        if not arm.classified:
            return alone(distance, shares, rare, ordinary, settings.specificity)
        return averaged(fit(name, number, only), distance, rare, ordinary, settings.specificity)

    return judged


def one_class_score(config: Config, data: Prepared, which: Literal["distance", "patches"]) -> Array:
    """Score [M] of the validation images, then of the test images; greater is farther from the ordinary training images."""
    known = rows_of(data.frame, "train")
    judged = np.concatenate([rows_of(data.frame, "validation"), rows_of(data.frame, "test")])
    ordinary = (data.frame["label"] != config.dataset.rare_class).to_numpy()[known]
    if which == "distance":
        features = real_features(config, data)
        return neighbour_distance(features[known[ordinary]], features[judged])
    folder, device = stage.cache_of(config) / "features", choose_device(config.device)
    seed = derive(config.seed, "patches")
    remember = partial(memory_bank, data.pixels, known[ordinary], device, seed)
    bank = kept(folder, (np.array(seed), *chunks(data.pixels, known[ordinary])), remember)
    parts = chunks(data.pixels, judged)
    return np.concatenate([kept(folder, (bank, part), partial(pictures_distance, part, bank, device)) for part in parts])


def kept(folder: Path, made_from: Iterable[NDArray[Any]], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """What `make` gives, in a file named by the content of what it is made from: a killed run goes on with it."""
    content = hashlib.sha256()
    for part in made_from:
        content.update(repr(part.shape).encode() + part.tobytes())
    return np.asarray(stage.kept(folder / f"patches-{content.hexdigest()[:24]}.npy", make))


def neighbour_distance(ordinary: Features, queries: Features, neighbours: int = NEIGHBOURS) -> Array:
    """Mean distance of each query to the nearest ordinary images, with features as the head sees them.

    Args:
        ordinary: [N, D] as the network gives them, at least one; where there are fewer than `neighbours`, all are taken.
        queries: [M, D], likewise.

    Returns:
        [M].
    """
    ready = power_normaliser(ordinary)
    known, found = torch.from_numpy(ready(ordinary)), []
    for part in torch.from_numpy(ready(queries)).split(1024):
        distances = torch.cdist(part, known, compute_mode="use_mm_for_euclid_dist")
        found.append(distances.topk(min(neighbours, len(known)), largest=False).values.mean(dim=1))
    return torch.cat(found).double().numpy()


def averaged(
    probabilities: Probabilities, distance: Array, rare: int, ordinary: NDArray[np.int64], specificity: float
) -> Probabilities:
    """A classifier's score and a one-class score, each counting alike: the sum of the log-odds of the rare class and of the
    distance, each standardised on validation's ordinary images.

    Args:
        probabilities: [M, C], C at least 2.
        distance: [M], greater is farther.
        rare: column of the rare class.
        ordinary: rows of validation's ordinary images, at least one.
        specificity: share of these that is not to be called rare.

    Returns:
        [M, C] as `probabilities_of` gives them; the other classes keep their proportions.
    """
    hers, others = probabilities[:, rare], np.delete(probabilities, rare, axis=1).sum(axis=1)
    odds = np.log(np.clip(hers, LEAST, None)) - np.log(np.clip(others, LEAST, None))
    total = standardised(odds, ordinary) + standardised(distance, ordinary)
    return probabilities_of(total, probabilities, rare, ordinary, specificity)


def alone(distance: Array, shares: Array, rare: int, ordinary: NDArray[np.int64], specificity: float) -> Probabilities:
    """A one-class score without a classifier, as `averaged`.

    Args:
        shares: [C] of the classes among the ordinary training images; they are the other classes' proportions.
    """
    proportions = np.broadcast_to(shares, (len(distance), len(shares)))
    return probabilities_of(standardised(distance, ordinary), proportions, rare, ordinary, specificity)


def standardised(score: Array, ordinary: NDArray[np.int64]) -> Array:
    """The score [M], less the mean and over the standard deviation of its rows `ordinary`; those that are all alike leave
    nothing to scale.
    """
    known = score[ordinary]
    scale = float(known.std())
    return np.asarray((score - known.mean()) / (scale if scale > LEAST else 1.0), np.float64)


def probabilities_of(
    score: Array, proportions: NDArray[np.float64], rare: int, ordinary: NDArray[np.int64], specificity: float
) -> Probabilities:
    """Class probabilities that are ordered as a score is: the logistic function of its distance from a threshold.

    The score has no threshold of its own. It is given the one at which validation's ordinary images reach the wanted
    specificity. With two classes the default threshold then says what the set one says. With more it calls some more images
    rare: there, the most probable class may have less than half.

    Args:
        score: [M], in standard deviations.
        proportions: [M, C], at least 0; how the other classes share what the rare one leaves. All 0: evenly.

    Returns:
        [M, C].
    """
    told = np.round(score, DIGITS)
    above = np.clip(told - threshold_at(told[ordinary], specificity) - LEAST, -MOST, MOST)
    mine, rest = 1 / (1 + np.exp(-above)), 1 / (1 + np.exp(above))
    others = np.clip(np.delete(proportions, rare, axis=1), 0, None)
    sums = others.sum(axis=1, keepdims=True)
    others = np.where(sums > 0, others / np.where(sums > 0, sums, 1), 1 / others.shape[1])
    return np.asarray(np.insert(others * rest[:, None], rare, mine, axis=1), np.float64)


def memory_bank(pixels: Pixels, rows: Rows, device: torch.device = CPU, seed: int = 0) -> NDArray[np.float32]:
    """Features of patches of the ordinary images, drawn by chance from all of them: [B, WIDTH], B at most `BANK`.

    PatchCore chooses patches far from each other, one after the other. That took minutes where all else takes seconds
    (docs/experiments/one-class.md).

    Args:
        pixels: uint8 [N, R, R, 3]; rows: those of the ordinary images.
    """
    draw = np.random.default_rng(seed)
    places = np.sort(draw.permutation(len(rows) * PATCHES)[:BANK])
    bank = np.empty((len(places), WIDTH), np.float32)
    for start in tqdm(range(0, len(rows), AT_ONCE), desc="patches of ordinary images", disable=None):
        first, last = np.searchsorted(places, [start * PATCHES, (start + AT_ONCE) * PATCHES])
        if first < last:
            found = patch_features(pixels[rows[start : start + AT_ONCE]], device).reshape(-1, WIDTH)
            bank[first:last] = found[places[first:last] - start * PATCHES]
    return bank


def pictures_distance(pixels: Pixels, bank: NDArray[np.float32], device: torch.device = CPU) -> Array:
    """`patch_distance` of pictures, uint8 [N, R, R, 3]: [N]."""
    starts = tqdm(range(0, len(pixels), AT_ONCE), desc="distance of patches", disable=None)
    found = [patch_distance(patch_features(pixels[start : start + AT_ONCE], device), bank) for start in starts]
    return np.concatenate([np.zeros(0), *found])


def patch_distance(patches: Patches, bank: NDArray[np.float32]) -> Array:
    """How far the farthest patch of each picture is from the bank: the greatest distance to the nearest patch there.

    PatchCore also weights it by how lonely that nearest patch is; on solar cells that changed nothing
    (docs/experiments/one-class.md).

    Args:
        patches: [N, P, D]; bank: [B, D].

    Returns:
        [N].
    """
    table = torch.cdist(torch.from_numpy(patches).flatten(0, 1), torch.from_numpy(bank))
    return table.min(dim=1).values.reshape(patches.shape[:2]).max(dim=1).values.double().numpy()
