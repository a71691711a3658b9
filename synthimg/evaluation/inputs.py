"""What classifiers and scores of a run are fed with: rows, labels, and features of its real and synthetic images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..core.device import choose_device
from ..core.seeds import derive
from ..core.stage import cache_of
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


def classes_of(frame: pd.DataFrame, rare: str) -> tuple[list[str], Labels]:
    """Labels of the training split, with the rare one, in alphabetical order; every record's index among them (-1: none)."""
    names = sorted({*frame.loc[frame["split"] == "train", "label"], rare})
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


def features_of(config: Config, parts: Iterable[Pixels], extractor: Extractor = "efficientnet-lite0") -> Features:
    """Features of images, kept in the outputs folder: whatever meets the same images finds them there."""
    folder, device = cache_of(config) / "features", choose_device(config.device)
    # the filter, whose key has no section `evaluate`, asks for the other extractor
    weights = config.evaluate.inception_weights if extractor == "inception" else None
    return cached(parts, folder, extractor, device, weights)


def real_features(config: Config, data: Prepared, extractor: Extractor = "efficientnet-lite0") -> Features:
    """Features of all real images, in the order of the records. The network is frozen, so no image bears on another's."""
    return features_of(config, chunks(data.pixels, np.arange(len(data.frame))), extractor)


def augmented(config: Config, data: Prepared) -> list[Features]:
    """Features of `views_of` all real images."""
    return [features_of(config, view) for view in views_of(config, data, np.arange(len(data.frame)))]


def symmetric_features(config: Config, data: Prepared, which: Symmetry) -> tuple[Rows, Features]:
    """Row numbers of all rare images, and their features under a symmetry."""
    rows = np.flatnonzero(data.frame["label"] == config.dataset.rare_class)
    return rows, features_of(config, symmetric(data.pixels, rows, which))


def synthetic_features(config: Config, accepted: list[str], extractor: Extractor = "efficientnet-lite0") -> Features:
    """Features of the accepted images. All planned ones are looked at, in the parts in which the filter looked at them."""
    everyone = list(plan(config.folder)["id"])
    features = features_of(config, pictures(config.folder, everyone, config.resolution), extractor)
    return features[np.isin(everyone, accepted)]
