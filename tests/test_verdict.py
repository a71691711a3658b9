"""Every branch of the verdict, on numbers alone."""

from __future__ import annotations

from typing import Any

import pytest
from fake_run import fake_metrics

from synthimg.evaluation.results_file import parse_results
from synthimg.reporting import wording
from synthimg.reporting.formats import number, signed
from synthimg.reporting.judge import judgement_of


def judge(metrics: dict[str, Any]) -> wording.Verdict:
    return wording.verdict_on(parse_results(metrics))


def outcome_of(metrics: dict[str, Any]) -> str:
    return judgement_of(parse_results(metrics))


def text(metrics: dict[str, Any]) -> str:
    return " ".join(judge(metrics).sentences())


@pytest.mark.parametrize(
    ("gain", "outcome", "words"),
    [
        (0.05, "raised", "raised recall of defective from 0.61 to 0.66 (gain +0.05, 95 % interval +0.01 to +0.09)"),
        (0.02, "unclear", "cannot be told apart from no change"),
        (-0.02, "not raised", "did not raise recall of defective"),
        (0.0, "not raised", "did not raise recall of defective"),
        (-0.09, "lowered", "lowered recall of defective from 0.61 to 0.52 (change −0.09"),
    ],
)
def test_outcomes(gain: float, outcome: str, words: str) -> None:
    found = judge(fake_metrics(gain))
    assert found.judgement == outcome
    assert words in found.headline
    assert "the best control, oversampling" in found.headline
    assert "at thresholds set for specificity 0.95 on validation (on test 0.94 without, 0.94 with)" in found.headline


def test_an_interval_that_touches_zero_is_no_raise() -> None:
    metrics = fake_metrics(0.04)
    metrics["recall"]["gain"]["ci95"] = [0.0, 0.08]
    assert outcome_of(metrics) == "unclear"


@pytest.mark.parametrize("gain", [0.2, -0.2])
def test_a_handful_of_groups_proves_nothing(gain: float) -> None:
    metrics = fake_metrics(gain)
    metrics["n"]["test_rare_groups"] = 5
    assert outcome_of(metrics) == "unclear" and "but 5 groups of test images are too few to tell" in judge(metrics).headline
    metrics["n"]["test_rare_groups"] = 6
    assert outcome_of(metrics) == ("raised" if gain > 0 else "lowered")


def test_several_other_classes_are_told_one_by_one() -> None:
    metrics = fake_metrics()
    assert "other classes at" not in text(metrics)  # of one, the specificity says all
    arms = metrics["recall"]["arms"]
    arms["oversampled"]["other_recall"], arms["synthetic"]["other_recall"] = {"a": 0.9, "b": 0.8}, {"a": 0.92, "b": 0.72}
    assert "2 other classes at the default threshold changes by −0.03 in the mean; worst for b, −0.08." in text(metrics)


@pytest.mark.parametrize("part", ["gain", "arm"])
def test_not_measured(part: str) -> None:
    metrics = fake_metrics()
    if part == "gain":
        metrics["recall"]["gain"] = metrics["recall"]["best_control"] = None
    else:
        del metrics["recall"]["arms"]["synthetic"]
    assert judge(metrics).judgement == "not measured"
    assert "was not measured" in text(metrics)


def test_nothing_accepted() -> None:
    metrics = fake_metrics()
    metrics["n"]["accepted"] = 0
    assert judge(metrics).judgement == "not measured"
    assert judge(metrics).headline.startswith("No synthetic image of defective was accepted out of 200 made")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((-0.03, [-0.05, -0.01]), "The price: more false alarms; specificity changed by −0.03"),
        ((0.03, [0.01, 0.05]), "False alarms became fewer"),
        ((0.0, [-0.01, 0.01]), "change in false alarms (specificity 0.00, 95 % interval −0.01 to +0.01) is within chance."),
    ],
)
def test_price(change: tuple[float, list[float]], words: str) -> None:
    metrics = fake_metrics()
    metrics["recall"]["common"]["specificity_change"] = {"mean": change[0], "ci95": change[1]}
    assert words in judge(metrics).price
    metrics["recall"]["common"]["specificity_change"] = None
    assert judge(metrics).price == ""


@pytest.mark.parametrize(("lower", "paid"), [(0.02, True), (0.01, False), (-0.02, False)])
def test_a_raise_paid_with_false_alarms_says_so_in_its_sentence(lower: float, paid: bool) -> None:
    for gain in (0.05, 0.02, -0.09):
        metrics = fake_metrics(gain)
        metrics["recall"]["arms"]["oversampled"]["specificity_at_threshold"]["mean"] = 0.92
        metrics["recall"]["arms"]["synthetic"]["specificity_at_threshold"]["mean"] = 0.92 - lower
        headline = judge(metrics).headline
        words = "paid with more false alarms: specificity on test is 0.92 without them, 0.90 with them."
        assert (words in headline) == (paid and gain == 0.05)
        assert "0.92 without" in headline
        assert f"{0.92 - lower:.2f} with" in headline


@pytest.mark.parametrize(("classifier", "seeds"), [("head", True), ("finetune", False)])
def test_the_reach_of_the_intervals_is_the_last_caveat_and_the_only_standing_one(classifier: str, seeds: bool) -> None:
    metrics = fake_metrics()
    metrics["recall"]["classifier"] = classifier
    (standing,) = judge(metrics).caveats
    assert "one split and one set of synthetic images" in standing
    assert ("only what is drawn by chance" in standing) == seeds
    metrics["n"]["test_rare"] = 40
    assert judge(metrics).caveats[-1] == standing


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("test_rare", 40, "Few test images: 40 of defective in 175 groups; one image moves recall by 0.025."),
        ("accepted", 12, "Few synthetic images: 12 were accepted of 200 made."),
        ("validation_other", 30, "rest on only 30 validation images"),
    ],
)
def test_caveats_of_counts(key: str, value: int, words: str) -> None:
    metrics = fake_metrics()
    metrics["n"][key] = value
    assert words in " ".join(judge(metrics).caveats)


def test_few_seeds() -> None:
    metrics = fake_metrics()
    metrics["recall"]["seeds"] = 1
    assert "Few repeats" not in text(metrics)  # the head has one optimum
    metrics["recall"] |= {"classifier": "finetune", "steps": 400}
    assert "Few repeats: each arm was trained 1 time; 5 or more are usual." in text(metrics)
    metrics["n"]["parts"] = 4
    assert "each arm was trained 4 times;" in text(metrics)
    metrics["n"]["parts"] = 5  # folds and draws count: each has a classifier of its own
    assert "Few repeats" not in text(metrics)


def test_short_training() -> None:
    metrics = fake_metrics()
    metrics["n"] |= {"train_rare": 60, "train_other": 900}
    metrics["recall"] |= {"classifier": "finetune", "steps": 100, "batch_size": 16}
    assert "Short training: each classifier saw 1.7 pictures for every real training image." in text(metrics)
    metrics["recall"]["steps"] = 180
    assert "Short training" not in text(metrics)


def test_oracle_without_lead() -> None:
    metrics = fake_metrics()
    metrics["recall"]["oracle_gap_closed"] = None
    assert "The oracle does not lead at these thresholds" in text(metrics)  # where recall rose nothing else follows
    for gain in (0.02, -0.02):
        metrics = fake_metrics(gain)
        metrics["recall"]["oracle_gap_closed"] = None
        assert "The oracle does not lead at these thresholds" in text(metrics)  # but at equal specificity
        metrics["recall"]["matched"]["recall"]["oracle"] = 0.5
        assert "there is little for synthetic ones to win" in text(metrics)
    del metrics["recall"]["arms"]["oracle"]
    assert "racle" not in text(metrics)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.05, "; synthetic images close 45 % of that gap."),
        (0.02, "; the change is 18 % of that gap, and may be chance."),
        (-0.02, "; the change is −18 % of that gap, and may be chance."),
        (-0.05, "; the change is −45 % of that gap."),
    ],
)
def test_share_of_the_oracles_gap_is_always_stated_and_claimed_for_a_raise_only(gain: float, words: str) -> None:
    assert words in text(fake_metrics(gain))


def test_specificity_off_target_on_test() -> None:
    metrics = fake_metrics()
    metrics["recall"]["arms"]["synthetic"]["specificity_at_threshold"]["mean"] = 0.9
    assert "on the test images they give 0.94 oversampled, 0.90 synthetic" in text(metrics)


def test_mcnemar_disagrees() -> None:
    metrics = fake_metrics()
    metrics["recall"]["gain"]["p"] = 0.2
    assert "McNemar test on the rare test images does not confirm the change (p = 0.20)" in text(metrics)
    metrics["recall"]["gain"]["p"] = None
    assert "McNemar" not in text(metrics)


def test_numbers() -> None:
    assert [signed(value) for value in (0.05, -0.05, 0.0, -0.0, 0.002, -0.0004, 0.00001)] == [
        "+0.05", "−0.05", "0.00", "0.00", "+0.002", "−0.0004", "0.00",
    ]  # fmt: skip
    assert number(-0.5) == "−0.50"


def test_a_control_is_called_by_its_title() -> None:
    metrics = fake_metrics()
    metrics["recall"]["best_control"] = "zebra"
    metrics["recall"]["arms"]["zebra"] = metrics["recall"]["arms"]["oversampled"] | {"title": "striped images"}
    assert "over the best control, striped images" in judge(metrics).headline
    assert wording.control_name(parse_results(metrics)) == "striped images"


def test_a_gain_that_is_gone_at_equal_specificity_is_none() -> None:
    metrics = fake_metrics(gain=0.05, width=0.02)
    assert judge(metrics).judgement == "raised"
    metrics["recall"]["matched"]["gain"] |= {"mean": -0.03, "ci95": [-0.07, 0.003]}
    found = judge(metrics)
    assert found.judgement == "unclear"
    assert "has the same specificity it did not rise" in found.headline
    assert any("−0.03" in text for text in found.context)
    metrics["recall"]["matched"]["gain"] |= {"mean": 0.02, "ci95": [-0.03, 0.06]}
    found = judge(metrics)
    assert found.judgement == "unclear"
    assert "the rise (+0.02, 95 % interval −0.03 to +0.06) cannot be told apart from no change." in found.headline
    metrics["recall"]["matched"] = None
    assert judge(metrics).judgement == "raised"


@pytest.mark.parametrize(
    ("lead", "words"),
    [
        (0.08, "The oracle has 0.66 there; the change is 50 % of that gap."),
        (0.01, "The oracle has 0.59 there, too little more for a share of it to mean anything."),
        (-0.01, ""),
    ],
)
def test_the_share_of_the_gap_at_equal_specificity(lead: float, words: str) -> None:
    metrics = fake_metrics(gain=0.05, width=0.02)
    matched = metrics["recall"]["matched"]
    matched["recall"]["weighted"] = 0.58
    matched["recall"]["oracle"] = 0.58 + lead
    assert words in text(metrics)
    assert ("The oracle has" in text(metrics)) == bool(words)


def test_a_loss_that_is_gone_at_equal_specificity_is_none() -> None:
    metrics = fake_metrics(gain=-0.05, width=0.02)
    assert judge(metrics).judgement == "lowered"
    metrics["recall"]["matched"]["gain"] |= {"mean": 0.01, "ci95": [-0.02, 0.04]}
    found = judge(metrics)
    assert found.judgement == "unclear"
    assert "fell from" in found.headline and "has the same specificity it did not" in found.headline
    assert "of that gap, and not shown at equal specificity." in " ".join(found.context)
