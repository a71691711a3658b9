"""Defects of a solar cell as its electroluminescence photograph shows them: what gets no current is dark.

Cracks are thin lines that branch and taper: straight and diagonal, as in monocrystalline silicon, or jagged, as in
polycrystalline. Thin conductors, the fingers, run across the cell. They share out the current of a few thick ones, the
busbars. A crack breaks fingers or leaves them whole; the part of a finger that is cut off from every busbar gives less
light (crack modes A to C in Köntges et al., "Review of Failures of Photovoltaic Modules", IEA-PVPS T13-01:2014). This one
rule draws the dead areas between cracks, edges and busbars, the streaks in them, and single broken fingers.

    damage = sample(np.random.default_rng(0))
    factor, mask = shadow(damage, 128, bars=[21, 64, 106])   # multiply the photograph of an intact cell by the factor

Places lie in [-1, 1], x to the right and y down. Busbars run along x, fingers along y.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage, signal

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
PIXEL = 1 / 128
"""The unit of widths, as a share of the side: one pixel of the pictures for which they were chosen."""
FINGERS = 64
"""How many a cell has."""
STEP = 0.06
"""Length of a straight piece of a crack."""
FINE = 4
"""Lines are drawn on a canvas this many times as fine as the picture."""
DARKEST = 0.05
"""Share of the light that is always left: a camera shows no cell wholly black."""
SEEN = 0.9
"""A pixel with less than this share of its light belongs to the mask."""


class Crack(NamedTuple):
    """One line.

    Attributes:
        points: its course [n, 2].
        width: at its first point, as a share of the side. It shrinks towards the last.
        depth: share of the light that is missing on the line.
        cut: share of its current that each finger loses where the crack crosses it [FINGERS].
    """

    points: Array
    width: float
    depth: float
    cut: Array


class Gap(NamedTuple):
    """A broken place of one finger. `cut` is the share of its current that does not get past."""

    finger: int
    y: float
    cut: float


class Spot(NamedTuple):
    """A dark spot.

    Attributes:
        outline: [n, 2].
        depth: share of the light that is missing in it.
        softness: of its border, a standard deviation as a share of the side.
    """

    outline: Array
    depth: float
    softness: float


class Damage(NamedTuple):
    """All defects of one cell. `blur` is the camera's, a standard deviation as a share of the side."""

    cracks: list[Crack]
    gaps: list[Gap]
    spots: list[Spot]
    blur: float


def sample(random: np.random.Generator) -> Damage:
    """Defects of one cell, few as a rule: there is always one, but it may be too faint to be seen."""
    jagged, severity = random.random() < 0.5, random.random() ** 1.5
    stars = random.choice([0, 1, 1, 1, 2, 3])
    cracks = [crack for _ in range(stars) for crack in _star(random, jagged, severity)]
    gaps = _gaps(random) if random.random() < 0.4 else []
    spotted = random.random() < 0.4 or not (cracks or gaps)
    spots = [_spot(random) for _ in range(random.integers(1, 4))] if spotted else []
    return Damage(cracks, gaps, spots, random.uniform(0.3, 0.9) * PIXEL)


def _star(random: np.random.Generator, jagged: bool, severity: float) -> list[Crack]:
    """The cracks that start at one point: two to four arms and their branches."""
    origin = random.uniform(-0.95, 0.95, 2)
    along = jagged and random.random() < 0.4  # one long crack that runs as the busbars do
    arms = 2 if along else random.choice([2, 2, 2, 3, 4])
    if jagged:
        angle, turns = random.normal(0, 0.1 if along else 0.6), np.array([0, np.pi, *random.uniform(0, 2 * np.pi, 2)])
        roughness = random.uniform(0.15, 0.5)
    else:
        angle, turns = np.pi / 4 + random.normal(0, 0.08), np.pi / 2 * random.permutation(4)
        roughness = random.uniform(0, 0.12)
    if arms == 2:  # one line through the point
        turns = turns[0] + np.array([0, np.pi])
    width, depth = random.uniform(0.7, 1.7) * PIXEL, random.uniform(0.2, 0.7)
    cracks = []
    for direction in angle + random.permutation(turns)[:arms]:
        arm = _walk(random, origin, direction, 2.2 if along else random.uniform(0.3, 2.2), roughness)
        cracks.append(Crack(arm, width, depth, _cut(random, severity)))
        for _ in range(random.poisson(0.7)):
            aside = random.choice([-1, 1]) * (random.uniform(0.4, 1.4) if jagged else np.pi / 2 + random.normal(0, 0.1))
            branch = _walk(random, random.choice(arm[:-1]), direction + aside, random.uniform(0.15, 0.8), roughness)
            cracks.append(Crack(branch, 0.8 * width, 0.8 * depth, _cut(random, severity)))
    return cracks


def _walk(random: np.random.Generator, start: Array, direction: float, length: float, roughness: float) -> Array:
    """A course from a point, until its length is used up or it leaves the cell [n >= 2, 2]."""
    count = max(int(length / STEP), 1)
    heading = direction + roughness * (random.normal(size=count).cumsum() / 8 + random.normal(size=count))
    steps = STEP * np.stack([np.cos(heading), np.sin(heading)], 1)
    course = np.concatenate([start[None], start + steps.cumsum(0)])
    outside = np.flatnonzero(np.abs(course[1:]).max(1) > 1)
    return course[: outside[0] + 2] if len(outside) else course


def _cut(random: np.random.Generator, severity: float) -> Array:
    """What a crack does to the fingers: nothing, or it breaks all of them, or neighbours here and there [FINGERS]."""
    if random.random() < 0.35:
        return np.zeros(FINGERS)
    share = 1.0 if random.random() < 0.4 else random.uniform(0.2, 0.9)
    noise = ndimage.gaussian_filter1d(random.normal(size=FINGERS), random.uniform(0.3, 3.0))
    return (noise <= np.quantile(noise, share)) * min(severity * random.uniform(0.5, 1.3), 1 - DARKEST)


def _gaps(random: np.random.Generator) -> list[Gap]:
    """Fingers near each other, each broken at two places: what lies between is cut off unless a busbar crosses it."""
    middle, y, length = random.integers(FINGERS), random.uniform(-1, 1), random.uniform(0.1, 0.7)
    gaps = []
    for _ in range(random.integers(1, 8)):
        finger = int(np.clip(middle + random.integers(-8, 9), 0, FINGERS - 1))
        top, cut = y + random.normal(0, 0.05), random.uniform(0.1, 0.5)
        gaps += [Gap(finger, top, cut), Gap(finger, top + length, cut)]
    return gaps


def _spot(random: np.random.Generator) -> Spot:
    """A smear along the busbars, or a speck at the border."""
    centre = random.uniform(-0.9, 0.9, 2)
    if random.random() < 0.35:
        axes, softness = random.uniform([0.15, 0.05], [0.5, 0.2]), random.uniform(0.5, 4.0)
    else:
        axes, softness = random.uniform(0.03, 0.15, 2), random.uniform(0.3, 1.5)
        centre[random.integers(2)] = random.choice([-0.97, 0.97])
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    uneven = 1 + ndimage.gaussian_filter1d(random.normal(0, 0.6, 40), 2, mode="wrap")
    outline = centre + uneven[:, None] * axes * np.stack([np.cos(around), np.sin(around)], 1)
    return Spot(outline, random.uniform(0.4, 1 - DARKEST), softness * PIXEL)


def busbars(grey: Array) -> list[int]:
    """Rows in which a photograph [r, r] of a cell has a dark line from side to side, in order; may be none.

    A line is 3 % darker than the median of the rows around it. The frame is none: the outermost 8 % are left out.
    """
    side, rows = len(grey), grey.mean(1)
    dip = ndimage.median_filter(rows, max(side // 8, 3), mode="nearest") / np.maximum(rows, 1) - 1
    peaks, _ = signal.find_peaks(dip, height=0.03, distance=max(side // 6, 1))
    return [int(row) for row in peaks if 0.08 * side < row < 0.92 * side]


def shadow(damage: Damage, resolution: int, bars: list[int]) -> tuple[Array, Mask]:
    """What the defects do to the light of an intact cell.

    Args:
        bars: rows of the picture in which a busbar lies, in order, at least one.

    Returns:
        factors in [DARKEST, 1], about 1 where there is no defect; where there is one that can be seen. Both
        [resolution, resolution].
    """
    missing = np.stack([_lines(damage.cracks, resolution), *(_spotted(spot, resolution) for spot in damage.spots)]).max(0)
    passed = _passed(damage, resolution)
    current = np.maximum(
        _from_above(passed, bars), _from_above(passed[::-1], [resolution - 1 - row for row in bars[::-1]])[::-1]
    )
    current = ndimage.gaussian_filter1d(
        current, 0.5 * PIXEL * resolution, axis=1
    )  # a live finger feeds its neighbours a little
    light = np.maximum((1 - missing) * current, DARKEST)
    factor = ndimage.gaussian_filter(light, damage.blur * resolution)
    return factor, factor < SEEN


def _places(points: Array, side: int) -> list[tuple[float, float]]:
    """Points in pixels, for drawing."""
    return [(float(x), float(y)) for x, y in (points + 1) / 2 * side]


def _lines(cracks: list[Crack], resolution: int) -> Array:
    """Share of the light that is missing on the lines of cracks [resolution, resolution]."""
    side = FINE * resolution
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for crack in sorted(cracks, key=lambda crack: crack.depth):  # where they cross, the darker one shows
        pieces = list(pairwise(_places(crack.points, side)))
        for i, piece in enumerate(pieces):
            width = crack.width * side * (1 - 0.6 * i / len(pieces))
            draw.line(piece, fill=round(255 * crack.depth), width=max(1, round(width)))
    return np.asarray(canvas.reduce(FINE), np.float64) / 255


def _spotted(spot: Spot, resolution: int) -> Array:
    """Share of the light that is missing in a spot [resolution, resolution]."""
    canvas = Image.new("L", (resolution, resolution))
    ImageDraw.Draw(canvas).polygon(_places(spot.outline, resolution), fill=255)
    return spot.depth * ndimage.gaussian_filter(np.asarray(canvas, np.float64) / 255, spot.softness * resolution)


def _passed(damage: Damage, resolution: int) -> Array:
    """Share of its finger's current that gets past each pixel [resolution, resolution]."""
    passed = np.ones((resolution, resolution))
    finger = np.arange(resolution) * FINGERS // resolution
    for crack in damage.cracks:
        if crack.cut.any():
            canvas = Image.new("1", (resolution, resolution))
            ImageDraw.Draw(canvas).line(_places(crack.points, resolution), fill=1)  # without a gap: no current slips through
            passed = np.where(np.asarray(canvas), np.minimum(passed, 1 - crack.cut[finger]), passed)
    for gap in damage.gaps:
        row = int((gap.y + 1) / 2 * resolution)
        if 0 <= row < resolution:
            passed[row, finger == gap.finger] = 1 - gap.cut
    return passed


def _from_above(passed: Array, bars: list[int]) -> Array:
    """Share of the full current that comes to each pixel down its finger from the next busbar; none above the first.

    Args:
        passed: share that gets past each pixel, [rows, columns].
        bars: in order.
    """
    current = np.zeros_like(passed)
    for start, stop in pairwise([*bars, len(passed)]):
        current[start] = 1
        current[start + 1 : stop] = passed[start + 1 : stop].cumprod(0)
    return current
