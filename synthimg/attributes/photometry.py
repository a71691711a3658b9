"""Photometric operators: one property of a photograph is brought to a value, and what it shows stays where it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import estimators

Picture = NDArray[np.uint8]
Levels = NDArray[np.float64]
STEPS = 30
"""Halvings of the interval in which an operator's amount is sought."""
MELANIN = np.array([0.7, 1.0, 1.3])
"""How much more of blue than of red skin absorbs as it gets darker, as exponents of one factor."""


def _gain(levels: Levels, amount: float) -> Levels:
    return levels * np.exp(amount)


def _spread(levels: Levels, amount: float) -> Levels:
    middle = levels.mean()
    return middle + (levels - middle) * np.exp(amount)


def _balance(levels: Levels, amount: float) -> Levels:
    return levels * np.exp(np.array([amount / 2, 0, -amount / 2]))


def _colour(levels: Levels, amount: float) -> Levels:
    grey = levels.mean(-1, keepdims=True)
    return grey + (levels - grey) * np.exp(amount)


def _tone(levels: Levels, amount: float) -> Levels:
    return levels * np.exp(amount * MELANIN)


OPERATORS: dict[str, Callable[[Levels, float], Levels]] = {
    "brightness": _gain,
    "contrast": _spread,
    "warmth": _balance,
    "saturation": _colour,
    "skin_tone": _tone,
}
"""(grey levels [H, W, 3], amount) -> grey levels, by the estimator whose value rises with the amount; 0 changes nothing."""


def towards(picture: Picture, estimator: str, value: float, reach: float = 1.5) -> Picture:
    """The picture, changed so far that an estimator gives a value, or as near to it as the operator gets.

    Args:
        picture: uint8 [H, W, 3].
        estimator: a key of OPERATORS.
        reach: the largest amount, either way; 1.5 is a factor of 4.5 on the light.
    """
    operator, low, high = OPERATORS[estimator], -reach, reach

    def changed(amount: float) -> Picture:
        return np.clip(np.round(operator(picture.astype(np.float64), amount)), 0, 255).astype(np.uint8)

    for _ in range(STEPS):
        middle = (low + high) / 2
        if float(estimators.ESTIMATORS[estimator](changed(middle)[None])[0]) < value:
            low = middle
        else:
            high = middle
    return changed((low + high) / 2)
