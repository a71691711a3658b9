"""The arms of the comparison: what each trains on, and the functions that train its classifier.

An arm is one training set and one way to meet class imbalance; arms share seeds, settings and judged images, and differ in
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import HEAD_ONLY, Config
from ..core.device import choose_device
from ..core.seeds import derive
from ..data.generated import pictures, plan
from ..data.prepared import Prepared
from ..vision.features import Extractor, Features, Pixels, cached, chunks
from .classifier import Balance, Labels, Probabilities, fit_backbone, fit_head, power_normaliser, randaugment, smote

SYMMETRIES = [(down, right, turn) for turn in (False, True) for down in (1, -1) for right in (1, -1)][1:]
"""The square's but for the identity, three mirrored both ways and four with a quarter turn: (step down, step right, are rows
and columns swapped)."""
VIEWS = 2
"""RandAugment views per training image of the augmented arm's head, beside the image itself."""
Rows = NDArray[np.int64]
Symmetry = tuple[int, int, bool]
Part = tuple[NDArray[Any], Labels, float]
"""Features or pixels of some training rows, their labels, and how much each row counts."""
Fit = Callable[[str, int, list[str]], Probabilities]
"""(arm, number of the seed, ids of the synthetic images it may use) -> probabilities of the validation and test images."""


@dataclass(frozen=True)
class Arm:
    """What an arm trains on besides the real training split, and how it meets class imbalance.

    `symmetries`: how many of SYMMETRIES show the rare images once more.
    """

    balance: Balance = "none"
    augment: bool = False
    symmetries: int = 0
    mix: bool = False
    smote: bool = False
    synthetic: bool = False
    reserve: bool = False


ARMS = {
    "real": Arm(),
    "weighted": Arm(balance="loss"),
    "focal": Arm(balance="focal"),
    "oversampled": Arm(balance="draws"),
    "augmented": Arm(augment=True),
    "mirrored": Arm(symmetries=3),
    "turned": Arm(symmetries=7),
    "mixup": Arm(mix=True),
    "smote": Arm(smote=True),
    "combined": Arm(balance="draws", augment=True, mix=True),
    "synthetic": Arm(synthetic=True),
    "oracle": Arm(reserve=True),
}


def arms_of(config: Config) -> dict[str, Arm]:
    """What each arm is in a configuration: synthetic images, and the oracle's real ones, join the control that
    `evaluate.beside` names.
    """
    base = ARMS[config.evaluate.beside]
    return ARMS | {"synthetic": replace(base, synthetic=True), "oracle": replace(base, reserve=True)}


def available(config: Config, frame: pd.DataFrame, accepted: int) -> list[str]:
    """The arms asked for, in a fixed order, less those without images of their own or not defined for the classifier."""
    missing = set() if accepted else {"synthetic"}
    if config.evaluate.classifier != "head":
        missing |= HEAD_ONLY
    if not (frame["split"] == "reserve").any():
        missing.add("oracle")
    return [name for name in ARMS if name in config.evaluate.arms and name not in missing]


class Extracted(NamedTuple):
    """What linear heads are trained on and judged by: features as the network gives them."""

    real: dict[str, Features]
    """Of each split's images, in the order of `rows_of`."""
    views: Callable[[str], list[Features]]
    """Of a split's images under RandAugment, `VIEWS` times."""
    symmetric: Callable[[str, Symmetry], Features]
    """Of a split's rare images as one of SYMMETRIES shows them."""
    made: Features
    """Of all synthetic images that any fit may use."""


def headed(config: Config, data: Prepared, accepted: list[str]) -> Fit:
    """Train linear heads; the features they need are extracted once.

    Args:
        accepted: ids of all synthetic images that any fit may use, in plan order.
    """
    extracted = Extracted(
        {split: split_features(config, data, split) for split in ("train", "reserve", "validation", "test")},
        lambda split: augmented(config, data, rows_of(data.frame, split)),
        lambda split, which: symmetric_features(config, data, split, which),
        synthetic_features(config, accepted),
    )
    return heads(config, data.frame, extracted, accepted)


def heads(config: Config, frame: pd.DataFrame, extracted: Extracted, accepted: list[str]) -> Fit:
    """`headed`, once the features are there."""
    ready = power_normaliser(extracted.real["train"])
    real = {split: ready(features) for split, features in extracted.real.items()}
    part = {split: rows_of(frame, split) for split in real}
    queries = np.concatenate([real["validation"], real["test"]])
    names, labels = classes_of(frame)
    rare = names.index(config.dataset.rare_class)
    made = ready(extracted.made)
    specs = arms_of(config)

    @cache
    def views(split: str) -> list[Features]:
        return [ready(view) for view in extracted.views(split)]

    @cache
    def way(split: str, which: Symmetry) -> Features:
        return ready(extracted.symmetric(split, which))

    @cache
    def trained(arm: str, seed: int, only: tuple[str, ...]) -> Probabilities:
        spec = specs[arm]
        parts: list[Part] = []
        for split in splits(spec):
            shown = [real[split], *(views(split) if spec.augment else [])]
            # an image counts once however many views of it there are: the penalty is as strong as in the other arms
            parts += [(features, labels[part[split]], 1 / len(shown)) for features in shown]
            parts += [alike(way(split, which), rare) for which in SYMMETRIES[: spec.symmetries]]
        if spec.synthetic:
            parts.append(alike(made[np.isin(accepted, only)], rare, config.evaluate.synthetic_weight))
        inputs, codes, counts = joined(parts)
        if spec.smote:
            inputs, codes, counts = smote(inputs, codes, derive(seed, "smote"))
        return fit_head(inputs, codes, len(names), queries, seed, spec.balance, spec.mix, counts)

    def fit(arm: str, number: int, only: list[str]) -> Probabilities:
        spec = specs[arm]
        # what is not drawn by chance has one optimum, which need not be sought again for every seed
        chance = spec.smote or spec.mix or spec.balance == "draws"
        return trained(arm, derive(config.seed, "classifier", number) if chance else 0, tuple(only))

    return fit


def finetuned(config: Config, data: Prepared, accepted: list[str]) -> Fit:
    """Train the whole backbone of every arm; as `headed`."""
    device, frame = choose_device(config.device), data.frame
    names, labels = classes_of(frame)
    rare = names.index(config.dataset.rare_class)
    queries = data.pixels[np.concatenate([rows_of(frame, "validation"), rows_of(frame, "test")])]
    specs = arms_of(config)

    def fit(arm: str, number: int, only: list[str]) -> Probabilities:
        spec = specs[arm]
        rows = np.concatenate([rows_of(frame, split) for split in splits(spec)])
        parts: list[Part] = [(data.pixels[rows], labels[rows], 1.0)]
        for split in splits(spec):
            for which in SYMMETRIES[: spec.symmetries]:
                parts += [alike(part, rare) for part in symmetric(config, data, split, which)]
        if spec.synthetic:
            made = pictures(config.folder, only, config.resolution)
            parts += [alike(part, rare, config.evaluate.synthetic_weight) for part in made]
        pixels, targets, counts = joined(parts)
        seed, settings = derive(config.seed, "classifier", number), config.evaluate
        return fit_backbone(pixels, targets, len(names), queries, settings.steps, settings.batch_size, seed, spec.balance,
                        spec.augment, device, spec.mix, counts)  # fmt: skip

    return fit


def splits(spec: Arm) -> tuple[str, ...]:
    """Where an arm's real images come from."""
    return ("train", "reserve") if spec.reserve else ("train",)


def alike(rows: NDArray[Any], label: int, count: float = 1.0) -> Part:
    """Rows of one label."""
    return rows, np.full(len(rows), label, np.int64), count


def joined(parts: list[Part]) -> tuple[NDArray[Any], Labels, NDArray[np.float64]]:
    """All rows of a training set, their labels, and how much each counts."""
    inputs, codes, counts = zip(*parts, strict=True)
    return np.concatenate(inputs), np.concatenate(codes), np.repeat(counts, [len(part) for part in inputs])


def symmetric_features(config: Config, data: Prepared, split: str, which: Symmetry) -> Features:
    """Features of `symmetric`."""
    folder = config.folder / "evaluate" / "features"
    return cached(symmetric(config, data, split, which), folder, device=choose_device(config.device))


def symmetric(config: Config, data: Prepared, split: str, which: Symmetry) -> Iterator[Pixels]:
    """The rare images of a split as one of SYMMETRIES shows them; a few at a time, uint8 [<= 512, R, R, 3]."""
    down, right, turn = which
    rare = (data.frame["label"] == config.dataset.rare_class) & (data.frame["split"] == split)
    for part in chunks(data.pixels, np.flatnonzero(rare)):
        shown = part[:, ::down, ::right]
        yield shown.swapaxes(1, 2) if turn else shown


def rows_of(frame: pd.DataFrame, split: str) -> Rows:
    """Row numbers of one split, ascending."""
    return np.flatnonzero(frame["split"] == split)


def classes_of(frame: pd.DataFrame) -> tuple[list[str], Labels]:
    """Labels of the training split in alphabetical order, and every record's index among them (-1: none of them)."""
    names = sorted(set(frame.loc[frame["split"] == "train", "label"]))
    codes = {name: code for code, name in enumerate(names)}
    return names, np.array([codes.get(label, -1) for label in frame["label"]], np.int64)


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


def augmented(config: Config, data: Prepared, rows: Rows) -> list[Features]:
    """`VIEWS` feature arrays of the training images under RandAugment, each view seeded by the image's id."""
    device, cache = choose_device(config.device), config.folder / "evaluate" / "features"
    ids = data.frame["id"].to_numpy()[rows]

    def view(number: int) -> Iterator[Pixels]:
        seeds = iter([derive(config.seed, "augment", name, number) for name in ids])
        for part in chunks(data.pixels, rows):
            yield np.stack([randaugment(image, next(seeds)) for image in part])

    return [cached(view(number), cache, device=device) for number in range(VIEWS)]
