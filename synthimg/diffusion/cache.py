"""Latents and text embeddings, computed once and kept by content: another image or weight is another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import stage
from .base import encode_images, fingerprint


def moments(pipeline: Any, pixels: np.ndarray, flip: bool, folder: Path, batch_size: int = 16) -> Tensor:
    """Scaled latent means and standard deviations of images and, where asked, of their mirror images.

    Args:
        pixels: uint8 [N, H, W, 3].
        folder: where the cache lies; a file of it is whole or absent, and never stale.

    Returns:
        float32 [N, 1 or 2, 2 C, h, w].
    """
    key = fingerprint(pipeline.vae, np.ascontiguousarray(pixels).tobytes(), f"flip={flip}")
    path = folder / f"latents-{key}.npy"
    if not path.exists():
        views = [pixels, pixels[:, :, ::-1]] if flip else [pixels]
        found = []
        with tqdm(total=len(pixels) * len(views), desc="latents", unit="image") as bar:
            for view in views:
                parts = []
                for start in range(0, len(view), batch_size):
                    parts.append(encode_images(pipeline, view[start : start + batch_size]))
                    bar.update(len(parts[-1]))
                found.append(torch.cat(parts))
        scaled = torch.stack(found, 1) * pipeline.vae.config.scaling_factor
        stage.write_array(path, scaled.numpy())
    return torch.from_numpy(np.load(path))
