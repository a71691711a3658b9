"""From probabilities to the tables and outcomes of the test images. Thresholds come from validation images alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..config import Config
from ..metrics.comparison import Outcome, Test, arrange
from ..metrics.recall import threshold_at
from .inputs import classes_of, rows_of
from .training import Probabilities


def tables_of(
    config: Config, frame: pd.DataFrame, found: Mapping[tuple[str, int], Probabilities]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """predictions.parquet and thresholds.parquet.

    Args:
        found: probabilities by arm and number of the seed, as a `Fit` gives them.
    """
    predictions = predicted(config, frame, found)
    return predictions, chosen(predictions, config.dataset.rare_class, config.evaluate.specificity)


def predicted(config: Config, frame: pd.DataFrame, found: Mapping[tuple[str, int], Probabilities]) -> pd.DataFrame:
    """predictions.parquet: each classifier's rows, validation first."""
    names, _ = classes_of(frame)
    judged = frame.iloc[np.concatenate([rows_of(frame, "validation"), rows_of(frame, "test")])]
    columns = {name: judged[name].to_numpy() for name in ("id", "label", "split")}
    rare = names.index(config.dataset.rare_class)
    tables = [
        pd.DataFrame({
            "arm": arm, "seed": number, **columns, "score": probabilities[:, rare],
            "predicted": np.array(names, object)[probabilities.argmax(axis=1)],
        })
        for (arm, number), probabilities in found.items()
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def chosen(predictions: pd.DataFrame, rare: str, specificity: float) -> pd.DataFrame:
    """thresholds.parquet, from the validation images of the other classes alone."""
    seen = predictions[(predictions["split"] == "validation") & (predictions["label"] != rare)]
    rows = [
        {"arm": arm, "seed": number, "threshold": threshold_at(part["score"].to_numpy(np.float64), specificity)}
        for (arm, number), part in seen.groupby(["arm", "seed"], sort=False)
    ]
    return pd.DataFrame(rows)


def outcomes_of(predictions: pd.DataFrame, thresholds: pd.DataFrame) -> dict[str, Outcome]:
    """What each arm's finished predictions are on the test images."""
    found = {}
    for arm, part in predictions[predictions["split"] == "test"].groupby("arm", sort=False):
        shape = (part["seed"].nunique(), -1)
        found[str(arm)] = Outcome(
            part["score"].to_numpy(np.float64).reshape(shape),
            part["predicted"].to_numpy(str).reshape(shape),
            thresholds.loc[thresholds["arm"] == arm, "threshold"].to_numpy(np.float64),
        )
    return found


def test_images(config: Config, frame: pd.DataFrame) -> Test:
    """The test images, and the resamples of them that all arms share."""
    tested, rare = frame[frame["split"] == "test"], config.dataset.rare_class
    labels, groups = tested["label"].to_numpy(str), tested["group"].to_numpy(str)
    return arrange(labels, groups, rare, config.evaluate.bootstrap, config.seed)
