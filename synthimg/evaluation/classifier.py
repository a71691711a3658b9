"""The classifiers whose recall is the question: a linear head on frozen features, or the whole backbone fine-tuned.

Every arm gets the same settings and seeds; the head is brought to its optimum, fine-tuning has a fixed number of steps, and
nothing is stopped early. Both return class probabilities and are deterministic on the same machine and thread count.

    ready = power_normaliser(features)
    probabilities = head(ready(features), labels, classes, ready(queries))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from imblearn.over_sampling import SMOTE
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

from ..core.device import CPU
from ..core.seeds import derive
from ..vision.features import Features, Pixels, lite, normalise

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

PASSES = 2
"""Passes over the training rows whose drawing or mixing a head sees at once."""
HEAD_C = 4e-3
"""Inverse of the strength of the head's L2 penalty, as scikit-learn's C; chosen together with the power normalisation on
development images of ELPV and HAM10000 (docs/log.md)."""
ITERATIONS = 200
"""Of L-BFGS, at most."""

# customary values, never tuned
FINETUNE_RATE, FINETUNE_DECAY = 3e-4, 1e-2


def fit_head(
    features: Features,
    labels: Labels,
    classes: int,
    queries: Features,
    seed: int = 0,
    balance: Balance = "none",
    mix: bool = False,
    counts: NDArray[np.float64] | None = None,
) -> Probabilities:
    """A linear probe: softmax regression with an L2 penalty, brought to its optimum by L-BFGS on the CPU.

    Only drawing rows (balance `draws`) and mixing them (mix) make use of the seed; all else has one result.

    Args:
        features: [N, D] to train on; queries: [M, D] to judge; both as `power_normaliser` makes them.
        labels: [N] in 0..classes-1.
        mix: mixup, of features (Zhang et al., 2018).
        counts: how much each row counts in the loss [N]; default: alike.

    Returns:
        [M, classes].
    """
    rows = np.arange(len(labels))
    if mix or balance == "draws":
        rows = order(labels, PASSES, len(labels), seed, drawn_by(labels, balance, counts)).ravel()
    inputs, targets = torch.from_numpy(features)[rows], torch.from_numpy(labels)[rows]
    weights = row_weights(labels, balance, counts)[rows] * (len(labels) / len(rows))
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


def smote(features: Features, labels: Labels, seed: int) -> tuple[Features, Labels, NDArray[np.float64]]:
    """Every class filled up to the largest by features between neighbours of one class (Chawla et al., 2002).

    A class of a single row has none and stays as it is.

    Args:
        features: [N, D], as `head` sees them; labels: [N].

    Returns:
        The rows given, then the new ones; their labels; how much each row counts: all together as the rows given, so that
        the head's penalty is as strong as without them.
    """
    sizes = np.bincount(labels)
    found, codes = [features], [labels]
    for code in np.flatnonzero((sizes > 1) & (sizes < sizes.max())):
        fill = SMOTE(
            sampling_strategy={int(code): int(sizes.max())},
            k_neighbors=min(NEIGHBOURS, int(sizes[code]) - 1),
            random_state=derive(seed, int(code)) % 2**32,
        )
        made = fill.fit_resample(features, labels)[0][len(labels) :]
        found.append(made.astype(np.float32))
        codes.append(np.full(len(made), code, np.int64))
    filled = np.concatenate(found)
    return filled, np.concatenate(codes), np.full(len(filled), len(features) / len(filled))


def fit_backbone(
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
        for step, rows in enumerate(order(labels, steps, batch, seed, drawn_by(labels, balance, counts))):
            views = torch.stack([jitter(pixels[row], derive(seed, step, slot), strong) for slot, row in enumerate(rows)])
            images, wanted, shares = normalise(views.to(device)), targets[rows], weights[rows]
            if draw:
                images, wanted, shares = mixup(images, wanted, shares, draw)
            optimiser.zero_grad()
            loss(model(images), wanted, balance, shares).backward()
            optimiser.step()
            schedule.step()
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
