"""Fine-tuning of the autoencoder's decoder on real images: the same latents, pictures with the data set's own grain.

The encoder is left alone, so cached latents, the denoiser and image to image go on as before.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..config import Finetune
from ..core.seeds import derive
from ..pretrain.autoencoder import Perceptual
from ..vision.backbone import lite
from .train import Cached, Objective, draw

LIKENESS = 0.5
"""Weight of the perceptual distance beside the mean absolute error of grey levels from 0 to 1."""


class Decoder(nn.Sequential):
    """The decoding half of an autoencoder: latents in its own scale -> images about -1 to 1."""

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        # fp16 overflows in the widest activations of SDXL's decoder (its `force_upcast`); bf16 has float32's range
        half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
        with torch.autocast(kind, enabled=False) if half else nullcontext():
            return super().forward(input)  # type: ignore[no-any-return]


def trainable(vae: AutoencoderKL) -> Decoder:
    """The decoding half, sharing its weights, all of which are to be trained; the rest is frozen."""
    vae.requires_grad_(False)
    parts = [part for part in (vae.post_quant_conv, vae.decoder) if part is not None]
    return Decoder(*parts).requires_grad_(True)


def reconstruction(cached: Cached, scale: float, settings: Finetune, accelerator: Accelerator) -> Objective:
    """The decoder's objective on crops of half the side: mean absolute error and a distance of ImageNet features.

    Args:
        cached: with the images themselves as `conditions`.
        scale: the autoencoder's scaling factor.
    """
    teacher = Perceptual(lite(2), blocks=5).to(accelerator.device)

    def cropped(name: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        latents, _, images = draw(cached, settings, derive(*name, "draw"), accelerator.device)
        assert images is not None
        return crop(latents, images, derive(*name, "crop"))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        latents, images = batch
        with accelerator.autocast():
            found = model(latents / scale) / 2 + 0.5
            likeness = teacher(found, images)
        return (found.float() - images).abs().mean() + LIKENESS * likeness

    return Objective(cropped, loss)


def crop(latents: Tensor, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The same random crop of half the side, on the latents' grid, of latents [N, C, h, h] and their images [N, 3, H, H]."""
    side = latents.shape[-1]
    factor, half = images.shape[-1] // side, -(-side // 2)
    y, x = np.random.default_rng(seed).integers(side - half + 1, size=2)
    window = (slice(y, y + half), slice(x, x + half))
    pixels = (slice(factor * y, factor * (y + half)), slice(factor * x, factor * (x + half)))
    return latents[:, :, *window], images[:, :, *pixels]


def load(pipeline: Any, folder: Path) -> None:
    """Give a freshly loaded pipeline the autoencoder saved in `folder`, frozen."""
    vae = AutoencoderKL.from_pretrained(folder).to(pipeline.vae.device, memory_format=torch.channels_last)
    pipeline.vae = vae.requires_grad_(False).eval()
