"""Asked for against measured: counts, and what pairing at random would give."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthimg.metrics.compliance import assess_compliance

CATEGORIES, SHADES = ["small", "medium", "large"], ["dark", "medium", "bright"]
NAMES = st.sampled_from(CATEGORIES)


@given(st.lists(st.tuples(NAMES, st.one_of(NAMES, st.just(""))), min_size=1, max_size=6))
def test_chance_is_the_mean_over_all_pairings(pairs: list[tuple[str, str]]) -> None:
    asked, found = (np.array(side) for side in zip(*pairs, strict=True))
    result = assess_compliance(asked, found, CATEGORIES)
    every = [np.mean(asked == np.array(order)) for order in permutations(found)]
    assert result["chance"] == pytest.approx(np.mean(every))
    assert result["share"] == pytest.approx(np.mean(asked == found))
    assert sum(sum(counts.values()) for counts in result["table"].values()) == result["n"] == len(pairs)
    assert 0 <= result["ci95"][0] <= result["share"] + 1e-12 and result["share"] <= result["ci95"][1] + 1e-12


def test_a_model_that_listens_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    asked = np.array(["dark", "medium", "bright"] * 30)
    deaf = assess_compliance(asked, rng.permutation(asked), SHADES)
    assert deaf["p"] > 0.05 and deaf["chance"] == pytest.approx(1 / 3)
    listening = assess_compliance(asked, np.where(rng.random(90) < 0.8, asked, "dark"), SHADES)
    assert listening["p"] < 1e-6 and listening["share"] > 0.75


def test_always_the_same_picture_is_no_obedience() -> None:
    assert assess_compliance(np.array(["dark"] * 9 + ["bright"]), np.array(["dark"] * 10), SHADES)["p"] > 0.05


def test_no_pictures_no_share() -> None:
    assert assess_compliance(np.array([], str), np.array([], str), SHADES)["share"] is None
