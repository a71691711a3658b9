"""Gains over redrawn splits: the corrected resampled t-test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthimg.metrics.repeats import difference, pool

SHARES = st.lists(st.floats(0, 1), min_size=3, max_size=9)


@given(ours=SHARES, shift=st.floats(-0.5, 0.5))
def test_without_a_test_set_it_is_the_plain_paired_t_test(ours: list[float], shift: float) -> None:
    theirs = [0.5 * value + shift for value in ours]
    found = difference(ours, theirs, 0.0)
    if np.std(found["points"]) < 1e-6:
        return
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found["ci95"] == pytest.approx([low, high], rel=1e-6, abs=1e-9)


def test_the_correction_widens_the_interval_as_the_paper_says() -> None:
    ours, theirs = [0.6, 0.65, 0.7, 0.62], [0.6, 0.6, 0.61, 0.6]
    narrow, wide = difference(ours, theirs, 0.0), difference(ours, theirs, 1 / 3)
    width = [found["ci95"][1] - found["ci95"][0] for found in (narrow, wide)]
    assert width[1] / width[0] == pytest.approx(math.sqrt((1 / 4 + 1 / 3) / (1 / 4)))
    assert wide["mean"] == narrow["mean"]


def test_the_best_control_is_the_best_on_average() -> None:
    arms = {"real": [0.5, 0.7], "smote": [0.65, 0.6], "synthetic": [0.7, 0.7], "oracle": [0.8, 0.8]}
    found = pool(arms, 0.2)
    assert found["best_control"] == "smote" and found["control"] == pytest.approx(0.625)
    assert found["gain"]["points"] == pytest.approx([0.05, 0.1])
    assert found["oracle_gap_closed"] == pytest.approx(0.075 / 0.175)
    assert pool({"real": [0.5, 0.6], "oracle": [0.7, 0.7]}, 0.2)["gain"] is None


def test_equal_differences_are_no_certainty() -> None:
    assert difference([0.75, 0.5], [0.5, 0.25], 0.2)["ci95"] is None
