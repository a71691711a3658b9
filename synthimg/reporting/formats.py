"""Numbers in words, for the report, the comparison and the command line."""

from __future__ import annotations

from ..evaluation.results import Interval


def number(value: float) -> str:
    """A share with two decimals and a real minus sign."""
    return f"{value:.2f}".replace("-", "−")


def signed(value: float) -> str:
    """A difference with its sign; small ones get more decimals, so that none that counts reads as 0.00."""
    digits = next((d for d in (2, 3, 4) if round(abs(value), d)), 2)
    return "0.00" if not round(abs(value), digits) else f"{value:+.{digits}f}".replace("-", "−")


def percent(part: float, whole: float = 1.0) -> str:
    """A share in whole per cent with a real minus sign."""
    return f"{round(100 * part / whole)} %".replace("-", "−")


def interval(ends: Interval) -> str:
    """A 95 % interval of a difference."""
    low, high = ends
    return f"95 % interval {signed(low)} to {signed(high)}"


def range95(ends: Interval) -> str:
    """A 95 % interval of a share."""
    low, high = ends
    return f"{number(low)} to {number(high)}"


def compact(value: float | None) -> str:
    """Three significant digits; a dash where there is no value."""
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def times(value: float | None) -> str:
    """How many to one: whole numbers where there are many; a dash where there is no number."""
    return f"{value:,.0f}" if value is not None and value >= 10 else compact(value)


def percentage(value: float | None) -> str:
    """A share in per cent with two digits, however small; a dash where there is none."""
    return "–" if value is None else f"{float(f'{100 * value:.2g}'):g} %"


def share(part: float, whole: float) -> str:
    """A part in per cent; a dash where there is no whole."""
    return percent(part, whole) if whole else "–"


def count(value: int, noun: str) -> str:
    """`3 groups`, `1 group`."""
    return f"{value} {noun}" if value == 1 else f"{value} {noun}s"
