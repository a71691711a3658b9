"""From an arm to a training set, and what every classifier does with it: weights by class, drawn rows, losses, mixup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..vision.views import SYMMETRIES, Symmetry
from .arms import Arm, Balance, Labels, TrainingSet

Probabilities = NDArray[np.float64]
Fit = Callable[[str, int, list[str]], Probabilities]
"""(arm, number of the seed, ids of the synthetic images it may use) -> probabilities [M, classes] of the validation images,
then of the test images."""
Part = tuple[NDArray[Any], Labels, float]
"""Inputs of some training rows, their labels, and how much each row counts."""

GAMMA = 2.0
"""Of the focal loss; the paper's."""
ALPHA = 0.2
"""Of mixup's Beta(ALPHA, ALPHA); within the paper's range for ImageNet."""
PASSES = 2
"""Passes over the training rows where drawing or mixing them needs a fixed set of rows."""


class Material(NamedTuple):
    """What training sets are put together from: images, or their features."""

    real: Mapping[str, NDArray[Any]]
    """Of each split's images."""
    labels: Mapping[str, Labels]
    """Of each split's images."""
    views: Callable[[str], list[NDArray[Any]]]
    """Of a split's images under RandAugment, several times."""
    symmetric: Callable[[str, Symmetry], NDArray[Any]]
    """Of a split's rare images under one of SYMMETRIES."""
    made: Callable[[list[str]], NDArray[Any]]
    """Of the synthetic images with these ids."""
    rare: int
    """Label of the rare class."""


def assemble(arm: Arm, material: Material, only: list[str], weight: float) -> TrainingSet:
    """An arm's training set before its treatment of imbalance.

    Args:
        only: ids of the synthetic images it may use.
        weight: how much each of these counts beside a real image.
    """
    parts: list[Part] = []
    for split in splits_of(arm):
        shown = [material.real[split], *(material.views(split) if arm.augment else [])]
        # an image counts once however many views of it there are: the penalty is as strong as in the other arms
        parts += [(inputs, material.labels[split], 1 / len(shown)) for inputs in shown]
        parts += [alike(material.symmetric(split, which), material.rare) for which in SYMMETRIES[: arm.symmetries]]
    if arm.synthetic:
        parts.append(alike(material.made(only), material.rare, weight))
    return joined(parts)


def splits_of(arm: Arm) -> tuple[str, ...]:
    """Where an arm's real images come from."""
    return ("train", "reserve") if arm.reserve else ("train",)


def alike(inputs: NDArray[Any], label: int, count: float = 1.0) -> Part:
    """Rows of one label."""
    return inputs, np.full(len(inputs), label, np.int64), count


def joined(parts: list[Part]) -> TrainingSet:
    """One training set of all parts, in their order."""
    inputs, codes, counts = zip(*parts, strict=True)
    return TrainingSet(np.concatenate(inputs), np.concatenate(codes), np.repeat(counts, [len(part) for part in inputs]))


def unrolled(training: TrainingSet, balance: Balance, seed: int, redraw: bool) -> TrainingSet:
    """The training set with its treatment of imbalance in its counts and rows, for classifiers that see all rows at once.

    Args:
        redraw: PASSES times as many rows, drawn as `order` draws them; else the rows as they are.

    Returns:
        Rows that together count as much as those given.
    """
    inputs, labels, counts = training
    weights = row_weights(labels, balance, counts).numpy()
    if not redraw:
        return TrainingSet(inputs, labels, weights)
    rows = order(labels, PASSES, len(labels), seed, drawn_by(labels, balance, counts)).ravel()
    return TrainingSet(inputs[rows], labels[rows], weights[rows] * (len(labels) / len(rows)))


def order(labels: Labels, steps: int, batch: int, seed: int, shares: NDArray[np.float64] | None = None) -> Labels:
    """Which training rows enter each step: [steps, batch]. Whole shuffled passes, or draws by `shares` [N]."""
    draw = np.random.default_rng(seed)
    if shares is not None:
        return draw.choice(len(labels), (steps, batch), p=shares / shares.sum()).astype(np.int64)
    passes = -(-steps * batch // len(labels))
    rows = np.concatenate([draw.permutation(len(labels)) for _ in range(passes)])
    return rows[: steps * batch].reshape(steps, batch).astype(np.int64)


def row_weights(labels: Labels, balance: Balance, counts: NDArray[np.float64] | None = None) -> Tensor:
    """Loss weights [N]: how much each row counts, and for balance `loss` every class alike, with the same sum.

    Args:
        counts: [N], above 0; default: all 1.
    """
    weights = np.ones(len(labels)) if counts is None else counts.astype(np.float64)
    if balance == "loss":
        shares = weights / np.bincount(labels, weights=weights)[labels]
        weights = shares * (weights.sum() / shares.sum())
    if balance == "draws":  # how often a row is drawn says all
        weights = np.full(len(labels), weights.mean())
    return torch.tensor(weights, dtype=torch.float32)


def drawn_by(labels: Labels, balance: Balance, counts: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Shares [N] by which `order` draws for balance `draws`, every class as often; else None."""
    return row_weights(labels, "loss", counts).double().numpy() if balance == "draws" else None


def loss(logits: Tensor, targets: Tensor, balance: Balance, weights: Tensor) -> Tensor:
    """Weighted mean loss of a batch.

    Args:
        logits: [N, classes].
        targets, weights: [N], or [2 N] after `mixup`.
    """
    logits = logits.repeat(len(targets) // len(logits), 1)
    each = F.cross_entropy(logits, targets, reduction="none")
    if balance == "focal":
        each = (1 - (-each).exp()) ** GAMMA * each
    return (weights * each).sum() / weights.sum()


def mixup(inputs: Tensor, targets: Tensor, weights: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Every row mixed with another, in a share of its own (Zhang et al., 2018): inputs [N, ...], and the targets and weights
    [2 N] of the rows themselves, then of those mixed into them.
    """
    other = draw.permutation(len(targets))
    share = torch.from_numpy(draw.beta(ALPHA, ALPHA, len(targets))).to(inputs)
    by_row = share.reshape(-1, *[1] * (inputs.ndim - 1))
    mixed = by_row * inputs + (1 - by_row) * inputs[other]
    return mixed, torch.cat([targets, targets[other]]), torch.cat([share * weights, (1 - share) * weights[other]])
