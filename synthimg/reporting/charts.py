"""Charts as inline SVG: small pure functions from numbers to markup, crisp on any screen, without a library.

Each is drawn `WIDTH` units wide and scaled by the page. Colours come from the page's CSS classes (`real`, `synthetic`,
`oracle`, ...), so that dark mode and print restyle them. Coordinates are rounded: equal numbers give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

from ..evaluation.results import Change, Spread

WIDTH = 420
ROW = 32
CLOSE = 13
LABEL_CHARACTERS = 24


@dataclass(frozen=True)
class Dot:
    """One row of a dot-and-interval chart."""

    label: str
    mean: float
    low: float
    high: float
    kind: str = "real"
    """CSS class: real, control, synthetic or oracle."""
    points: Sequence[float] = ()
    """Single values behind the mean, e.g. one per seed."""

    @classmethod
    def of(cls, label: str, spread: Spread | Change, kind: str, points: Sequence[float] = ()) -> Dot:
        """From a mean with its interval."""
        return cls(label, spread.mean, *spread.ci95, kind, points)


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> str:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return _n(self.start + share * (self.end - self.start))


def dots(rows: Sequence[Dot], title: str, *, bounds: tuple[float, float] | None = None, mark: float | None = None) -> Markup:
    """Means with 95 % intervals, one row each, single points below; `mark` is a line to compare with."""
    if not rows:
        return Markup()
    low, high = bounds or _span([value for row in rows for value in (row.low, row.high, *row.points)], mark)
    ticks = nice_ticks(low, high)
    x = Scale(min(low, ticks[0]), max(high, ticks[-1]), _gutter(row.label for row in rows), WIDTH - 14)
    bottom = 10 + ROW * len(rows)
    parts = [_vertical(x(tick), 6, bottom, "grid") for tick in ticks]
    parts += [_text(x(tick), bottom + 17, _tick(tick), "tick middle") for tick in ticks]
    if mark is not None:
        parts.append(_vertical(x(mark), 2, bottom, "mark"))
    for index, row in enumerate(rows):
        parts.append(_dot_row(row, x, 10 + ROW * (index + 0.5)))
    return _svg("".join(parts), bottom + 26, title)


def clusters(rows: Sequence[tuple[str, Sequence[Dot]]], title: str) -> Markup:
    """For each label several means with their intervals, close below each other; all on one axis."""
    if not rows:
        return Markup()
    low, high = _span([value for _, group in rows for row in group for value in (row.low, row.high)], None)
    ticks = nice_ticks(max(low, 0.0), min(high, 1.0))
    x = Scale(min(low, ticks[0]), max(high, ticks[-1]), _gutter(label for label, _ in rows), WIDTH - 14)
    top, parts = 10.0, []
    for label, group in rows:
        middle = top + CLOSE * len(group) / 2
        parts += [_text(_n(x.start - 14), middle + 4, _shortened(label), "label end")]
        parts += [_dot_row(replace(row, label=""), x, top + CLOSE * (at + 0.5)) for at, row in enumerate(group)]
        top += CLOSE * len(group) + CLOSE
    grid = [_vertical(x(tick), 6, top - CLOSE / 2, "grid") for tick in ticks]
    grid += [_text(x(tick), top + 8, _tick(tick), "tick middle") for tick in ticks]
    return _svg("".join(grid + parts), top + 18, title)


@dataclass(frozen=True)
class Band:
    """A line with its 95 % band."""

    at: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    kind: str = "real"
    """CSS class, as of a Dot."""


def bands(lines: Sequence[Band], title: str, *, mark: float | None = None, level: float | None = None) -> Markup:
    """Means over a number, with bands; `mark` is a vertical line, `level` a horizontal one to compare with."""
    drawn = [line for line in lines if line.at]
    if not drawn:
        return Markup()
    low, high = _span([value for line in drawn for value in (*line.low, *line.high)], level)
    first, last = min(min(line.at) for line in drawn), max(max(line.at) for line in drawn)
    rungs, marks = nice_ticks(low, high), nice_ticks(first, last)
    x, y = Scale(first, last, 52, WIDTH - 20), Scale(min(low, rungs[0]), max(high, rungs[-1]), 190, 10)
    parts = [f'<path class="grid" d="M52 {y(rung)}H{WIDTH - 14}"/>' for rung in rungs]
    parts += [_text("46", float(y(rung)) + 4, _tick(rung), "tick end") for rung in rungs]
    parts += [_text(x(tick), 208, _tick(tick), "tick middle") for tick in marks]
    if level is not None:
        parts.append(f'<path class="mark" d="M52 {y(level)}H{WIDTH - 14}"/>')
    if mark is not None:
        parts.append(_vertical(x(mark), 2, 190, "mark"))
    for line in drawn:
        there = [f"{x(at)} {y(value)}" for at, value in zip(line.at, line.high, strict=True)]
        back = [f"{x(at)} {y(value)}" for at, value in zip(line.at, line.low, strict=True)][::-1]
        parts.append(f'<path class="band {escape(line.kind)}" d="M{"L".join([*there, *back])}Z"/>')
    for line in drawn:
        path = _line(x, y, np.asarray(line.at, float), np.asarray(line.mean, float))
        parts.append(f'<path class="line {escape(line.kind)}" d="{path}"/>')
        if len(line.at) <= 12:
            parts += [
                f'<circle class="mean {escape(line.kind)}" cx="{x(at)}" cy="{y(value)}" r="4"/>'
                for at, value in zip(line.at, line.mean, strict=True)
            ]
    return _svg("".join(parts), 216, title)


def histogram(real: Sequence[float], synthetic: Sequence[float], title: str, bins: int = 16) -> Markup:
    """Shares of two samples over the same bins: real as a filled area, synthetic as a line."""
    samples = {"real": _finite(real), "synthetic": _finite(synthetic)}
    both = np.concatenate(list(samples.values()))
    if not both.size:
        return Markup()
    low, high = float(both.min()), float(both.max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    shares = {kind: np.histogram(v, edges)[0] / max(len(v), 1) for kind, v in samples.items()}
    x, top = Scale(low, high, 14, WIDTH - 14), max(float(share.max()) for share in shares.values())
    y, base = Scale(0, top, 134, 10), 134
    parts = [_vertical(x(tick), 10, base, "grid") for tick in nice_ticks(low, high)]
    for kind, share in shares.items():
        if not samples[kind].size:
            continue
        path = f"M{x(edges[0])} {y(0)}" + "".join(
            f"V{y(value)}H{x(right)}" for value, right in zip(share, edges[1:], strict=True)
        )
        parts.append(f'<path class="step {kind}" d="{path}V{y(0)}"/>')
    parts.append(f'<path class="axis" d="M14 {base}H{WIDTH - 14}"/>')
    parts += [_text(x(tick), base + 17, _tick(tick), "tick middle") for tick in nice_ticks(low, high)]
    return _svg("".join(parts), base + 24, title)


def curve(steps: Sequence[float], values: Sequence[float], title: str) -> Markup:
    """A training loss: the single steps faint, a moving mean over a twentieth of them on top."""
    raw = np.asarray(values, dtype=float)
    kept = np.isfinite(raw)
    raw, at = raw[kept], np.asarray(steps, dtype=float)[kept]
    if raw.size < 2:
        return Markup()
    window = max(1, len(raw) // 20)
    sums = np.concatenate([[0.0], np.cumsum(raw)])
    smooth, smooth_at = (sums[window:] - sums[:-window]) / window, at[window - 1 :]
    # A single spike must not flatten the curve: the axis ends at the 99th percentile, and higher points are cut there.
    top = max(float(np.quantile(raw, 0.99)), float(smooth.max()))
    ticks, marks = nice_ticks(0, top), nice_ticks(float(at[0]), float(at[-1]))
    y, x = Scale(0, max(top, ticks[-1]), 150, 10), Scale(float(at[0]), float(at[-1]), 52, WIDTH - 20)
    parts = [f'<path class="grid" d="M52 {y(tick)}H{WIDTH - 14}"/>' for tick in ticks]
    parts += [_text("46", float(y(tick)) + 4, _tick(tick), "tick end") for tick in ticks]
    parts.append(f'<path class="line faint" d="{_line(x, y, at, raw.clip(max=y.high))}"/>')
    parts.append(f'<path class="line synthetic" d="{_line(x, y, smooth_at, smooth)}"/>')
    parts += [_text(x(mark), 168, f"{mark:,.0f}", "tick middle") for mark in marks if mark == int(mark)]
    return _svg("".join(parts), 176, title)


def bar(parts: Sequence[tuple[str, int]], title: str) -> Markup:
    """One stacked horizontal bar; each part is (CSS class, count)."""
    total = sum(count for _, count in parts)
    if not total:
        return Markup()
    edges = [0, *np.cumsum([count for _, count in parts]).tolist()]
    x = Scale(0, total, 0, 100)
    boxes = [
        f'<rect class="{escape(kind)}" x="{x(left)}" y="0" width="{x(right - left)}" height="8"/>'
        for (kind, _), (left, right) in zip(parts, pairwise(edges), strict=True)
        if right > left
    ]
    return Markup(
        f'<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f"{''.join(boxes)}</svg>"
    )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """At most `count` + 1 round values inside [low, high], steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)] or [low]


def _dot_row(row: Dot, x: Scale, middle: float) -> str:
    # The points lie below the line: upon it they would hide each other and the interval.
    y, kind = _n(middle - 3 if row.points else middle), escape(row.kind)
    below = f'cy="{_n(middle + 7)}" r="2.5"'
    points = "".join(f'<circle class="seed {kind}" cx="{x(value)}" {below}/>' for value in row.points)
    return (
        _text(_n(x.start - 14), float(y) + 4, _shortened(row.label), f"label end {kind}")
        + points
        + f'<path class="interval {kind}" d="M{x(row.low)} {y}H{x(row.high)}"/>'
        + f'<circle class="mean {kind}" cx="{x(row.mean)}" cy="{y}" r="5"/>'
    )


def _shortened(label: str) -> str:
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + "…"


def _gutter(labels: Iterable[str]) -> float:
    longest = max(len(label) for label in labels)
    return 26 + 7.4 * min(longest, LABEL_CHARACTERS)


def _span(values: list[float], mark: float | None) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)] + ([] if mark is None else [mark])
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _finite(values: Sequence[float]) -> np.ndarray:
    array: np.ndarray = np.asarray(values, dtype=float)
    kept: np.ndarray = array[np.isfinite(array)]
    return kept


def _line(x: Scale, y: Scale, at: np.ndarray, values: np.ndarray, most: int = 800) -> str:
    """A polyline of at most `most` points, evenly thinned: more are not visible and only make the page heavy."""
    chosen = np.unique(np.linspace(0, len(at) - 1, min(len(at), most)).round().astype(int))
    return "M" + "L".join(f"{x(at[index])} {y(values[index])}" for index in chosen)


def _vertical(x: str, top: float, bottom: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x} {_n(top)}V{_n(bottom)}"/>'


def _text(x: str, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{_n(y)}">{escape(text)}</text>'


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(body: str, height: float, title: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {_n(height)}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
