"""Defects of procedural scenes on real photographs of what has none: no model, and knowledge that no image brought."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .. import scenes
from ..config import Defects


def damaged(ground: NDArray[np.uint8], defects: Defects, seed: int) -> NDArray[np.uint8]:
    """A photograph [R, R, 3] with the defects of a random scene: its colours times the scene's factors.

    Args:
        defects: `panel`: cracks and dead areas; `surface`: scratches, spots or a stain.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        factor, mask = scenes.defects(scenes.sample(1, generator, (defects,)), len(ground))
        if mask.any():  # some scenes are intact
            picture = ground * factor[0, 0, :, :, None].numpy()
            return np.clip(np.round(picture), 0, 255).astype(np.uint8)
