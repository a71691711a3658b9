"""The relevance test in words: one rule for the filter's warning and for the report.

The pictures of a method are shown to be relevant if the whole interval of their AUC lies above 0.5. Pictures that have
nothing to do with the rare class give 0.5, and the interval says what chance does with so few images. There is no further
threshold: how high an AUC must be for a gain in recall depends on the data.
"""

from __future__ import annotations

from typing import Any

from ..evaluation.results_quality import Relevance, RelevanceTest
from .formats import number, range95

CHANCE = 0.5


def relevant(found: Relevance) -> bool | None:
    """Whether the pictures are shown to be relevant; None where there is no interval to tell it from."""
    return None if found.ci95 is None else found.ci95[0] > CHANCE


def words(found: Relevance) -> str:
    """What an AUC says, for a table."""
    if found.auc is None:
        return f"not measured: {found.reason}"
    if found.ci95 is None:
        return "real rare images of one group only: what holds for others cannot be told"
    if not relevant(found):
        return "not shown to resemble the real rare images"
    return "resemble the real rare images" + ("; optimistic, see above" if found.optimistic else "")


def doubts(test: RelevanceTest, rare: str) -> list[str]:
    """One sentence for each method whose pictures are not shown to be relevant although it was measured."""
    return [
        f"the pictures of method {name} are not shown to resemble the real images of {rare} (AUC {number(found.auc)}, "
        f"{range95(found.ci95)}; 0.50 is chance); an evaluation may well find that they do harm"
        for name, found in test.methods.items()
        if found.auc is not None and found.ci95 is not None and not relevant(found)
    ]


def relevance_rows(test: RelevanceTest) -> list[dict[str, Any]]:
    """The rows of the report's table: each method, then the real images in place of pictures."""
    rows = [(name, found, words(found)) for name, found in test.methods.items()]
    yardstick = "what pictures as good as these few real images would reach"
    real = ("real images in place of pictures", test.real, words(test.real) if test.real.auc is None else yardstick)
    return [{"name": name, "found": found, "words": text} for name, found, text in [*rows, real]]
