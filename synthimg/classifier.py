"""The classifiers whose recall is the question: a linear head on frozen features, or the whole backbone fine-tuned.

Every arm gets the same number of optimiser steps, the same seeds and the same settings; nothing is stopped early. Both
functions return class probabilities and are deterministic on the same machine and thread count.

    probabilities = head(features, labels, classes, queries, steps, batch, seed)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from imblearn.over_sampling import SMOTE
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

from .device import CPU
from .metrics.features import Features, Pixels, lite, normalise
from .seeds import derive

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Balance = Literal["none", "loss", "draws", "focal"]
"""How class imbalance is met: not at all, by weights in the loss, by drawing every class equally often, or by the focal
loss, in which what is told apart easily counts little (Lin et al., 2017)."""
GAMMA = 2.0
"""Of the focal loss; the paper's."""
ALPHA = 0.2
"""Of mixup's Beta(ALPHA, ALPHA); within the paper's range for ImageNet."""
NEIGHBOURS = 5
"""Of SMOTE; the paper's."""

# The head's were chosen once, on validation parts of ELPV alone, before any test score was looked at (docs/log.md);
# those of fine-tuning are customary values and were never tuned.
HEAD_RATE, HEAD_DECAY = 3e-4, 1e-1
FINETUNE_RATE, FINETUNE_DECAY = 3e-4, 1e-2


def head(
    features: Features,
    labels: Labels,
    classes: int,
    queries: Features,
    steps: int,
    batch: int,
    seed: int,
    balance: Balance = "none",
    scale: tuple[Features, Features] | None = None,
    mix: bool = False,
    counts: NDArray[np.float64] | None = None,
) -> Probabilities:
    """Softmax regression on standardised features by AdamW with a cosine learning rate, on the CPU.

    Args:
        features: [N, D] to train on; queries: [M, D] to judge.
        labels: [N] in 0..classes-1.
        scale: mean and standard deviation [D] for standardising; default: those of `features`.
        mix: mixup, of features (Zhang et al., 2018).
        counts: how much each row counts in the loss [N]; default: alike.

    Returns:
        [M, classes].
    """
    mean, deviation = scale or standard(features)
    inputs, asked = (torch.from_numpy((part - mean) / deviation) for part in (features, queries))
    targets = torch.from_numpy(labels)
    weight = nn.Parameter(torch.zeros(classes, features.shape[1]))
    bias = nn.Parameter(torch.zeros(classes))
    groups = [{"params": [weight], "weight_decay": HEAD_DECAY}, {"params": [bias], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=HEAD_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    weights = row_weights(labels, balance, counts)
    draw = np.random.default_rng(derive(seed, "mixup")) if mix else None
    model = partial(F.linear, weight=weight, bias=bias)
    for rows in order(labels, steps, batch, seed, balanced=balance == "draws"):
        optimiser.zero_grad()
        batch_loss(model, inputs[rows], targets[rows], balance, weights[rows], draw).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return F.linear(asked, weight, bias).double().softmax(dim=1).numpy()


def standard(features: Features) -> tuple[Features, Features]:
    """Mean and standard deviation [D] of features [N, D], as `head` and `smote` take them."""
    # ReLU features have near-constant columns; without the floor, rounding noise would be blown up.
    return features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)


def order(labels: Labels, steps: int, batch: int, seed: int, balanced: bool = False) -> Labels:
    """Which training rows enter each step: [steps, batch]. Whole shuffled passes, or class-balanced draws."""
    draw = np.random.default_rng(seed)
    if balanced:
        share = 1 / np.bincount(labels)[labels]
        return draw.choice(len(labels), (steps, batch), p=share / share.sum()).astype(np.int64)
    passes = -(-steps * batch // len(labels))
    rows = np.concatenate([draw.permutation(len(labels)) for _ in range(passes)])
    return rows[: steps * batch].reshape(steps, batch).astype(np.int64)


def row_weights(labels: Labels, balance: Balance, counts: NDArray[np.float64] | None = None) -> Tensor:
    """Loss weights [N], 1 on average: how much each row counts, and for balance `loss` every class alike in all.

    Args:
        counts: [N], above 0; default: all 1.
    """
    weights = np.ones(len(labels)) if counts is None else counts.astype(np.float64)
    if balance == "loss":
        weights = weights / np.bincount(labels, weights=weights)[labels]
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def loss(logits: Tensor, targets: Tensor, balance: Balance, weights: Tensor) -> Tensor:
    """Weighted mean loss of a batch.

    Args:
        logits: [N, classes]; targets, weights: [N].
    """
    each = F.cross_entropy(logits, targets, reduction="none")
    if balance == "focal":
        each = (1 - (-each).exp()) ** GAMMA * each
    return (weights * each).sum() / weights.sum()


def batch_loss(
    model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, balance: Balance, weights: Tensor,
    draw: np.random.Generator | None,
) -> Tensor:  # fmt: skip
    """`loss` of a model on a batch; with `draw` the batch is first mixed with itself in pairs (mixup)."""
    if draw is None:
        return loss(model(inputs), targets, balance, weights)
    share, other = float(draw.beta(ALPHA, ALPHA)), draw.permutation(len(targets))
    logits = model(share * inputs + (1 - share) * inputs[other])
    own, partners = loss(logits, targets, balance, weights), loss(logits, targets[other], balance, weights[other])
    return share * own + (1 - share) * partners


def smote(
    features: Features, labels: Labels, seed: int, scale: tuple[Features, Features] | None = None
) -> tuple[Features, Labels]:
    """Every class filled up to the largest by features between neighbours of one class (Chawla et al., 2002).

    Neighbours are those of standardised features, as `head` sees them. A class of a single row has none and stays as it is.

    Args:
        features: [N, D]; labels: [N].
        scale: mean and standard deviation [D]; default: those of `features`.

    Returns:
        The rows given, then the new ones.
    """
    mean, deviation = scale or standard(features)
    inputs, counts = (features - mean) / deviation, np.bincount(labels)
    found, codes = [features], [labels]
    for code in np.flatnonzero((counts > 1) & (counts < counts.max())):
        fill = SMOTE(
            sampling_strategy={int(code): int(counts.max())},
            k_neighbors=min(NEIGHBOURS, int(counts[code]) - 1),
            random_state=derive(seed, int(code)) % 2**32,
        )
        made = fill.fit_resample(inputs, labels)[0][len(labels) :]
        found.append((made * deviation + mean).astype(np.float32))
        codes.append(np.full(len(made), code, np.int64))
    return np.concatenate(found), np.concatenate(codes)


def finetune(
    pixels: Pixels,
    labels: Labels,
    classes: int,
    queries: Pixels,
    steps: int,
    batch: int,
    seed: int,
    balance: Balance = "none",
    strong: bool = False,
    device: torch.device = CPU,
    mix: bool = False,
    counts: NDArray[np.float64] | None = None,
) -> Probabilities:
    """EfficientNet-Lite0, all layers, at the pictures' own size, with flips and shifted crops; AdamW, cosine rate.

    Args:
        pixels: uint8 [N, R, R, 3] to train on; queries: [M, R, R, 3] to judge.
        strong: RandAugment (Cubuk et al., 2020) on top.
        mix: mixup (Zhang et al., 2018).
        counts: how much each picture counts in the loss [N]; default: alike.

    Returns:
        [M, classes].
    """
    with _repeatable(device, seed):
        model = _frozen_statistics(lite(classes=classes).to(device).train())
        optimiser = torch.optim.AdamW(model.parameters(), lr=FINETUNE_RATE, weight_decay=FINETUNE_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        targets = torch.from_numpy(labels).to(device)
        weights = row_weights(labels, balance, counts).to(device)
        draw = np.random.default_rng(derive(seed, "mixup")) if mix else None
        for step, rows in enumerate(order(labels, steps, batch, seed, balanced=balance == "draws")):
            images = torch.stack([jitter(pixels[row], derive(seed, step, slot), strong) for slot, row in enumerate(rows)])
            optimiser.zero_grad()
            batch_loss(model, normalise(images.to(device)), targets[rows], balance, weights[rows], draw).backward()
            optimiser.step()
            schedule.step()
        return _judge(model.eval(), queries, batch, device)


@contextmanager
def _repeatable(device: torch.device, seed: int) -> Iterator[None]:
    """Seeded, deterministic kernels inside the block; the caller's random state and settings are back after it."""
    before = torch.are_deterministic_algorithms_enabled()
    # cuBLAS reads this when it first starts; without it deterministic matrix products are refused.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=device.type == "mps")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _frozen_statistics(model: nn.Module) -> nn.Module:
    """Batch normalisation keeps ImageNet's statistics: those of few steps, or of batches that mix real and synthetic
    pictures, would make the arms differ by more than their images.
    """
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    return model


def _judge(model: nn.Module, queries: Pixels, batch: int, device: torch.device) -> Probabilities:
    found = []
    with torch.inference_mode():
        for start in range(0, len(queries), batch):
            images = torch.from_numpy(np.ascontiguousarray(queries[start : start + batch])).permute(0, 3, 1, 2)
            found.append(model(normalise(images.to(device))).double().softmax(dim=1).cpu())
    return torch.cat(found).numpy()


def jitter(image: Pixels, seed: int, strong: bool = False) -> Tensor:
    """One picture uint8 [R, R, 3], flipped by chance, shifted by up to an eighth (mirrored edges): uint8 [3, R, R]."""
    draw = np.random.default_rng(seed)
    side, reach = image.shape[0], image.shape[0] // 8
    view = randaugment(image, seed) if strong else image
    view = view[:, ::-1] if draw.random() < 0.5 else view
    top, left = draw.integers(0, 2 * reach + 1, size=2)
    padded = np.pad(view, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return torch.from_numpy(padded[top : top + side, left : left + side].copy()).permute(2, 0, 1)


def randaugment(image: Pixels, seed: int) -> Pixels:
    """One RandAugment view (two operations, magnitude 9, grey edges) of uint8 [R, R, 3], by its own seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transform = v2.Compose([v2.RandomHorizontalFlip(), v2.RandAugment(fill=127)])
        view = transform(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
    return view.permute(1, 2, 0).contiguous().numpy()
