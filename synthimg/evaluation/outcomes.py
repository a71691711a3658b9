"""From probabilities to the tables of one part, and from these to the outcomes of all test images.

Thresholds come from validation images alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..metrics.comparison import Outcome, Test, arrange
from ..metrics.recall import threshold_at
from .inputs import classes_of, rows_of
from .judged import Judged
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
    names, _ = classes_of(frame, config.dataset.rare_class)
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


def pooled(parts: Sequence[Judged], table: str) -> dict[str, Outcome]:
    """What each arm says of the test images of all folds; only the arms that were trained in every part.

    A score is its log-odds less those of its fold's threshold, so that the scores of different classifiers meet on one
    scale, and every threshold is 0. The images are those of fold 0, fold 1, ...; each draw and seed is one row.

    Args:
        table: `predictions` or `portions`.
    """
    found = [outcomes_of(*_tables(part.classified, table)) for part in parts]
    names = [name for name in found[0] if all(name in other for other in found)]
    return {
        name: joined([(part.part.draw, other[name]) for part, other in zip(parts, found, strict=True)]) for name in names
    }


def _tables(folder: Path, table: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    file = folder / f"{table}.parquet"
    if table == "predictions":
        return pd.read_parquet(file), pd.read_parquet(folder / "thresholds.parquet")
    if not file.exists():  # no image to divide was accepted in this part
        return pd.DataFrame({"arm": [], "seed": [], "split": []}), pd.DataFrame()
    whole = pd.read_parquet(file)
    return whole, whole[["arm", "seed", "threshold"]].drop_duplicates()


def joined(parts: Sequence[tuple[int, Outcome]]) -> Outcome:
    """The outcomes of one arm on several folds as one, draw by draw.

    Args:
        parts: number of the draw and outcome, the folds of each draw in one order.
    """
    draws: dict[int, list[Outcome]] = {}
    for draw, outcome in parts:
        draws.setdefault(draw, []).append(centred(outcome))
    rows = [_beside(folds) for folds in draws.values()]
    return Outcome(*(np.concatenate([getattr(row, name) for row in rows]) for name in ("scores", "predicted", "thresholds")))


def _beside(folds: Sequence[Outcome]) -> Outcome:
    """Folds of one draw, side by side; their thresholds are the same."""
    return Outcome(
        np.concatenate([fold.scores for fold in folds], axis=1),
        np.concatenate([fold.predicted for fold in folds], axis=1),
        folds[0].thresholds,
    )


def centred(outcome: Outcome) -> Outcome:
    """The log-odds of the scores less those of the threshold, which is then 0."""
    scores = log_odds(outcome.scores) - log_odds(outcome.thresholds)[:, None]
    return Outcome(scores, outcome.predicted, np.zeros(len(scores)))


def log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Finite log-odds; 0 and 1 count as the numbers next to them."""
    inside = np.clip(probabilities, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)
    return np.asarray(np.log(inside) - np.log1p(-inside), np.float64)


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


def test_images(config: Config, tested: pd.DataFrame) -> Test:
    """The test images of all folds, and the resamples of them that all arms share.

    Args:
        tested: their records, in the order of the outcomes.
    """
    labels, groups = tested["label"].to_numpy(str), tested["group"].to_numpy(str)
    return arrange(labels, groups, config.dataset.rare_class, config.evaluate.bootstrap, config.seed)
