"""Whether the intervals are what they are called: coverage by simulation, exact cases, and what must not change them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.metrics.comparison import Outcome, arrange, at_equal_specificity, compare_arms, describe, gain, levels
from synthimg.metrics.compliance import assess_compliance
from synthimg.metrics.recall import gap_closed, interval, mcnemar, rates, resample, threshold_at

DRAWS, GROUPS, SIZE = 400, 60, 4


def arm(hits: np.ndarray) -> Outcome:
    """One seed: a score of 1 for hits [N], else 0, and a threshold between."""
    scores = hits[None].astype(float)
    return Outcome(scores, np.where(hits[None], "rare", "other").astype(str), np.array([0.5]))


def arranged(groups: np.ndarray, seed: int, draws: int = DRAWS) -> Any:
    """Rare test images of these groups, and one other image."""
    labels = np.array(["rare"] * len(groups) + ["other"])
    return arrange(labels, np.append(groups, "elsewhere").astype(str), "rare", draws, seed)


def covered(kept: float, data_sets: int, alone: bool = False) -> float:
    """Share of simulated data sets whose interval of the gain holds the truth.

    Each group has a chance of its own to be hit, 0.6 on average, so the images of a group are alike.

    Args:
        kept: share of the groups in which the other arm hits what this one does; in the rest it hits nothing.
        alone: take every image for a group of its own.
    """
    rng, found, truth = np.random.default_rng(0), 0, 0.6 * (1 - kept)
    for number in range(data_sets):
        ours = rng.random(GROUPS * SIZE) < np.repeat(rng.beta(0.6, 0.4, GROUPS), SIZE)
        theirs = ours & np.repeat(rng.random(GROUPS) < kept, SIZE)
        test = arranged(np.arange(GROUPS * SIZE) // (1 if alone else SIZE), number)
        low, high = gain(*(arm(np.append(hits, False)) for hits in (ours, theirs)), test)["ci95"]
        found += low <= truth <= high
    return found / data_sets


@pytest.mark.parametrize("kept", [0.0, 0.5])  # against an arm that hits nothing the gain is the recall itself
def test_the_interval_holds_the_truth_in_about_95_of_100_data_sets(kept: float) -> None:
    """A percentile interval of 60 groups holds it a little less often. One of 90 %, or one by image, does so far less."""
    assert 0.915 < covered(kept, 500) < 0.965
    assert covered(kept, 250, alone=True) < 0.86


def test_the_ends_are_the_percentiles_that_95_of_100_lie_between() -> None:
    assert interval(500.0, np.arange(1001.0)) == [25.0, 975.0]
    assert interval(0.5, np.ones(10), groups=10) == pytest.approx([0.5 - 0.2589, 0.5 + 0.2589], abs=1e-4)  # 1 - 0.05 ** 0.1


def test_an_interval_that_skew_would_move_off_the_mean_is_widened_to_it() -> None:
    assert interval(0.99, np.linspace(0.1, 0.9, 101)) == pytest.approx([0.12, 0.99])
    assert interval(0.01, np.linspace(0.1, 0.9, 101)) == pytest.approx([0.01, 0.88])


def test_the_interval_of_a_share_of_requests_is_wilsons() -> None:
    asked, found = np.array(["a"] * 10), np.array(["a"] * 8 + ["b"] * 2)
    share = assess_compliance(asked, found, ["a", "b"])
    # (0.8 + z^2/20 -+ z sqrt(0.016 + z^2/400)) / (1 + z^2/10) with z = 1.96
    assert share["ci95"] == pytest.approx([0.4902, 0.9433], abs=1e-4)


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups [N] of unequal size, and hits of two arms [N]."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=8))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    hits = st.lists(st.booleans(), min_size=len(groups), max_size=len(groups))
    return groups, np.array(draw(hits)), np.array(draw(hits))


def both(groups: np.ndarray, ours: np.ndarray, theirs: np.ndarray, draws: int = 200) -> tuple[dict, dict]:
    test = arranged(groups, 0, draws)
    one, two = (arm(np.append(hits, False)) for hits in (ours, theirs))
    return describe(one, test)["recall_at_specificity"], gain(one, two, test)


@settings(max_examples=40, deadline=None)
@given(comparisons(), st.integers(2, 4))
def test_more_pictures_of_the_same_groups_with_the_same_hits_tell_nothing_new(
    given_: tuple[np.ndarray, np.ndarray, np.ndarray], times: int
) -> None:
    """Each image photographed again and again: the same share, and no narrower an interval."""
    once = both(*given_)
    often = both(*(np.repeat(part, times) for part in given_))
    for alone, repeated in zip(once, often, strict=True):
        assert repeated["mean"] == pytest.approx(alone["mean"])
        assert repeated["ci95"] == pytest.approx(alone["ci95"])


@settings(max_examples=40, deadline=None)
@given(comparisons(), st.randoms(use_true_random=False))
def test_neither_the_order_of_the_images_nor_the_other_arm_first_changes_more_than_the_sign(given_: tuple, random) -> None:
    groups, ours, theirs = given_
    _, forwards = both(groups, ours, theirs)
    _, backwards = both(groups, theirs, ours)
    low, high = forwards["ci95"]
    assert backwards["mean"] == pytest.approx(-forwards["mean"]) and backwards["p"] == forwards["p"]
    assert backwards["ci95"] == pytest.approx([-high, -low])
    order = random.sample(range(len(groups)), len(groups))
    assert both(groups[order], ours[order], theirs[order])[1] == forwards


@settings(max_examples=40, deadline=None)
@given(comparisons())
def test_intervals_hold_their_mean_and_stay_within_what_is_possible(given_: tuple) -> None:
    for found, least in zip(both(*given_), (0.0, -1.0), strict=True):
        low, high = found["ci95"]
        assert least <= low <= found["mean"] <= high <= 1.0


def test_a_resample_draws_as_many_groups_as_there_are_each_as_likely() -> None:
    """Of three groups of 1, 2 and 3 images, each is missing from (2/3)^3 of the resamples."""
    counts = resample(np.array(list("abbccc")), 30000, seed=3)
    per_group = counts[:, [0, 1, 3]]
    assert (per_group.sum(axis=1) == 3).all() and (counts[:, 1] == counts[:, 2]).all()
    assert (per_group == 0).mean(axis=0) == pytest.approx([8 / 27] * 3, abs=0.01)
    # groups weigh by their images: a rate is hits over images drawn, not a mean of groups
    assert rates(np.array([1.0, 0, 0, 0, 0, 0]), np.array([[1.0, 1, 1, 1, 1, 1], [2, 1, 1, 0, 0, 0]])) == pytest.approx(
        [1 / 6, 2 / 4]
    )


def test_classes_are_resampled_apart_and_not_alike() -> None:
    """Every resample has as many groups of each class as the test split has, and classes do not move together."""
    labels = np.array(["rare"] * 4 + ["dull"] * 4 + ["plain"] * 4)
    test = arrange(labels, np.array(list("abcd" * 3)), "rare", 500, seed=0)
    assert (test.rare_groups, test.other_groups) == (4, 4)
    assert (test.rare_counts.sum(axis=1) == 4).all()
    dull, plain = test.other_counts[:, :4], test.other_counts[:, 4:]
    assert (dull.sum(axis=1) == 4).all() and (plain.sum(axis=1) == 4).all()
    for one, two in ((dull, plain), (dull, test.rare_counts)):
        assert abs(np.corrcoef(one[:, 0], two[:, 0])[0, 1]) < 0.15
    again = arrange(labels, np.array(list("abcd" * 3)), "rare", 500, seed=1)
    assert not np.array_equal(again.rare_counts, test.rare_counts)


@pytest.mark.parametrize(
    ("specificity", "threshold"), [(0.05, 1.0), (0.2, 1.0), (0.21, 2.0), (0.6, 3.0), (0.61, 3.0), (0.8, 3.0), (0.81, 5.0)]
)
def test_the_threshold_is_the_least_score_that_keeps_the_share_with_ties(specificity: float, threshold: float) -> None:
    """Of the scores 1 2 3 3 5: a fifth is not above 1, two fifths not above 2, four fifths not above 3, all not above 5."""
    assert threshold_at(np.array([3.0, 5, 1, 3, 2]), specificity) == threshold


def test_an_arm_with_reserve_images_is_no_control_however_good() -> None:
    groups = np.arange(4)
    test = arranged(groups, 0)
    arms = {
        "oracle": arm(np.array([1, 1, 1, 1, 0], bool)), "real": arm(np.array([1, 0, 0, 0, 0], bool)),
        "focal": arm(np.array([1, 1, 0, 0, 0], bool)), "synthetic": arm(np.array([1, 1, 1, 0, 0], bool)),
    }  # fmt: skip
    found = compare_arms(arms, test, 0.5)
    assert found["best_control"] == "focal"
    assert found["gain"]["mean"] == pytest.approx(1 / 4)
    assert found["oracle_gap_closed"] == pytest.approx(1 / 2)


def test_the_curve_has_twenty_levels_from_four_times_the_false_alarms_to_a_fifth() -> None:
    found = levels(0.9)  # false alarms from 0.4 to 0.02 in steps of 0.02
    assert found == pytest.approx([0.6 + 0.02 * step for step in range(20)])
    assert levels(0.5) == pytest.approx([0.1 * step for step in range(1, 10)])  # 0 and less are left out: 1 - 0.5 * part / 5


def test_the_rule_of_three_of_an_area_counts_the_side_with_fewer_groups() -> None:
    """All rare images, of 2 groups, above all others, of 9: the area is 1 in every resample."""
    labels = np.array(["rare"] * 2 + ["other"] * 9)
    test = arrange(labels, np.arange(11).astype(str), "rare", 50, seed=0)
    scores = np.array([[0.9, 0.8, *np.linspace(0, 0.5, 9)]])
    found = describe(Outcome(scores, np.full((1, 11), "rare"), np.array([0.6])), test)["auc"]
    assert found == {"mean": 1.0, "ci95": pytest.approx([0.05**0.5, 1.0])}


@pytest.mark.parametrize(("wins", "losses", "p"), [(0, 0, 1.0), (1, 0, 1.0), (2, 0, 0.5), (5, 1, 14 / 64), (3, 3, 1.0)])
def test_mcnemar_by_hand(wins: int, losses: int, p: float) -> None:
    """Twice the chance of so few of one kind among fair tosses: (1 + 6) / 64 for 1 of 6."""
    ours = np.array([True] * wins + [False] * losses + [True, False])
    theirs = np.array([False] * wins + [True] * losses + [True, False])
    assert mcnemar(ours, theirs) == pytest.approx(p)


def test_the_oracle_has_to_lead() -> None:
    assert gap_closed(0.1, 0.5, 0.9) == pytest.approx(0.25)
    assert gap_closed(0.1, 0.5, 0.5 + 1e-12) is None and gap_closed(0.1, 0.5, 0.4) is None
    assert gap_closed(-0.1, 0.5, 0.6) == pytest.approx(-1)


def test_compliance_by_hand() -> None:
    """4 of 5 right; at random 0.6 * 0.4 + 0.4 * 0.4; one could not be told."""
    asked, found = np.array(["a", "a", "a", "b", "b"]), np.array(["a", "a", "", "b", "b"])
    told = assess_compliance(asked, found, ["a", "b"])
    chance = 0.6 * 0.4 + 0.4 * 0.4
    assert (told["n"], told["share"], told["chance"]) == (5, 0.8, pytest.approx(chance))
    assert told["p"] == pytest.approx(5 * chance**4 * (1 - chance) + chance**5)
    assert told["table"] == {"a": {"a": 2, "b": 0, "": 1}, "b": {"a": 0, "b": 2, "": 0}}
    assert list(assess_compliance(asked, asked, ["a", "b"])["table"]["a"]) == ["a", "b"]
    assert assess_compliance(asked[:0], asked[:0], ["a", "b"])["n"] == 0


def test_intervals_end_where_shares_and_changes_do() -> None:
    """Nothing varies in resamples of 3 groups, so the reach is 1 - 0.05 ** (1 / 3), cut at 0, 1 and -1."""
    test, reach = arranged(np.arange(3), 0), 1 - 0.05 ** (1 / 3)
    none, every = arm(np.zeros(4, bool)), arm(np.array([1, 1, 1, 0], bool))
    assert describe(none, test)["recall_at_specificity"]["ci95"] == pytest.approx([0, reach])
    assert describe(every, test)["recall_at_specificity"]["ci95"] == pytest.approx([1 - reach, 1])
    assert gain(none, every, test)["ci95"] == pytest.approx([-1, reach - 1])
    assert gain(every, none, test)["ci95"] == pytest.approx([1 - reach, 1])
    below = Outcome(np.array([[0.1, 0.2, 0.3, 0.9]]), np.full((1, 4), "other"), np.array([0.5]))
    assert describe(below, test)["auc"] == {"mean": 0.0, "ci95": pytest.approx([0, 0.95])}  # one group on the other side


def test_the_best_control_at_equal_specificity_is_the_one_with_the_highest_recall_whatever_its_name() -> None:
    groups = np.arange(10)
    hits = {"worse": 4, "better": 7, "synthetic": 9}
    arms = {name: arm(np.append(np.arange(10) < count, False)) for name, count in hits.items()}
    found = at_equal_specificity(arms, arranged(groups, 0), ["worse", "better"], 0.5)
    assert found["best_control"] == "better"
    assert found["recall"] == {"worse": 0.4, "better": 0.7, "synthetic": 0.9}
    assert found["gain"]["mean"] == pytest.approx(0.2)


def test_no_groups_give_resamples_of_no_images() -> None:
    assert resample([], 7, 0).shape == (7, 0)
