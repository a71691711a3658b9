"""What classifiers and scores of a run are fed with: rows, labels, and features of its real and synthetic images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..core.device import choose_device
from ..core.seeds import derive
from ..data.generated import pictures, plan
from ..data.prepared import Prepared
from ..vision.features import Extractor, Features, Pixels, cached, chunks
from ..vision.views import Symmetry, randaugment, symmetric
from .arms import Labels

SPLITS = ("train", "reserve", "validation", "test")
VIEWS = 2
"""RandAugment views per training image of an augmented arm, beside the image itself, where all rows are seen at once."""
Rows = NDArray[np.int64]


def rows_of(frame: pd.DataFrame, split: str) -> Rows:
    """Row numbers of one split, ascending."""
    return np.flatnonzero(frame["split"] == split)


def rare_rows(config: Config, data: Prepared, split: str) -> Rows:
    """Row numbers of the rare images of one split, ascending."""
    return np.flatnonzero((data.frame["label"] == config.dataset.rare_class) & (data.frame["split"] == split))


def classes_of(frame: pd.DataFrame) -> tuple[list[str], Labels]:
    """Labels of the training split in alphabetical order, and every record's index among them (-1: none of them)."""
    names = sorted(set(frame.loc[frame["split"] == "train", "label"]))
    codes = {name: code for code, name in enumerate(names)}
    return names, np.array([codes.get(label, -1) for label in frame["label"]], np.int64)


def views_of(config: Config, data: Prepared, rows: Rows) -> list[Iterator[Pixels]]:
    """`VIEWS` views of these images under RandAugment, each seeded by the image's id; a few images at a time."""
    ids = data.frame["id"].to_numpy()[rows]

    def view(number: int) -> Iterator[Pixels]:
        seeds = iter([derive(config.seed, "augment", name, number) for name in ids])
        for part in chunks(data.pixels, rows):
            yield np.stack([randaugment(image, next(seeds)) for image in part])

    return [view(number) for number in range(VIEWS)]


def augmented(config: Config, data: Prepared, rows: Rows) -> list[Features]:
    """Features of `views_of`."""
    device, folder = choose_device(config.device), config.folder / "evaluate" / "features"
    return [cached(view, folder, device=device) for view in views_of(config, data, rows)]


def symmetric_features(config: Config, data: Prepared, split: str, which: Symmetry) -> Features:
    """Features of the rare images of a split under a symmetry."""
    folder = config.folder / "evaluate" / "features"
    parts = symmetric(data.pixels, rare_rows(config, data, split), which)
    return cached(parts, folder, device=choose_device(config.device))


def split_features(config: Config, data: Prepared, split: str) -> Features:
    """Lite0 features of the real images of one split, in the order of `rows_of`."""
    folder, also = config.folder / "evaluate" / "features", [config.folder / "filter" / "features"]
    parts = chunks(data.pixels, rows_of(data.frame, split))
    return cached(parts, folder, device=choose_device(config.device), also=also)


def rare_features(config: Config, data: Prepared, extractor: Extractor) -> tuple[Rows, Features]:
    """Row numbers and features of the real rare images that no test score rests on: training, then reserve."""
    rows = np.concatenate([rows_of(data.frame, "train"), rows_of(data.frame, "reserve")])
    rare = (data.frame["label"] == config.dataset.rare_class).to_numpy()[rows]
    if extractor == "efficientnet-lite0":  # there already, for the classifier
        every = np.concatenate([split_features(config, data, split) for split in ("train", "reserve")])
        return rows[rare], every[rare]
    folder, weights = config.folder / "evaluate" / "features", config.evaluate.inception_weights
    return rows[rare], cached(chunks(data.pixels, rows[rare]), folder, extractor, choose_device(config.device), weights)


def synthetic_features(config: Config, accepted: list[str], extractor: Extractor = "efficientnet-lite0") -> Features:
    """Features of the accepted images. All planned ones are looked at, in the parts in which the filter kept them."""
    run, everyone = config.folder, list(plan(config.folder)["id"])
    folder, also = run / "evaluate" / "features", [run / "filter" / "features"]
    parts = pictures(run, everyone, config.resolution)
    features = cached(parts, folder, extractor, choose_device(config.device), config.evaluate.inception_weights, also)
    return features[np.isin(everyone, accepted)]
