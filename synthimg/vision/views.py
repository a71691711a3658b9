"""Other views of a picture: the symmetries of the square, flips and shifts, RandAugment. Each view has its own seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from .features import Pixels, chunks

Symmetry = tuple[int, int, bool]
SYMMETRIES = [(down, right, turn) for turn in (False, True) for down in (1, -1) for right in (1, -1)][1:]
"""The seven symmetries of the square other than the identity: (row step, column step, transpose). The first three are
mirror images, the last four have a quarter turn."""


def symmetric(pixels: Pixels, rows: NDArray[np.int64], which: Symmetry) -> Iterator[Pixels]:
    """The pictures `pixels[rows]` under a symmetry; a few at a time, uint8 [<= 512, R, R, 3]."""
    down, right, turn = which
    for part in chunks(pixels, rows):
        shown = part[:, ::down, ::right]
        yield shown.swapaxes(1, 2) if turn else shown


def jitter(image: Pixels, seed: int, strong: bool = False) -> Tensor:
    """One picture uint8 [R, R, 3], flipped by chance, shifted by up to an eighth (mirrored edges): uint8 [3, R, R].

    Args:
        strong: RandAugment first.
    """
    draw = np.random.default_rng(seed)
    side, reach = image.shape[0], image.shape[0] // 8
    view = randaugment(image, seed) if strong else image
    view = view[:, ::-1] if draw.random() < 0.5 else view
    top, left = draw.integers(0, 2 * reach + 1, size=2)
    padded = np.pad(view, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return torch.from_numpy(padded[top : top + side, left : left + side].copy()).permute(2, 0, 1)


def randaugment(image: Pixels, seed: int) -> Pixels:
    """One RandAugment view (Cubuk et al., 2020) of uint8 [R, R, 3]: two operations, magnitude 9, grey edges."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transform = v2.Compose([v2.RandomHorizontalFlip(), v2.RandAugment(fill=127)])
        view = transform(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
    return view.permute(1, 2, 0).contiguous().numpy()
