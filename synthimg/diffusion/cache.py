"""Latents and text embeddings, computed once and kept by content: another image or weight is another file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm.auto import tqdm

from ..core import files
from .base import Prompts, device_of, encode_images, encode_prompts, fingerprint, modules
from .limit import rule, tokenizers


def moments(pipeline: Any, pixels: np.ndarray, flip: bool, folder: Path) -> Tensor:
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
        # in float32 the widest activation of an image of 512 px takes 134 MB: the batch shrinks as images grow
        batch_size = max(1, 16 * 128**2 // pixels[0, ..., 0].size)
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
        files.write_array(path, scaled.numpy())
    return torch.from_numpy(np.load(path))


def prompts(pipeline: Any, texts: list[str], folder: Path) -> Prompts:
    """Encoded texts, one row each, as `base.encode_prompts` gives them."""
    encoders = [part for part in modules(pipeline) if part not in (pipeline.unet, pipeline.vae)]
    words = [rule(part) for part in tokenizers(pipeline)]
    path = folder / f"prompts-{fingerprint(*encoders, *words, json.dumps(texts))}.safetensors"
    if not path.exists():
        found = encode_prompts(pipeline, texts)
        tensors = {name: value.cpu().contiguous() for name, value in found._asdict().items() if value is not None}
        files.write_bytes(path, save(tensors))
    loaded = load_file(path, device=str(device_of(pipeline)))
    return Prompts(loaded["hidden"], loaded.get("pooled"))
