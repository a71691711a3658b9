"""Defects of procedural scenes on real photographs of other classes: no model, and knowledge that no image brought."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .. import scenes
from ..config import Defects

VISIBLE = 16
"""Grey levels by which a defect must change some pixel: what cannot be seen on its ground would be a wrong label."""
TRIES = 100


def damaged(ground: NDArray[np.uint8], defects: Defects, seed: int) -> NDArray[np.uint8] | None:
    """A photograph [R, R, 3] with the defects of a random scene: its colours times the scene's factors.

    Args:
        defects: `panel`: cracks and dead areas; `surface`: scratches, spots or a stain.

    Returns:
        None where none of TRIES scenes shows on it, as on a black ground.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(TRIES):  # some scenes are intact
        factor, _ = scenes.defects(scenes.sample(1, generator, (defects,)), len(ground))
        picture = np.clip(np.round(ground * factor[0, 0, :, :, None].numpy()), 0, 255).astype(np.uint8)
        if np.abs(picture.astype(int) - ground).max() >= VISIBLE:
            return picture
    return None
