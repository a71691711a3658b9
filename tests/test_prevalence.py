"""What recall and specificity mean in the field: by hand, and silent where the test images are too few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthimg.errors import UserError
from synthimg.evaluation.results_subgroups import Prevalence
from synthimg.metrics import comparison
from synthimg.metrics.comparison import Outcome, arrange, compare_arms
from synthimg.metrics.prevalence import false_alarms_per_find, in_the_field, least_ordinary, precision
from synthimg.reading import parse


def test_of_a_million_images_in_the_field() -> None:
    """Prevalence 0.001: 1000 rare images, 600 found; 999000 ordinary ones, 5 % or 49950 alarms."""
    assert precision(0.6, 0.95, 0.001) == pytest.approx(600 / (600 + 49950))
    assert false_alarms_per_find(0.6, 0.95, 0.001) == pytest.approx(49950 / 600)
    assert false_alarms_per_find(0.6, 0.999, 0.001) == pytest.approx(999 / 600)


def test_where_there_is_no_find_or_no_alarm() -> None:
    assert precision(0.0, 0.95, 0.001) == 0.0
    assert false_alarms_per_find(0.0, 0.95, 0.001) is None
    assert precision(0.0, 1.0, 0.001) is None
    assert precision(0.5, 1.0, 0.001) == 1.0 and false_alarms_per_find(0.5, 1.0, 0.001) == 0.0


ARMS = ("real", "weighted", "synthetic", "oracle")
RATE = st.floats(0.01, 0.99)


@given(RATE, RATE, RATE)
def test_precision_and_false_alarms_say_the_same(recall: float, specificity: float, prevalence: float) -> None:
    alarms = false_alarms_per_find(recall, specificity, prevalence)
    assert alarms is not None and precision(recall, specificity, prevalence) == pytest.approx(1 / (1 + alarms))


@given(RATE, RATE)
def test_at_even_prevalence_precision_is_that_of_a_balanced_test_set(recall: float, specificity: float) -> None:
    assert precision(recall, specificity, 0.5) == pytest.approx(recall / (recall + 1 - specificity))


@pytest.mark.parametrize(("specificity", "least"), [(0.9, 50), (0.95, 100), (0.97, 167), (0.99, 500), (0.999, 5000)])
def test_five_false_alarms_have_to_be_expected(specificity: float, least: int) -> None:
    assert least_ordinary(specificity) == least


def judged(
    ordinary: int, arms: tuple[str, ...] = ("real", "weighted", "synthetic", "oracle")
) -> tuple[dict[str, Outcome], comparison.Test]:
    """Ordinary scores 1, 2, ..., `ordinary`, so that each quantile is known; ten rare images at known places among them."""
    labels = np.array(["rare"] * 10 + ["other"] * ordinary)
    test = arrange(labels, np.arange(len(labels)).astype(str), "rare", 50, seed=0)
    found = {}
    for arm, above in zip(ARMS, (3, 2, 6, 8), strict=True):
        # `above` of the rare images are above all others, one more is above 97 % of them, the rest is below all
        rare = np.array([ordinary + 1.0] * above + [0.97 * ordinary + 0.5] + [0.0] * (9 - above))
        scores = np.concatenate([rare, np.arange(1.0, ordinary + 1)])[None]
        # the threshold of validation lets a tenth of the others pass
        found[arm] = Outcome(scores, np.full(scores.shape, "other"), np.array([0.9 * ordinary]))
    return {arm: found[arm] for arm in arms}, test


def described(ordinary: int, prevalence: float | None = 0.01, **options: tuple[str, ...]) -> Prevalence:
    arms, test = judged(ordinary, **options)
    recall = {**compare_arms(arms, test, 0.95), "specificity": 0.95}
    return Prevalence.model_validate(in_the_field(arms, test, recall, prevalence))


def test_each_arm_at_each_specificity_by_hand() -> None:
    found = described(1000)
    assert found.prevalence == 0.01 and found.ordinary == 1000
    assert [(row.thresholds, row.specificity) for row in found.rows] == [
        ("validation", 0.95), ("test", 0.95), ("test", 0.99), ("test", 0.999),
    ]  # fmt: skip
    own, wanted, strict, stricter = found.rows
    assert stricter.arms is None  # one false alarm among 1000 is no rate
    assert own.arms and wanted.arms and strict.arms
    assert list(own.arms) == ["real", "synthetic", "oracle"] and own.best_control == "real"
    assert [arm.recall.mean for arm in wanted.arms.values()] == [0.4, 0.7, 0.9]
    assert [arm.recall.mean for arm in strict.arms.values()] == [0.3, 0.6, 0.8]
    # the threshold of validation lets 10 % pass on test: that is what false alarms are counted with, not the 5 % wanted
    assert own.arms["real"].specificity == pytest.approx(0.9)
    assert own.arms["real"].false_alarms_per_find == pytest.approx(0.1 * 0.99 / (0.4 * 0.01))
    assert wanted.arms["real"].false_alarms_per_find == pytest.approx(0.05 * 0.99 / (0.4 * 0.01))
    assert strict.arms["synthetic"].precision == pytest.approx(0.006 / (0.006 + 0.01 * 0.99))
    low, high = strict.arms["synthetic"].recall.ci95 or (0, 0)
    assert 0 <= low < 0.6 < high <= 1


def test_without_a_prevalence_recall_alone_is_told() -> None:
    (_, _, strict, _) = described(500, prevalence=None).rows
    assert strict.arms and strict.arms["synthetic"].recall.mean == 0.6
    assert strict.arms["synthetic"].precision is None and strict.arms["synthetic"].false_alarms_per_find is None


def test_few_ordinary_images_say_nothing() -> None:
    assert all(row.arms is None for row in described(99).rows)
    assert [row.arms is not None for row in described(100).rows] == [True, True, False, False]


def test_arms_that_are_not_there_are_left_out() -> None:
    (own, wanted, *_) = described(200, arms=("real", "oracle")).rows
    assert own.arms and list(own.arms) == ["real", "oracle"] and wanted.best_control == "real"


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, "often"])
def test_a_prevalence_is_a_share_between_none_and_all(prevalence: object) -> None:
    dataset = {"path": "x", "rare_class": "rare", "prompts": "solar-cell"}
    with pytest.raises(UserError, match=r"evaluate\.prevalence"):
        parse({"name": "field", "dataset": dataset, "evaluate": {"prevalence": prevalence}})
