"""The default classifier: a linear head on frozen features, brought to its optimum. Nothing is stopped early.

ready = power_normaliser(features)
probabilities = fit_head(TrainingSet(ready(features), labels, counts), classes, ready(queries))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..core.seeds import derive
from ..data.prepared import Prepared
from ..vision.features import Features
from ..vision.views import Symmetry
from .arms import Arm, Balance, TrainingSet, arms_of
from .inputs import (
    SPLITS,
    Rows,
    augmented,
    classes_of,
    real_features,
    rows_of,
    symmetric_features,
    synthetic_features,
)
from .training import Fit, Material, Probabilities, assemble, loss, mixup, unrolled

HEAD_C = 4e-3
"""Inverse of the strength of the head's L2 penalty, as scikit-learn's C; chosen together with the power normalisation on
development images of ELPV and HAM10000 (docs/experiments/head.md)."""
ITERATIONS = 200
"""Of L-BFGS, at most."""


class Extracted(NamedTuple):
    """What linear heads are trained on and judged by: features as the network gives them."""

    real: Features
    """Of all real images, in the order of the records."""
    views: Callable[[], list[Features]]
    """Of the same under RandAugment, several times."""
    symmetric: Callable[[Symmetry], tuple[Rows, Features]]
    """Row numbers of all rare images, and their features under one of SYMMETRIES."""
    made: Features
    """Of all synthetic images that any fit may use."""


def headed(config: Config, data: Prepared, accepted: list[str]) -> Fit:
    """Train linear heads; the features they need are extracted once.

    Args:
        accepted: ids of all synthetic images that any fit may use, in plan order.
    """
    return heads(config, data.frame, extracted_of(config, data, accepted), accepted)


def extracted_of(config: Config, data: Prepared, accepted: list[str]) -> Extracted:
    """The features of a part's images."""
    return Extracted(
        real_features(config, data),
        cache(lambda: augmented(config, data)),
        cache(lambda which: symmetric_features(config, data, which)),
        synthetic_features(config, accepted),
    )


def heads(config: Config, frame: pd.DataFrame, extracted: Extracted, accepted: list[str]) -> Fit:
    """`headed`, once the features are there."""
    names, _ = classes_of(frame, config.dataset.rare_class)
    material = _material(config, frame, extracted, accepted)
    queries = np.concatenate([material.real["validation"], material.real["test"]])
    arms = arms_of(config.evaluate.arms, config.evaluate.beside)

    @cache
    def trained(arm: Arm, name: str, seed: int, only: tuple[str, ...]) -> Probabilities:
        training = assemble(arm, material, list(only), config.evaluate.synthetic_weight)
        if arm.resample:
            training = arm.resample(training, derive(seed, name))
        return fit_head(training, len(names), queries, seed, arm.balance, arm.mix)

    def fit(name: str, number: int, only: list[str]) -> Probabilities:
        arm = arms[name]
        # what is not drawn by chance has one optimum, which need not be sought again for every seed
        chance = arm.resample or arm.mix or arm.balance == "draws"
        # nor for an arm that differs in its one-class score alone
        alike = replace(arm, words="", title="", one_class=None)
        seed, own = derive(config.seed, "classifier", number) if chance else 0, name if arm.resample else ""
        return trained(alike, own, seed, tuple(only) if arm.synthetic else ())

    return fit


def _material(config: Config, frame: pd.DataFrame, extracted: Extracted, accepted: list[str]) -> Material:
    """The features as heads take them; those that only some arms need are worked out when they are first asked for."""
    names, labels = classes_of(frame, config.dataset.rare_class)
    split_rows = {split: rows_of(frame, split) for split in SPLITS}
    ready = power_normaliser(extracted.real[split_rows["train"]])
    made = ready(extracted.made)

    @cache
    def views(split: str) -> list[Features]:
        return [ready(view[split_rows[split]]) for view in extracted.views()]

    @cache
    def symmetric(split: str, which: Symmetry) -> Features:
        rows, features = extracted.symmetric(which)
        return ready(features[np.isin(rows, split_rows[split])])

    return Material(
        real={split: ready(extracted.real[rows]) for split, rows in split_rows.items()},
        labels={split: labels[rows] for split, rows in split_rows.items()},
        views=views,
        symmetric=symmetric,
        made=lambda only: made[np.isin(accepted, only)],
        rare=names.index(config.dataset.rare_class),
    )


def fit_head(
    training: TrainingSet,
    classes: int,
    queries: Features,
    seed: int = 0,
    balance: Balance = "none",
    mix: bool = False,
) -> Probabilities:
    """A linear probe: softmax regression with an L2 penalty, brought to its optimum by L-BFGS on the CPU.

    Only drawing rows (balance `draws`) and mixing them (mix) make use of the seed; all else has one result.

    Args:
        training: features [N, D] as `power_normaliser` makes them.
        queries: [M, D] to judge, likewise.
        mix: mixup, of features (Zhang et al., 2018).

    Returns:
        [M, classes].
    """
    features, labels, counts = unrolled(training, balance, seed, redraw=mix or balance == "draws")
    inputs, targets, weights = torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(counts)
    if mix:
        inputs, targets, weights = mixup(inputs, targets, weights, np.random.default_rng(derive(seed, "mixup")))
    weight = nn.Parameter(torch.zeros(classes, features.shape[1]))
    bias = nn.Parameter(torch.zeros(classes))
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        value = loss(F.linear(inputs, weight, bias), targets, balance, weights)
        value = value + weight.square().sum() / (2 * HEAD_C * weights.sum())
        value.backward()
        return value

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return F.linear(torch.from_numpy(queries), weight, bias).double().softmax(dim=1).numpy()


def power_normaliser(like: Features) -> Callable[[Features], Features]:
    """What makes features [N, D] ready for a head: their signed square roots (Perronnin et al., 2010), less the mean of
    those of `like` [M, D] and over their root mean square deviation: one scale for all columns, so that columns which
    hardly vary stay small.
    """
    known = _signed_root(like)
    mean = known.mean(axis=0)
    scale = max(float(np.sqrt(((known - mean) ** 2).mean())), 1e-6)  # images that are all alike leave nothing to scale
    return lambda features: np.asarray((_signed_root(features) - mean) / scale, np.float32)


def _signed_root(features: Features) -> Features:
    return np.asarray(np.sign(features) * np.sqrt(np.abs(features)), np.float32)
