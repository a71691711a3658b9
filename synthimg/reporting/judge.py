"""Did synthetic images raise recall? The judgement alone, from the numbers of metrics.json; wording.py puts it in words."""

from __future__ import annotations

from typing import Literal

from ..evaluation.results import Interval, Matched, Results, Spread
from ..metrics.subgroups import LEAST_GROUPS

Judgement = Literal["raised", "unclear", "not raised", "lowered", "not measured"]


def judgement_of(results: Results) -> Judgement:
    """The 95 % interval of the gain decides, and its mean where the interval includes 0.

    A change that is not beyond chance where all have the same specificity on test is not called one, nor one in a handful of
    groups.
    """
    recall = results.recall
    if not results.n.accepted or recall.gain is None or "synthetic" not in recall.arms:
        return "not measured"
    low, high = recall.gain.ci95
    if recall.matched and unconfirmed(recall.gain.ci95, recall.matched.gain.ci95):
        return "unclear"
    if (low > 0 or high < 0) and results.n.test_rare_groups < LEAST_GROUPS:
        return "unclear"
    if low > 0:
        return "raised"
    if high < 0:
        return "lowered"
    return "unclear" if recall.gain.mean > 0 else "not raised"


def unconfirmed(gain: Interval, matched: Interval) -> bool:
    """Whether a change beyond chance is not so at equal specificity, against the best control there.

    Args:
        gain: interval of the gain; matched: interval of the gain at equal specificity.
    """
    return bool((gain[0] > 0 and matched[0] <= 0) or (gain[1] < 0 and matched[1] >= 0))


def oracle_lead(matched: Matched | None) -> float:
    """Of the oracle over the best control at equal specificity; 0 where one of them was not measured there."""
    if not matched or "oracle" not in matched.recall:
        return 0.0
    return matched.recall["oracle"] - matched.recall[matched.best_control]


def mean_of(results: Results, arm: str, measure: str) -> float:
    """A measure of an arm, averaged over the seeds."""
    spread: Spread = getattr(results.recall.arms[arm], measure)
    return spread.mean
