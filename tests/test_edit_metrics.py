"""What an edit changed, by hand."""

from __future__ import annotations

import numpy as np

from synthimg.metrics.edits import change


def test_change_is_the_mean_absolute_difference_inside_and_outside() -> None:
    before = np.full((2, 2, 2, 3), 100, np.uint8)
    after = before.copy()
    after[0, 0, 0] = [70, 100, 130]  # inside: 20 in the mean of the channels
    after[0, 1] = 110  # outside: 10, 10 and 0
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = True
    found = change(before, after, mask)
    assert found.inside[0] == 20 and np.isclose(found.outside[0], 20 / 3)
    assert np.isnan(found.inside[1]) and found.outside[1] == 0
    everywhere = change(before, after, np.ones((2, 2, 2), bool))
    assert np.isnan(everywhere.outside).all() and everywhere.inside[0] == 10


def test_a_change_downwards_counts_as_one_upwards() -> None:
    """Grey levels are unsigned: 10 - 250 must not come out as 16."""
    dark, light = np.full((1, 1, 1, 3), 10, np.uint8), np.full((1, 1, 1, 3), 250, np.uint8)
    mask = np.ones((1, 1, 1), bool)
    assert change(dark, light, mask).inside[0] == change(light, dark, mask).inside[0] == 240
