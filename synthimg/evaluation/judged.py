"""What the stages before the evaluation left in each part of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..config import Config, Part
from ..data import generated
from ..data.prepared import Prepared, load


class Judged(NamedTuple):
    """One part of a run: a fold, with one draw of its rare training images."""

    config: Config
    """The part's."""
    data: Prepared
    """The real images with the splits of this part."""
    planned: pd.DataFrame
    """`generate/plan.parquet`"""
    decided: pd.DataFrame
    """`filter/decisions.parquet`"""

    @property
    def part(self) -> Part:
        return self.config.part if isinstance(self.config.part, Part) else Part()

    @property
    def frame(self) -> pd.DataFrame:
        return self.data.frame

    @property
    def accepted(self) -> pd.DataFrame:
        """Rows of the plan, with the filter's decisions, of the images that passed it."""
        rows = self.planned.merge(self.decided, on="id", validate="1:1")
        return rows[rows["accepted"]]

    @property
    def tested(self) -> pd.DataFrame:
        """The records of this fold's test images."""
        return self.frame[self.frame["split"] == "test"]

    def rare(self, *splits: str) -> pd.DataFrame:
        """The records of the rare images in these splits."""
        return self.frame[self.frame["split"].isin(splits) & (self.frame["label"] == self.config.dataset.rare_class)]

    @property
    def classified(self) -> Path:
        """The folder with the predictions."""
        return self.config.folder / "classify"


def first_draw(parts: Sequence[Judged]) -> list[Judged]:
    """The parts of the first draw: all folds, each once."""
    return [part for part in parts if part.part.draw == 0]


def judged_parts(config: Config) -> list[Judged]:
    """All parts of a run, draw by draw.

    Raises:
        UserError: a stage has not finished in one of them.
    """
    return [Judged(part, load(part), generated.plan(part.folder), generated.decisions(part.folder)) for part in config.parts]
