"""The statistics of recall beside scikit-learn, SciPy and brute force, and their invariants."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from synthimg.metrics.comparison import Outcome, arrange, compare_arms, confusion, curve, gain, levels
from synthimg.metrics.recall import auc, aucs, gap_closed, interval, majority, mcnemar, rates, resample, threshold_at

# Few distinct values, so that ties are common.
SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=60)
SPECIFICITY = st.sampled_from([0.05, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999])


@settings(deadline=None)
@given(SCORES, SPECIFICITY)
def test_threshold_never_falls_below_the_specificity_and_is_the_least_that_does_not(
    scores: list[float], specificity: float
) -> None:
    values = np.array(scores)
    threshold = threshold_at(values, specificity)
    assert (values <= threshold).mean() >= specificity
    lower = values[values < threshold]
    if len(lower):
        assert (values <= lower.max()).mean() < specificity


def test_threshold_counts_in_exact_fractions() -> None:
    assert threshold_at(np.arange(10.0), 0.7) == 6.0  # 0.7 * 10 is 7.000000000000001 in floats, for ceil an 8
    with pytest.raises(ValueError, match="no validation pictures"):
        threshold_at(np.empty(0), 0.9)


@settings(max_examples=25, deadline=None)
@given(SCORES, SCORES)
def test_auc_equals_scikit_learn(rare: list[float], other: list[float]) -> None:
    truth = [1] * len(rare) + [0] * len(other)
    assert auc(np.array(rare), np.array(other)) == pytest.approx(roc_auc_score(truth, rare + other))


def test_auc_of_nothing() -> None:
    assert auc(np.empty(0), np.ones(3)) is None


def test_resample_draws_whole_groups() -> None:
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    counts = resample(groups, 500, seed=1)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 3] == counts[:, 5]).all()
    assert (counts[:, 0] + counts[:, 2] + counts[:, 3] == 3).all()
    np.testing.assert_array_equal(counts, resample(groups, 500, seed=1))
    assert counts.mean() == pytest.approx(1, abs=0.1)


def test_bootstrap_interval_equals_the_binomial_one_for_single_pictures() -> None:
    hits = np.repeat([1.0, 0.0], [60, 40])
    low, high = interval(0.6, rates(hits, resample([str(row) for row in range(100)], 4000, seed=0)))
    error = np.sqrt(0.6 * 0.4 / 100)
    assert low == pytest.approx(0.6 - 1.96 * error, abs=0.02)
    assert high == pytest.approx(0.6 + 1.96 * error, abs=0.02)


def test_bootstrap_interval_widens_with_clusters() -> None:
    hits = np.repeat(np.arange(20) % 2, 5).astype(float)
    alone = interval(0.5, rates(hits, resample([str(row) for row in range(100)], 2000, seed=0)))
    clustered = interval(0.5, rates(hits, resample([str(row // 5) for row in range(100)], 2000, seed=0)))
    assert clustered[1] - clustered[0] > 1.7 * (alone[1] - alone[0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 99))
def test_interval_holds_the_mean(hits: list[bool], clusters: int, seed: int) -> None:
    values = np.array(hits, float)
    counts = resample([str(row % clusters) for row in range(len(hits))], 100, seed)
    low, high = interval(float(values.mean()), rates(values, counts))
    assert 0 <= low <= values.mean() <= high <= 1


def test_bootstrapped_auc_equals_repeating_the_pictures() -> None:
    rng = np.random.default_rng(0)
    rare, other = rng.integers(0, 6, (2, 7)) + 1.0, rng.integers(0, 6, (2, 9)) + 0.0
    rare_counts, other_counts = resample(list("aabbcde"), 20, 1), resample(list("abcdefghi"), 20, 2)
    found = aucs(rare, other, rare_counts, other_counts)
    for draw in range(20):
        r, o = rare_counts[draw].astype(int), other_counts[draw].astype(int)
        expected = np.mean([auc(np.repeat(rare[s], r), np.repeat(other[s], o)) for s in range(2)])
        assert found[draw] == pytest.approx(expected)


def test_majority_breaks_ties_against_a_hit() -> None:
    hits = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    assert majority(hits).tolist() == [True, False, False, False]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_is_symmetric_and_equals_scipy(pairs: list[tuple[bool, bool]]) -> None:
    table = np.array(pairs, bool).reshape(-1, 2)
    p = mcnemar(table[:, 0], table[:, 1])
    assert p == mcnemar(table[:, 1], table[:, 0])
    wins, losses = (table[:, 0] & ~table[:, 1]).sum(), (~table[:, 0] & table[:, 1]).sum()
    expected = binomtest(int(wins), int(wins + losses)).pvalue if wins + losses else 1.0
    assert p == pytest.approx(expected)


def test_gap_closed() -> None:
    assert gap_closed(0.05, 0.6, 0.7) == pytest.approx(0.5)
    assert gap_closed(0.05, 0.6, 0.6) is None


LABELS = np.array(["rare"] * 6 + ["dull"] * 8 + ["plain"] * 6)
GROUPS = np.array([f"g{row // 2}" for row in range(20)])


def outcome(seed: int, lead: float) -> Outcome:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, (3, 20)) + lead * (LABELS == "rare")
    return Outcome(scores, np.where(scores > 0.9, "rare", "dull").astype(str), np.full(3, 0.9))


def test_comparison_takes_the_best_control_and_pairs_the_arms() -> None:
    test = arrange(LABELS, GROUPS, "rare", 300, seed=0)
    arms = {
        "real": outcome(1, 0.1),
        "weighted": outcome(1, 0.5),
        "synthetic": outcome(1, 0.7),
        "oracle": outcome(1, 1.0),
    }
    found = compare_arms(arms, test, 0.95)
    assert found["best_control"] == "weighted"
    means = {arm: part["recall_at_specificity"]["mean"] for arm, part in found["arms"].items()}
    assert found["gain"]["mean"] == pytest.approx(means["synthetic"] - means["weighted"])
    low, high = found["gain"]["ci95"]
    assert low <= found["gain"]["mean"] <= high
    assert found["oracle_gap_closed"] == pytest.approx(found["gain"]["mean"] / (means["oracle"] - means["weighted"]))
    assert np.mean(found["arms"]["real"]["per_seed"]["recall"]) == pytest.approx(found["arms"]["real"]["recall"]["mean"])
    assert set(found["arms"]["real"]["other_recall"]) == {"dull", "plain"}


def test_the_curve_falls_and_its_ends_can_be_counted() -> None:
    test = arrange(LABELS, GROUPS, "rare", 300, seed=0)
    one = outcome(1, 0.5)
    found = curve(one, test, around := levels(0.95))
    assert all(first >= second for first, second in pairwise(found["mean"]))
    assert all(low <= mean <= high for low, mean, high in zip(found["low"], found["mean"], found["high"], strict=True))
    # 14 other images: 0.95 of them is more than 13, so the threshold is the highest score of any
    highest = one.scores[:, LABELS != "rare"].max(axis=1, keepdims=True)
    assert found["mean"][around.index(0.95)] == pytest.approx((one.scores[:, LABELS == "rare"] > highest).mean())


@given(st.floats(0.01, 0.999))
def test_levels_lie_around_the_specificity_asked_for(specificity: float) -> None:
    found = levels(specificity)
    assert found == sorted(set(found)) and found[0] > 0 and found[-1] < 1
    assert min(abs(level - specificity) for level in found) < 1e-8


def test_equal_specificity_is_equal_and_takes_its_own_best_control() -> None:
    """A control whose threshold lets false alarms through is best there, not where all let through as many."""
    test = arrange(LABELS, GROUPS, "rare", 300, seed=0)
    loose, strict = outcome(1, 0.1), outcome(1, 0.5)
    loose = Outcome(loose.scores, loose.predicted, np.zeros(3))
    found = compare_arms({"real": loose, "weighted": strict, "synthetic": outcome(1, 0.6)}, test, 0.8)
    assert found["best_control"] == "real" and found["arms"]["real"]["recall_at_specificity"]["mean"] == 1
    matched = found["matched"]
    assert matched["best_control"] == "weighted"
    assert matched["gain"]["mean"] == pytest.approx(matched["recall"]["synthetic"] - matched["recall"]["weighted"])
    assert matched["recall"]["weighted"] == pytest.approx(curve(strict, test, [0.8])["mean"][0])


def test_confusion_counts_every_image_once() -> None:
    test = arrange(LABELS, GROUPS, "rare", 50, seed=0)
    table = confusion(outcome(1, 0.5), test)
    assert {label: sum(row.values()) for label, row in table.items()} == {"rare": 6, "dull": 8, "plain": 6}
    called = outcome(1, 0.5).predicted[:, LABELS == "plain"]
    assert table["plain"] == {name: (called == name).sum() / 3 for name in ("dull", "plain", "rare")}


def test_an_arm_against_itself_gains_nothing_as_far_as_so_few_images_tell() -> None:
    test = arrange(LABELS, GROUPS, "rare", 300, seed=0)
    found = compare_arms({"real": outcome(2, 0.3), "synthetic": outcome(2, 0.3)}, test, 0.95)
    for change, groups in ((found["gain"], test.rare_groups), (found["common"]["specificity_change"], test.other_groups)):
        reach = 1 - 0.05 ** (1 / groups)
        assert change["mean"] == 0 and change["ci95"] == [-round(reach, 12), round(reach, 12)]
    assert found["gain"]["p"] == 1


@pytest.mark.parametrize("names", [("real",), ("oracle",), ("real", "oracle"), ()])
def test_without_synthetic_arm_there_is_no_gain(names: tuple[str, ...]) -> None:
    test = arrange(LABELS, GROUPS, "rare", 50, seed=0)
    found = compare_arms({name: outcome(1, 0.2) for name in names}, test, 0.95)
    assert found["gain"] is None and found["oracle_gap_closed"] is None


def test_where_nothing_varies_the_interval_says_what_so_few_pictures_allow() -> None:
    nothing = rates(np.zeros(35), resample([str(row) for row in range(35)], 200, seed=0))
    low, high = interval(0.0, nothing, 35)
    assert (low, high) == pytest.approx((-0.082, 0.082), abs=1e-3)  # 1 - 0.05 ** (1 / 35), about 3 / 35
    assert interval(0.0, nothing, 3500)[1] < 1e-3
    varied = rates(np.arange(35) / 35, resample([str(row) for row in range(35)], 200, seed=0))
    assert interval(0.5, varied, 35) == interval(0.5, varied)


def test_a_change_of_nothing_has_no_digits_left_that_could_decide() -> None:
    """0.8 - 0.6 + 0.4 - 0.6 is not 0 in binary; an interval that begins there must not read as above 0."""

    def arm(*hits: list[int]) -> Outcome:
        scores = np.concatenate([np.array(hits, float).T, np.zeros((len(hits[0]), len(OTHERS)))], axis=1)
        return Outcome(scores, np.where(scores > 0.5, "rare", "plain"), np.full(len(scores), 0.5))

    OTHERS = ["plain"] * 8
    ours = arm([1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0])
    theirs = arm([1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0])
    labels = np.array(["rare"] * 3 + OTHERS)
    test = arrange(labels, np.arange(len(labels)).astype(str), "rare", 500, seed=0)
    found = gain(ours, theirs, test)
    assert found["mean"] == 0
    assert all(abs(bound) > 1e-6 or bound == 0 for bound in found["ci95"])
