"""Defects of a solar cell: current by hand, thin tapering cracks, every cell with a defect, busbars found where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.methods.procedural import damaged
from synthimg.scenes import cell

SIDE = 64
BARS = [10, 31, 53]
NO_CUT = np.zeros(cell.FINGERS)


def shadow(*defects: cell.Crack | cell.Gap | cell.Spot) -> cell.Array:
    """Factors [SIDE, SIDE] of a sharp photograph."""
    cracks = [defect for defect in defects if isinstance(defect, cell.Crack)]
    gaps = [defect for defect in defects if isinstance(defect, cell.Gap)]
    spots = [defect for defect in defects if isinstance(defect, cell.Spot)]
    return cell.shadow(cell.Damage(cracks, gaps, spots, blur=0), SIDE, BARS)[0]


def across(row: int, cut: float) -> cell.Crack:
    """An invisible line along one row that takes a share of the current of every finger."""
    y = (row + 0.5) / SIDE * 2 - 1
    return cell.Crack(np.array([[-1, y], [1, y]]), width=0, depth=0, cut=np.full(cell.FINGERS, cut))


def photograph(bars: list[int], level: int = 160) -> cell.Array:
    """A grey cell with dark lines [SIDE, SIDE] in a dark frame."""
    grey = np.full((SIDE, SIDE), level, np.float64)
    grey[bars] *= 0.6
    grey[[0, 1, -2, -1]] *= 0.4
    return grey


def test_what_a_crack_cuts_off_from_every_busbar_is_dark() -> None:
    edge = shadow(across(4, 0.5))  # between the upper edge and the first busbar
    assert np.allclose(edge[:5], 0.5) and np.allclose(edge[5:], 1)
    between = shadow(across(15, 0.5))  # each side has a busbar of its own; the line itself lies behind the cut
    assert np.allclose(np.delete(between, 15, 0), 1)
    lower = shadow(across(56, 0.25), across(60, 0.5))  # one after the other on the way to the lower edge
    assert np.allclose(lower[:56], 1) and np.allclose(lower[56:60], 0.75) and np.allclose(lower[60:], 0.375)


def test_between_two_cracks_the_better_way_counts() -> None:
    factor = shadow(across(15, 0.5), across(25, 0.25))
    assert np.allclose(factor[16:25], 0.75) and np.allclose(factor[11:15], 1) and np.allclose(factor[26:31], 1)


def test_two_gaps_darken_one_finger_and_hardly_its_neighbours() -> None:
    def gap(row: int) -> cell.Gap:
        return cell.Gap(20, (row + 0.5) / SIDE * 2 - 1, 0.5)

    factor = shadow(gap(15), gap(25))
    assert np.all(factor[16:25, 20] < 0.7) and np.all(factor[:, [17, 23]] > 0.99)
    assert np.allclose(factor[26:], 1)
    assert np.allclose(shadow(gap(25), gap(36))[26:31], 1)  # a busbar crosses what lies between
    assert np.allclose(shadow(cell.Gap(20, 1.2, 0.5)), 1)  # beyond the edge


def test_a_crack_is_thin_tapers_and_is_as_dark_as_it_says() -> None:
    course = np.stack([np.linspace(-0.9, 0.9, 20), np.full(20, 0.3)], 1)
    missing = 1 - shadow(cell.Crack(course, width=3 / SIDE, depth=0.6, cut=NO_CUT))
    wide, narrow = missing[:, 6].sum() / 0.6, missing[:, -6].sum() / 0.6  # pixels across
    assert 2.3 < wide < 3.3 and 1 < narrow < 1.6
    assert missing.max() == pytest.approx(0.6, abs=0.01)
    assert np.allclose(missing[:, [0, 1, -2, -1]], 0)


def test_a_spot_is_dark_inside_and_nowhere_else() -> None:
    square = np.array([[-0.5, -0.5], [0, -0.5], [0, 0], [-0.5, 0]])
    factor = shadow(cell.Spot(square, depth=0.8, softness=0))
    assert np.allclose(factor[17:31, 17:31], 0.2) and np.allclose(factor[:, 34:], 1) and np.allclose(factor[34:], 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**63 - 1), st.sampled_from([32, 64, 128]))
def test_every_cell_has_a_defect_and_never_loses_all_light(seed: int, side: int) -> None:
    damage = cell.sample(np.random.default_rng(seed))
    assert damage.cracks or damage.gaps or damage.spots
    assert all(0 < crack.width < 2 / 128 and len(crack.points) >= 2 for crack in damage.cracks)
    assert all((np.abs(crack.points[:-1]) <= 1).all() for crack in damage.cracks)  # what left the cell does not come back
    factor, mask = cell.shadow(damage, side, [side // 2])
    assert factor.shape == mask.shape == (side, side)
    assert factor.min() >= cell.DARKEST - 1e-9 and factor.max() <= 1 + 1e-9
    assert np.array_equal(mask, factor < cell.SEEN)
    again = cell.shadow(cell.sample(np.random.default_rng(seed)), side, [side // 2])[0]
    assert np.array_equal(factor, again)


def test_most_cells_are_mostly_intact_and_straight_cracks_run_diagonally() -> None:
    found = [cell.sample(np.random.default_rng(seed)) for seed in range(200)]
    assert np.median([cell.shadow(damage, SIDE, BARS)[1].mean() for damage in found]) < 0.1
    assert 0.3 < np.mean([len(damage.cracks) < 4 for damage in found]) < 0.9  # few and many
    long = [crack.points for damage in found for crack in damage.cracks if len(crack.points) > 12]
    ends = np.array([points[-1] - points[0] for points in long])
    lengths = np.array([np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for points in long])
    straight = np.linalg.norm(ends, axis=1) > 0.99 * lengths
    slope = np.abs(np.degrees(np.arctan2(ends[:, 1], ends[:, 0])) % 90 - 45)
    assert 0.2 < straight.mean() < 0.8  # both kinds of silicon
    assert np.quantile(slope[straight], 0.8) < 12 < np.quantile(slope[~straight], 0.5)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1, 6), max_size=4), st.integers(0, 2**16))
def test_busbars_are_found_where_they_are(tenths: set[int], noise: int) -> None:
    bars = sorted(8 + 8 * (tenth - 1) for tenth in tenths)  # apart as those of cells are
    bars = [bar for i, bar in enumerate(bars) if i == 0 or bar - bars[i - 1] >= 16]
    grey = photograph(bars) + np.random.default_rng(noise).normal(0, 4, (SIDE, SIDE))
    assert cell.busbars(grey) == bars
    assert cell.busbars(np.full((SIDE, SIDE), 160.0)) == []


def test_a_cell_on_its_side_gets_its_defects_on_its_side() -> None:
    upright = np.repeat(photograph(BARS)[..., None], 3, 2).astype(np.uint8)
    for seed in range(10):
        picture, turned = damaged(upright, "panel", seed), damaged(upright.transpose(1, 0, 2).copy(), "panel", seed)
        assert picture is not None and turned is not None
        assert np.array_equal(picture.transpose(1, 0, 2), turned)


def test_the_busbars_of_the_photograph_bound_what_is_dead() -> None:
    few, many = (np.repeat(photograph(bars)[..., None], 3, 2).astype(np.uint8) for bars in ([31], BARS))
    alike = (few == many).all((1, 2))  # away from the busbars
    pairs = [(damaged(few, "panel", seed), damaged(many, "panel", seed)) for seed in range(20)]
    assert sum(bool((np.asarray(one)[alike] != np.asarray(other)[alike]).any()) for one, other in pairs) > 5
