"""From metrics.json to plain sentences: did synthetic images raise recall, against what, at what price, how surely.

A pure function of the numbers, used by the report, the comparison and the command line. A result that is no success is
worded as plainly as one that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..evaluation.choice import in_parts
from ..evaluation.results import Change, Results
from .formats import count, interval, number, percent, signed
from .judge import Judgement, judgement_of, mean_of, oracle_lead, unconfirmed

FEW_TEST_IMAGES = 100
"""With fewer rare test images one image moves recall by more than a point."""
FEW_SEEDS = 5
FEW_PASSES = 3
"""With 1.1 passes over HAM10000 a fine-tuned backbone found 0.15 less of the basal cell carcinomas than with 4.5, and
transplants had a lead over all controls that was gone then (docs/experiments/backbone.md)."""
FEW_ACCEPTED = 50
FEW_VALIDATION_IMAGES = 100
SPECIFICITY_SLACK = 0.02
"""How far the specificity on test may lie from the one set on validation before it is said."""
PRICE = 0.01
"""By how much the specificity on test must be lower with synthetic images for a raise to be called partly paid for."""
LEAST_LEAD = 0.02
"""A smaller lead of the oracle is a handful of test images, and a share of it any number."""
LABELS: dict[Judgement, str] = {
    "raised": "Recall raised",
    "unclear": "No change shown",
    "not raised": "Recall not raised",
    "lowered": "Recall lowered",
    "not measured": "Not measured",
}


@dataclass(frozen=True)
class Verdict:
    judgement: Judgement
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
        return LABELS[self.judgement]

    def sentences(self) -> list[str]:
        """All of it, in reading order."""
        return [text for text in [self.headline, self.price, *self.context, *self.caveats] if text]


class _Compared(NamedTuple):
    """A run in which synthetic images were compared with a control."""

    results: Results
    best: str
    """The best control."""
    gain: Change
    judgement: Judgement

    def means(self, measure: str) -> tuple[str, str]:
        """A measure of the best control and of the synthetic arm, in words."""
        return number(mean_of(self.results, self.best, measure)), number(mean_of(self.results, "synthetic", measure))


def verdict_on(results: Results) -> Verdict:
    """What a run's numbers say, in words."""
    judgement, best, gain = judgement_of(results), results.recall.best_control, results.recall.gain
    if judgement == "not measured" or best is None or gain is None:
        return Verdict("not measured", _not_measured(results), "", [], list(_few(results)))
    run = _Compared(results, best, gain, judgement)
    facts = (_chosen(results), _matched(results), _default_threshold(run), _others(run), _oracle(run))
    context = [text for text in facts if text]
    caveats = [*_strength(run), *_thresholds(run), *_few(results), *_unchosen(results), _scope(results)]
    return Verdict(judgement, _headline(run), _price(results), context, caveats)


def control_name(results: Results) -> str:
    """The control that the gain is measured against, in words."""
    best = results.recall.best_control
    return results.recall.arms[best].title if best else "no control"


def _headline(run: _Compared) -> str:
    recall, rare, gain = run.results.recall, run.results.rare_class, run.gain
    before, after = run.means("recall_at_specificity")
    without, along = run.means("specificity_at_threshold")
    against = control_name(run.results) if recall.choice else f"the best control, {control_name(run.results)}"
    wanted = f"at thresholds set for specificity {recall.specificity:g} on validation"
    at = f"{wanted} (on test {without} without, {along} with)"
    change = f"{signed(gain.mean)}, {interval(gain.ci95)}"
    if run.judgement == "raised":
        raised = f"Synthetic images raised recall of {rare} from {before} to {after} (gain {change}) over {against},"
        lost = mean_of(run.results, run.best, "specificity_at_threshold") - mean_of(
            run.results, "synthetic", "specificity_at_threshold"
        )
        if round(lost, 9) <= PRICE:
            return f"{raised} {at}."
        return (
            f"{raised} {wanted}; part of it is paid with more false alarms: specificity on test is {without} "
            f"without them, {along} with them."
        )
    if run.judgement == "lowered":
        return (
            f"Synthetic images lowered recall of {rare} from {before} to {after} (change {change}) against {against}, {at}."
        )
    if run.judgement == "not raised":
        return (
            f"Synthetic images did not raise recall of {rare}: {before} with {against}, {after} with them "
            f"(change {change}), {at}."
        )
    low, high = gain.ci95
    if low > 0:
        return (
            f"Synthetic images cannot be shown to help: recall of {rare} rose from {before} to {after} (gain {change}) over "
            f"{against}, {at}, but {_doubt(run)}."
        )
    if high < 0:
        return (
            f"Synthetic images cannot be shown to help or to harm: recall of {rare} fell from {before} to {after} (change "
            f"{change}) against {against}, {at}, but {_doubt(run)}."
        )
    return (
        f"Synthetic images cannot be shown to help: recall of {rare} was {before} with {against}, {after} with them, "
        f"{at}; this change ({change}) cannot be told apart from no change."
    )


def _doubt(run: _Compared) -> str:
    """Why a change whose interval excludes 0 is not called one."""
    matched = run.results.recall.matched
    if not matched or not unconfirmed(run.gain.ci95, matched.gain.ci95):
        return f"{count(run.results.n.test_rare_groups, 'group')} of test images are too few to tell"
    there, change = matched.gain, "rise" if run.gain.ci95[0] > 0 else "fall"
    where = "where every arm has the same specificity"
    if there.mean * run.gain.mean > 0:
        words = f"({signed(there.mean)}, {interval(there.ci95)})"
        return f"{where} the {change} {words} cannot be told apart from no change"
    return f"{where} it did not {change}"


def _not_measured(results: Results) -> str:
    n = results.n
    if not n.accepted:
        return (
            f"No synthetic image of {results.rare_class} was accepted out of {n.generated} made, "
            "so there is nothing to gain from them."
        )
    return "Whether synthetic images help was not measured: the evaluation lacks a synthetic arm or a control."


def _price(results: Results) -> str:
    change = results.recall.common.specificity_change
    if not change:
        return ""
    low, high = change.ci95
    if high < 0:
        return f"The price: more false alarms; specificity changed by {signed(change.mean)} ({interval(change.ci95)})."
    if low > 0:
        return f"False alarms became fewer: specificity changed by {signed(change.mean)} ({interval(change.ci95)})."
    return f"The change in false alarms (specificity {signed(change.mean)}, {interval(change.ci95)}) is within chance."


def _chosen(results: Results) -> str:
    """What was chosen without the test images, and the control that does best on them all the same."""
    recall = results.recall
    if not recall.choice:
        return ""
    used = in_parts(recall.choice.recipes, results.n.parts)
    scored = {name: mean_of(results, name, "recall_at_specificity") for name, arm in recall.arms.items() if arm.control}
    best = max((name for name in scored if name != recall.best_control), key=lambda name: scored[name], default=None)
    text = f"Chosen inside the training groups, synthetic images: {used}."
    if not best:
        return text
    title, most = recall.arms[best].title, number(scored[best])
    return f"{text} Of all controls, {title} does best on the test images themselves, with a recall of {most}."


def _matched(results: Results) -> str:
    """The comparison that false alarms cannot explain."""
    matched = results.recall.matched
    if not matched:
        return ""
    recall, best, gain = matched.recall, matched.best_control, matched.gain
    control = "the chosen control" if results.recall.choice else f"the best control there, {results.recall.arms[best].title}"
    before, after = number(recall[best]), number(recall["synthetic"])
    lead, share = oracle_lead(matched), ""
    if lead >= LEAST_LEAD:
        closed = percent(gain.mean / lead)
        doubt = ", and may be chance" if gain.ci95[0] <= 0 <= gain.ci95[1] else ""
        share = f" The oracle has {number(recall['oracle'])} there; the change is {closed} of that gap{doubt}."
    elif lead > 0:
        share = f" The oracle has {number(recall['oracle'])} there, too little more for a share of it to mean anything."
    return (
        f"Where every threshold gives specificity {results.recall.specificity:g} on the test images themselves, "
        f"recall is {before} with {control}, and {after} with synthetic images "
        f"({signed(gain.mean)}, {interval(gain.ci95)}).{share}"
    )


def _default_threshold(run: _Compared) -> str:
    recall, specificity = run.means("recall"), run.means("specificity")
    return (
        f"At the default threshold recall goes from {recall[0]} to {recall[1]} "
        f"and specificity from {specificity[0]} to {specificity[1]}."
    )


def _others(run: _Compared) -> str:
    """The other classes one by one, where there are several: specificity counts a picture of one called another as right."""
    ours, theirs = (run.results.recall.arms[arm].other_recall for arm in ("synthetic", run.best))
    change = {label: ours[label] - theirs[label] for label in ours if label in theirs}
    if len(change) < 2:
        return ""
    worst = min(change, key=lambda label: change[label])
    return (
        f"Recall of the {len(change)} other classes at the default threshold changes by "
        f"{signed(sum(change.values()) / len(change))} in the mean; worst for {worst}, {signed(change[worst])}."
    )


def _oracle(run: _Compared) -> str:
    """What more real images would have brought: the yardstick of any gain."""
    results, judgement, recall = run.results, run.judgement, run.results.recall
    if "oracle" not in recall.arms or recall.oracle_gap_closed is None:
        return ""
    oracle = number(mean_of(results, "oracle", "recall_at_specificity"))
    more = results.n.reserve_rare
    text = f"{count(more, 'more real image')} of {results.rare_class} instead reach {oracle} (oracle)"
    closed = percent(recall.oracle_gap_closed)
    if judgement == "raised":
        return f"{text}; synthetic images close {closed} of that gap."
    if judgement == "lowered":
        return f"{text}; the change is {closed} of that gap."
    gone = recall.matched and unconfirmed(run.gain.ci95, recall.matched.gain.ci95)
    doubt = "not shown at equal specificity" if gone else "may be chance"
    return f"{text}; the change is {closed} of that gap, and {doubt}."


def _strength(run: _Compared) -> Iterator[str]:
    """Where the other evidence disagrees with a claimed change, or says what could have been won at most."""
    results, judgement, recall = run.results, run.judgement, run.results.recall
    p, arms = run.gain.p, recall.arms
    if judgement in ("raised", "lowered") and p is not None and p >= 0.05:
        yield f"The exact McNemar test on the rare test images does not confirm the change (p = {p:.2f})."
    controls = sum(arm.control for arm in arms.values())
    if judgement == "lowered" and controls > 1 and not recall.choice:
        yield f"The control is the best of {controls} on these same test images, which makes a loss look larger than it is."
    if "oracle" in arms and recall.oracle_gap_closed is None:
        oracle = number(mean_of(results, "oracle", "recall_at_specificity"))
        if oracle_lead(recall.matched) > 0 or judgement == "raised":
            yield f"The oracle does not lead at these thresholds ({oracle}), so no share of its lead can be stated for them."
            return
        yield (
            f"Even more real images bring nothing at this specificity (oracle {oracle}), so there is no gap of which a "
            "share could be closed: recall is not held back by too few images of the rare class, and there is little for "
            "synthetic ones to win."
        )


def _thresholds(run: _Compared) -> Iterator[str]:
    results, recall = run.results, run.results.recall
    reached = {arm: mean_of(results, arm, "specificity_at_threshold") for arm in (run.best, "synthetic")}
    if max(abs(value - recall.specificity) for value in reached.values()) > SPECIFICITY_SLACK:
        found = ", ".join(f"{number(value)} {arm}" for arm, value in reached.items())
        yield (
            f"The thresholds were set for specificity {recall.specificity:g} on the validation images; "
            f"on the test images they give {found}."
        )
    if 0 < results.n.validation_other < FEW_VALIDATION_IMAGES:
        others = count(results.n.validation_other, "validation image")
        yield f"The thresholds rest on only {others} of other classes."


def _few(results: Results) -> Iterator[str]:
    n, recall = results.n, results.recall
    if n.test_rare < FEW_TEST_IMAGES:
        one = f"; one image moves recall by {1 / n.test_rare:.3f}" if n.test_rare else ""
        groups = count(n.test_rare_groups, "group")
        yield f"Few test images: {n.test_rare} of {results.rare_class} in {groups}{one}."
    trainings = n.parts * recall.seeds
    if trainings < FEW_SEEDS and recall.classifier != "head":  # the head has one optimum
        yield f"Few repeats: each arm was trained {count(trainings, 'time')}; {FEW_SEEDS} or more are usual."
    if recall.steps and recall.batch_size:
        passes = recall.steps * recall.batch_size / (n.train_rare + n.train_other)
        if passes < FEW_PASSES:
            yield (
                f"Short training: each classifier saw {passes:.1f} pictures for every real training image. One trained so "
                "little may gain from whatever shows the rare class more often; raise evaluate.steps before you believe it."
            )
    if 0 < n.accepted < FEW_ACCEPTED * n.parts:
        yield f"Few synthetic images: {n.accepted} were accepted of {n.generated} made{_per_part(results)}."


def _unchosen(results: Results) -> Iterator[str]:
    """What kept from choosing as usual."""
    choice, parts = results.recall.choice, results.n.parts
    for note, often in (choice.notes if choice else {}).items():
        yield f"{note[0].upper()}{note[1:]}" + ("." if parts == 1 else f" (in {often} of {parts} parts).")


def _per_part(results: Results) -> str:
    """What sums over the parts are shared by; empty where there is one part."""
    n, recall = results.n, results.recall
    if n.parts == 1:
        return ""
    draws = f" times {recall.draws} draws" if recall.draws > 1 else ""
    return f", over {recall.folds} folds{draws}"


def _scope(results: Results) -> str:
    """What the intervals leave out, whatever the run."""
    recall = results.recall
    if results.n.parts > 1:
        draws = f"{recall.draws} draws" if recall.draws > 1 else "one draw"
        tested = "each image is tested once, by classifiers that never saw its group" if recall.folds > 1 else "one split"
        averaged = f"They are averaged over {draws} of the rare training images, and" if results.n.train_rare else "They"
        return (
            f"The intervals resample whole groups of test images ({tested}). {averaged} do not cover other draws, other "
            "folds or other synthetic images."
        )
    seeds = ""
    if recall.classifier == "head":
        seeds = ", which change only what is drawn by chance (oversampling, mixup, SMOTE)"
    return (
        f"The intervals cover the choice of test images alone, averaged over the seeds{seeds}; one split and one "
        "set of synthetic images stand behind them, and others may give another result."
    )
