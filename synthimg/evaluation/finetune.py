"""The classifier whose whole backbone is trained, for a fixed number of steps: EfficientNet-Lite0 with ImageNet weights.

Deterministic on the same machine and thread count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..config import Config
from ..core.device import CPU, choose_device
from ..core.seeds import derive
from ..data.generated import pictures
from ..data.prepared import Prepared
from ..vision.backbone import lite, normalise
from ..vision.features import Pixels
from ..vision.views import SYMMETRIES, jitter, symmetric
from .arms import Arm, Balance, TrainingSet, arms_of
from .inputs import classes_of, rare_rows, rows_of
from .training import Fit, Part, Probabilities, alike, drawn_by, joined, loss, mixup, order, row_weights, splits_of

# customary values, never tuned
FINETUNE_RATE, FINETUNE_DECAY = 3e-4, 1e-2


class Schedule(NamedTuple):
    """How long a backbone is trained, from which seed, and where."""

    steps: int
    """Optimiser steps."""
    batch: int
    """Pictures a step."""
    seed: int = 0
    device: torch.device = CPU


def finetuned(config: Config, data: Prepared, accepted: list[str]) -> Fit:
    """Train the whole backbone of every arm; as `headed`."""
    device, settings = choose_device(config.device), config.evaluate
    names, _ = classes_of(data.frame, config.dataset.rare_class)
    queries = data.pixels[np.concatenate([rows_of(data.frame, "validation"), rows_of(data.frame, "test")])]
    arms = arms_of(settings.arms, settings.beside)

    def fit(name: str, number: int, only: list[str]) -> Probabilities:
        arm, seed = arms[name], derive(config.seed, "classifier", number)
        training = training_set(config, data, arm, only)
        if arm.resample:
            training = arm.resample(training, derive(seed, name))
        schedule = Schedule(settings.steps, settings.batch_size, seed, device)
        return fit_backbone(training, len(names), queries, schedule, arm.balance, arm.augment, arm.mix)

    return fit


def training_set(config: Config, data: Prepared, arm: Arm, only: list[str]) -> TrainingSet:
    """An arm's images; RandAugment views are drawn during training, a new one each time."""
    names, labels = classes_of(data.frame, config.dataset.rare_class)
    rare = names.index(config.dataset.rare_class)
    rows = np.concatenate([rows_of(data.frame, split) for split in splits_of(arm)])
    parts: list[Part] = [(data.pixels[rows], labels[rows], 1.0)]
    for split in splits_of(arm):
        for which in SYMMETRIES[: arm.symmetries]:
            parts += [alike(part, rare) for part in symmetric(data.pixels, rare_rows(config, data, split), which)]
    if arm.synthetic:
        made = pictures(config.folder, only, config.resolution)
        parts += [alike(part, rare, config.evaluate.synthetic_weight) for part in made]
    return joined(parts)


def fit_backbone(
    training: TrainingSet,
    classes: int,
    queries: Pixels,
    schedule: Schedule,
    balance: Balance = "none",
    strong: bool = False,
    mix: bool = False,
) -> Probabilities:
    """EfficientNet-Lite0, all layers, at the pictures' own size, with flips and shifted crops; AdamW, cosine rate.

    Args:
        training: pictures, uint8 [N, R, R, 3].
        queries: uint8 [M, R, R, 3] to judge.
        strong: RandAugment (Cubuk et al., 2020) on top.
        mix: mixup (Zhang et al., 2018).

    Returns:
        [M, classes].
    """
    pixels, labels, counts = training
    steps, batch, seed, device = schedule
    with _repeatable(device, seed):
        model = _frozen_statistics(lite(classes=classes).to(device).train())
        optimiser = torch.optim.AdamW(model.parameters(), lr=FINETUNE_RATE, weight_decay=FINETUNE_DECAY)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        targets = torch.from_numpy(labels).to(device)
        weights = row_weights(labels, balance, counts).to(device)
        draw = np.random.default_rng(derive(seed, "mixup")) if mix else None
        for step, rows in enumerate(order(labels, steps, batch, seed, drawn_by(labels, balance, counts))):
            views = torch.stack([jitter(pixels[row], derive(seed, step, slot), strong) for slot, row in enumerate(rows)])
            images, wanted, shares = normalise(views.to(device)), targets[rows], weights[rows]
            if draw:
                images, wanted, shares = mixup(images, wanted, shares, draw)
            optimiser.zero_grad()
            loss(model(images), wanted, balance, shares).backward()
            optimiser.step()
            cosine.step()
        return _judge(model.eval(), queries, batch, device)


@contextmanager
def _repeatable(device: torch.device, seed: int) -> Iterator[None]:
    """Seeded, deterministic kernels inside the block; the caller's random state and settings are back after it."""
    new_memory: Any = torch.utils.deterministic  # a module with a property, which type checkers do not know
    before, filled = torch.are_deterministic_algorithms_enabled(), new_memory.fill_uninitialized_memory
    # cuBLAS reads this when it first starts; without it deterministic matrix products are refused.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=device.type == "mps")
        # A fifth of the time would go into filling what the kernels are about to write.
        new_memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            new_memory.fill_uninitialized_memory = filled


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
