"""Recall and its uncertainty, from predictions alone: no classifier, no images.

A picture is called rare at the threshold t if its score is **greater** than t. Everything is deterministic given its
arguments. Scores, hits and weights are float64; S = seeds, N = pictures, B = bootstrap resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, rankdata

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def threshold_at(scores: Array, specificity: float) -> float:
    """The least threshold at which the share of these scores of *other* pictures not above it reaches `specificity`.

    Ties are conservative: pictures that tie with the threshold are not called rare, so specificity on these scores is
    never below the one asked for, at the price of recall. The share is counted in exact fractions.

    Args:
        scores: [N] of validation pictures that are not rare.

    Raises:
        ValueError: no scores.
    """
    if not len(scores):
        raise ValueError("threshold_at: no validation pictures of other classes")
    below = math.ceil(Fraction(str(specificity)) * len(scores))
    return float(np.sort(scores)[max(below, 1) - 1])


def auc(rare: Array, other: Array) -> float | None:
    """Area under the ROC curve: how often a rare picture outscores another, ties half; None if a side is empty."""
    if not len(rare) or not len(other):
        return None
    ranks = rankdata(np.concatenate([rare, other]))[: len(rare)]
    return float((ranks.sum() - len(rare) * (len(rare) + 1) / 2) / (len(rare) * len(other)))


def resample(groups: Sequence[str] | NDArray[np.str_], draws: int, seed: int) -> Array:
    """How often each picture of one class enters each bootstrap resample, whole groups being drawn with replacement.

    One call per class makes the bootstrap stratified by class and clustered by group; one result for every arm pairs
    the arms.

    Returns:
        [B, N] counts.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if not len(names):
        return np.zeros((draws, 0))
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return counts[:, member].astype(np.float64)


def rates(hits: Array, counts: Array) -> Array:
    """Share of hits in every resample: [N] hits (averaged over seeds) and [B, N] counts to [B]."""
    return (counts @ hits) / counts.sum(axis=1)


def aucs(rare: Array, other: Array, rare_counts: Array, other_counts: Array) -> Array:
    """AUC in every resample, averaged over seeds: scores [S, N] and [S, M], counts [B, N] and [B, M], to [B]."""
    total = np.zeros(len(rare_counts))
    for row in range(rare.shape[1]):
        wins = ((rare[:, row, None] > other) + 0.5 * (rare[:, row, None] == other)).mean(axis=0)
        total += rare_counts[:, row] * (other_counts @ wins)
    return total / (rare_counts.sum(axis=1) * other_counts.sum(axis=1))


def interval(mean: float, resampled: Array, groups: int | None = None) -> list[float]:
    """95 % percentile interval [low, high], widened to hold `mean` where skew would leave it outside.

    Args:
        groups: independent pictures (or groups of them) behind the mean. Where all of them agree resampling has nothing to
            vary, and a width of 0 would claim certainty; the interval is then as wide as seeing no exception among so many
            allows, about 3 / groups (the rule of three: Hanley and Lippman-Hand, JAMA 249, 1743-1745, 1983).
    """
    if groups and np.ptp(resampled) < 1e-12:
        reach = 1 - 0.05 ** (1 / groups)
        return [mean - reach, mean + reach]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return [min(float(low), mean), max(float(high), mean)]


def majority(hits: Mask) -> Mask:
    """[S, N] to [N]: hit by more than half of the seeds (a tie is a miss)."""
    return 2 * hits.sum(axis=0) > len(hits)


def mcnemar(first: Mask, second: Mask) -> float:
    """Two-sided exact McNemar test (binomial on the discordant pairs) of hits [N] on the same pictures: the p value.

    1.0 where the two never differ. It takes pictures as independent: where groups hold several, read it with the
    interval, which does not.
    """
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    return min(1.0, 2 * float(binom.cdf(min(wins, losses), wins + losses, 0.5)))


def gap_closed(gain: float, control: float, oracle: float) -> float | None:
    """Which share of the oracle's lead over the control the gain makes up; None where the oracle does not lead."""
    lead = oracle - control
    return gain / lead if lead > 1e-9 else None  # means of the same counts differ in their last digits
