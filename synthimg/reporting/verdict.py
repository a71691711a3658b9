"""From metrics.json to plain sentences: did synthetic images raise recall, against what, at what price, how surely.

A pure function of the numbers, used by the report, the comparison and the command line. A result that is no success is
worded as plainly as one that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Metrics = dict[str, Any]
Outcome = Literal["raised", "unclear", "not raised", "lowered", "not measured"]

FEW_TEST_IMAGES = 100
"""With fewer rare test images one image moves recall by more than a point."""
LEAST_GROUPS = 6
"""With fewer independent test images even a change in the same direction in all of them comes by chance more often than once
in twenty times (two-sided sign test: 2 / 2^5), and resampling them claims too much."""
FEW_SEEDS = 5
FEW_PASSES = 3
"""With 1.1 passes over HAM10000 a fine-tuned backbone found 0.15 less of the basal cell carcinomas than with 4.5, and
transplants had a lead over all controls that was gone then (docs/log.md, 2026-11-26)."""
FEW_ACCEPTED = 50
FEW_VALIDATION_IMAGES = 100
SPECIFICITY_SLACK = 0.02
"""How far the specificity on test may lie from the one set on validation before it is said."""
PRICE = 0.01
"""By how much the specificity on test must be lower with synthetic images for a raise to be called partly paid for."""
LEAST_LEAD = 0.02
"""A smaller lead of the oracle is a handful of test images, and a share of it any number."""

CONTROLS = {
    "real": "real images alone",
    "weighted": "a class-weighted loss",
    "focal": "the focal loss",
    "oversampled": "oversampling",
    "augmented": "stronger augmentation",
    "mirrored": "mirror images",
    "turned": "mirror images and quarter turns",
    "mixup": "mixup",
    "smote": "SMOTE",
    "combined": "augmentation, mixup and oversampling together",
}
LABELS: dict[Outcome, str] = {
    "raised": "Recall raised",
    "unclear": "No change shown",
    "not raised": "Recall not raised",
    "lowered": "Recall lowered",
    "not measured": "Not measured",
}


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    headline: str
    """The answer, in one sentence."""
    price: str
    """What became of the other classes; empty where nothing was measured."""
    context: list[str]
    """Facts beside the answer: the default threshold, the oracle."""
    caveats: list[str]
    """Reasons to trust the answer less."""

    @property
    def label(self) -> str:
        return LABELS[self.outcome]

    def sentences(self) -> list[str]:
        """All of it, in reading order."""
        return [text for text in [self.headline, self.price, *self.context, *self.caveats] if text]


def judge(metrics: Metrics) -> Verdict:
    """Judge a run by its metrics.json."""
    outcome = outcome_of(metrics)
    if outcome == "not measured":
        return Verdict(outcome, _not_measured(metrics), "", [], list(_few(metrics)))
    facts = (_matched(metrics), _default_threshold(metrics), _others(metrics), _oracle(metrics, outcome))
    context = [text for text in facts if text]
    caveats = [*_strength(metrics, outcome), *_thresholds(metrics), *_few(metrics), _scope(metrics)]
    return Verdict(outcome, _headline(metrics, outcome), _price(metrics), context, caveats)


def outcome_of(metrics: Metrics) -> Outcome:
    """The outcome alone: the 95 % interval of the gain decides, and its mean where the interval includes 0.

    A change that is not beyond chance where all have the same specificity on test is not called one, nor one in a handful of
    groups.
    """
    recall = metrics["recall"]
    if not metrics["n"]["accepted"] or not recall.get("gain") or "synthetic" not in recall["arms"]:
        return "not measured"
    low, high = recall["gain"]["ci95"]
    if unconfirmed(recall["gain"], recall.get("matched")):
        return "unclear"
    if (low > 0 or high < 0) and metrics["n"]["test_rare_groups"] < LEAST_GROUPS:
        return "unclear"
    if low > 0:
        return "raised"
    if high < 0:
        return "lowered"
    return "unclear" if recall["gain"]["mean"] > 0 else "not raised"


def unconfirmed(gain: dict[str, Any], matched: dict[str, Any] | None) -> bool:
    """Whether a change beyond chance is not so at equal specificity, against the best control there.

    Args:
        gain: with `ci95`, or None in its place.
        matched: the comparison at equal specificity; None in runs of older versions, which did not make it.
    """
    if matched is None or not gain["ci95"]:
        return False
    (low, high), there = gain["ci95"], matched["gain"]
    there_low, there_high = there["ci95"] or (there["mean"], there["mean"])
    return bool((low > 0 and there_low <= 0) or (high < 0 and there_high >= 0))


def control_name(metrics: Metrics) -> str:
    """The best control in words."""
    return words_for(metrics["recall"].get("best_control") or "real")


def words_for(control: str) -> str:
    return CONTROLS.get(control, control)


def number(value: float) -> str:
    """A share with two decimals and a real minus sign."""
    return f"{value:.2f}".replace("-", "−")


def signed(value: float) -> str:
    """A difference with its sign; small ones get more decimals, so that none that counts reads as 0.00."""
    digits = next((d for d in (2, 3, 4) if round(abs(value), d)), 2)
    return "0.00" if not round(abs(value), digits) else f"{value:+.{digits}f}".replace("-", "−")


def percent(part: float, whole: float = 1.0) -> str:
    """A share in whole per cent with a real minus sign."""
    return f"{round(100 * part / whole)} %".replace("-", "−")


def interval(spread: dict[str, Any]) -> str:
    low, high = spread["ci95"]
    return f"95 % interval {signed(low)} to {signed(high)}"


def mean_of(metrics: Metrics, arm: str, measure: str) -> float:
    """A measure of an arm, averaged over the seeds."""
    return float(metrics["recall"]["arms"][arm][measure]["mean"])


def _headline(metrics: Metrics, outcome: Outcome) -> str:
    recall, rare = metrics["recall"], metrics["rare_class"]
    gain = recall["gain"]
    before = number(mean_of(metrics, recall["best_control"], "recall_at_specificity"))
    after = number(mean_of(metrics, "synthetic", "recall_at_specificity"))
    against = f"the best control, {control_name(metrics)}"
    without, along = (mean_of(metrics, arm, "specificity_at_threshold") for arm in (recall["best_control"], "synthetic"))
    wanted = f"at thresholds set for specificity {recall['specificity']:g} on validation"
    at = f"{wanted} (on test {number(without)} without, {number(along)} with)"
    change = f"{signed(gain['mean'])}, {interval(gain)}"
    if outcome == "raised":
        raised = f"Synthetic images raised recall of {rare} from {before} to {after} (gain {change}) over {against},"
        if round(without - along, 9) <= PRICE:
            return f"{raised} {at}."
        return (
            f"{raised} {wanted}; part of it is paid with more false alarms: specificity on test is {number(without)} "
            f"without them, {number(along)} with them."
        )
    if outcome == "lowered":
        return (
            f"Synthetic images lowered recall of {rare} from {before} to {after} (change {change}) against {against}, {at}."
        )
    if outcome == "not raised":
        return (
            f"Synthetic images did not raise recall of {rare}: {before} with {against}, {after} with them "
            f"(change {change}), {at}."
        )
    low, high = gain["ci95"]
    if unconfirmed(gain, recall.get("matched")):
        there, change_there = recall["matched"]["gain"], "rise" if low > 0 else "fall"
        held = there["mean"] * gain["mean"] > 0
        but = "where every arm has the same specificity " + (
            f"the {change_there} ({signed(there['mean'])}, {interval(there)}) cannot be told apart from no change"
            if held else f"it did not {change_there}"
        )  # fmt: skip
    else:
        but = f"{count(metrics['n']['test_rare_groups'], 'group')} of test images are too few to tell"
    if low > 0:
        return (
            f"Synthetic images cannot be shown to help: recall of {rare} rose from {before} to {after} (gain {change}) over "
            f"{against}, {at}, but {but}."
        )
    if high < 0:
        return (
            f"Synthetic images cannot be shown to help or to harm: recall of {rare} fell from {before} to {after} (change "
            f"{change}) against {against}, {at}, but {but}."
        )
    return (
        f"Synthetic images cannot be shown to help: recall of {rare} was {before} with {against}, {after} with them, "
        f"{at}; this change ({change}) cannot be told apart from no change."
    )


def _not_measured(metrics: Metrics) -> str:
    n = metrics["n"]
    if not n["accepted"]:
        return (
            f"No synthetic image of {metrics['rare_class']} was accepted out of {n['generated']} made, "
            "so there is nothing to gain from them."
        )
    return "Whether synthetic images help was not measured: the evaluation lacks a synthetic arm or a control."


def _price(metrics: Metrics) -> str:
    change = (metrics["recall"].get("common") or {}).get("specificity_change")
    if not change:
        return ""
    low, high = change["ci95"]
    if high < 0:
        return f"The price: more false alarms; specificity changed by {signed(change['mean'])} ({interval(change)})."
    if low > 0:
        return f"False alarms became fewer: specificity changed by {signed(change['mean'])} ({interval(change)})."
    return f"The change in false alarms (specificity {signed(change['mean'])}, {interval(change)}) is within chance."


def _matched(metrics: Metrics) -> str:
    """The comparison that false alarms cannot explain; runs of older versions have none."""
    matched = metrics["recall"].get("matched")
    if not matched:
        return ""
    recall, best, gain = matched["recall"], matched["best_control"], matched["gain"]
    before, after = number(recall[best]), number(recall["synthetic"])
    lead, share = _lead(matched), ""
    if lead >= LEAST_LEAD:
        closed = percent(gain["mean"] / lead)
        doubt = ", and may be chance" if gain["ci95"][0] <= 0 <= gain["ci95"][1] else ""
        share = f" The oracle has {number(recall['oracle'])} there; the change is {closed} of that gap{doubt}."
    elif lead > 0:
        share = f" The oracle has {number(recall['oracle'])} there, too little more for a share of it to mean anything."
    return (
        f"Where every threshold gives specificity {metrics['recall']['specificity']:g} on the test images themselves, "
        f"recall is {before} with the best control there, {words_for(best)}, and {after} with synthetic images "
        f"({signed(gain['mean'])}, {interval(gain)}).{share}"
    )


def _lead(matched: dict[str, Any] | None) -> float:
    """Of the oracle over the best control at equal specificity; 0 where one of them was not measured there."""
    if not matched or "oracle" not in matched["recall"]:
        return 0.0
    return float(matched["recall"]["oracle"] - matched["recall"][matched["best_control"]])


def _default_threshold(metrics: Metrics) -> str:
    control = metrics["recall"]["best_control"]
    recall = [number(mean_of(metrics, arm, "recall")) for arm in (control, "synthetic")]
    specificity = [number(mean_of(metrics, arm, "specificity")) for arm in (control, "synthetic")]
    return (
        f"At the default threshold recall goes from {recall[0]} to {recall[1]} "
        f"and specificity from {specificity[0]} to {specificity[1]}."
    )


def _others(metrics: Metrics) -> str:
    """The other classes one by one, where there are several: specificity counts a picture of one called another as right."""
    arms = metrics["recall"]["arms"]
    ours, theirs = (arms[arm].get("other_recall", {}) for arm in ("synthetic", metrics["recall"]["best_control"]))
    change = {label: ours[label] - theirs[label] for label in ours if label in theirs}
    if len(change) < 2:
        return ""
    worst = min(change, key=lambda label: change[label])
    return (
        f"Recall of the {len(change)} other classes at the default threshold changes by "
        f"{signed(sum(change.values()) / len(change))} in the mean; worst for {worst}, {signed(change[worst])}."
    )


def _oracle(metrics: Metrics, outcome: Outcome) -> str:
    """What more real images would have brought: the yardstick of any gain."""
    recall = metrics["recall"]
    if "oracle" not in recall["arms"] or recall.get("oracle_gap_closed") is None:
        return ""
    oracle = number(mean_of(metrics, "oracle", "recall_at_specificity"))
    more = metrics["n"]["reserve_rare"]
    text = f"{count(more, 'more real image')} of {metrics['rare_class']} instead reach {oracle} (oracle)"
    closed = percent(recall["oracle_gap_closed"])
    if outcome == "raised":
        return f"{text}; synthetic images close {closed} of that gap."
    if outcome == "lowered":
        return f"{text}; the change is {closed} of that gap."
    doubt = "not shown at equal specificity" if unconfirmed(recall["gain"], recall.get("matched")) else "may be chance"
    return f"{text}; the change is {closed} of that gap, and {doubt}."


def _strength(metrics: Metrics, outcome: Outcome) -> Iterator[str]:
    """Where the other evidence disagrees with a claimed change, or says what could have been won at most."""
    recall = metrics["recall"]
    p, arms = recall["gain"].get("p"), recall["arms"]
    if outcome in ("raised", "lowered") and p is not None and p >= 0.05:
        yield f"The exact McNemar test on the rare test images does not confirm the change (p = {p:.2f})."
    controls = sum(arm in CONTROLS for arm in arms)
    if outcome == "lowered" and controls > 1:
        yield f"The control is the best of {controls} on these same test images, which makes a loss look larger than it is."
    if "oracle" in arms and recall.get("oracle_gap_closed") is None:
        oracle = number(mean_of(metrics, "oracle", "recall_at_specificity"))
        if _lead(recall.get("matched")) > 0 or outcome == "raised":
            yield f"The oracle does not lead at these thresholds ({oracle}), so no share of its lead can be stated for them."
            return
        yield (
            f"Even more real images bring nothing at this specificity (oracle {oracle}), so there is no gap of which a "
            "share could be closed: recall is not held back by too few images of the rare class, and there is little for "
            "synthetic ones to win."
        )


def _thresholds(metrics: Metrics) -> Iterator[str]:
    recall = metrics["recall"]
    reached = {arm: mean_of(metrics, arm, "specificity_at_threshold") for arm in (recall["best_control"], "synthetic")}
    if max(abs(value - recall["specificity"]) for value in reached.values()) > SPECIFICITY_SLACK:
        found = ", ".join(f"{number(value)} {arm}" for arm, value in reached.items())
        yield (
            f"The thresholds were set for specificity {recall['specificity']:g} on the validation images; "
            f"on the test images they give {found}."
        )
    if 0 < metrics["n"]["validation_other"] < FEW_VALIDATION_IMAGES:
        others = count(metrics["n"]["validation_other"], "validation image")
        yield f"The thresholds rest on only {others} of other classes."


def _few(metrics: Metrics) -> Iterator[str]:
    n, recall = metrics["n"], metrics["recall"]
    if n["test_rare"] < FEW_TEST_IMAGES:
        one = f"; one image moves recall by {1 / n['test_rare']:.3f}" if n["test_rare"] else ""
        groups = count(n["test_rare_groups"], "group")
        yield f"Few test images: {n['test_rare']} of {metrics['rare_class']} in {groups}{one}."
    if recall["seeds"] < FEW_SEEDS and recall["steps"]:  # without steps, the head's one optimum
        yield f"Few repeats: each arm was trained with {count(recall['seeds'], 'seed')}; {FEW_SEEDS} or more are usual."
    if recall["steps"] and recall.get("batch_size"):  # older runs do not state the latter
        passes = recall["steps"] * recall["batch_size"] / (n["train_rare"] + n["train_other"])
        if passes < FEW_PASSES:
            yield (
                f"Short training: each classifier saw {passes:.1f} pictures for every real training image. One trained so "
                "little may gain from whatever shows the rare class more often; raise evaluate.steps before you believe it."
            )
    if 0 < n["accepted"] < FEW_ACCEPTED:
        yield f"Few synthetic images: {n['accepted']} were accepted of {n['generated']} made."


def _scope(metrics: Metrics) -> str:
    """What the intervals leave out, whatever the run."""
    recall, seeds = metrics["recall"], ""
    if recall["classifier"] == "head":  # that of older versions had steps
        chance = "only what is drawn by chance (oversampling, mixup, SMOTE)"
        seeds = ", which differ in drawing order only" if recall["steps"] else f", which change {chance}"
    return (
        f"The intervals cover the choice of test images alone, averaged over the seeds{seeds}; one split and one "
        "set of synthetic images stand behind them, and others may give another result."
    )


def count(value: int, noun: str) -> str:
    """`3 groups`, `1 group`."""
    return f"{value} {noun}" if value == 1 else f"{value} {noun}s"
