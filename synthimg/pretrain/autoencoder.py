"""Training of the embedded model's autoencoder: L1, a perceptual distance on ImageNet features, a little KL."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..core.seeds import derive
from ..diffusion import checkpoints


def build(channels: tuple[int, ...], latent_channels: int, resolution: int) -> AutoencoderKL:
    """An untrained AutoencoderKL, 8x down; without mid-block attention, so that it may train on crops."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=resolution,
        mid_block_add_attention=False,
    )


def train(
    vae: AutoencoderKL, pixels: np.ndarray, perceptual: nn.Module, folder: Path, steps: int, batch_size: int,
    learning_rate: float, seed: int, device: torch.device, checkpoint_every: int = 500,
) -> AutoencoderKL:  # fmt: skip
    """Train in place; resumes from `folder`.

    The first three quarters of the steps see quarter-area crops at the full batch size, the rest whole images at a
    quarter of it: the same number of pixels a step, more variety early.

    Args:
        pixels: uint8 [N, R, R, 3].
        perceptual: images in [0, 1] -> list of feature maps (see `Perceptual`).
    """
    vae.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.99))
    weights = dict(vae.named_parameters())
    start = checkpoints.restore(folder, weights, optimizer, None)
    folder.mkdir(parents=True, exist_ok=True)
    for step in tqdm(range(start, steps), initial=start, total=steps, desc="autoencoder", unit="step"):
        draw = np.random.default_rng(derive(seed, "autoencoder", step))
        whole = step >= 0.75 * steps
        images = _crops(pixels, draw, batch_size // 4 if whole else batch_size, 1 if whole else 2)
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        x = x.contiguous(memory_format=torch.channels_last)
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / 100) * (0.03 + 0.97 * (1 + math.cos(math.pi * progress)) / 2)
        with torch.autocast(device.type, torch.bfloat16):
            moments = vae.encode(x).latent_dist
            noise = torch.randn(moments.mean.shape, generator=torch.Generator().manual_seed(derive(seed, "vae", step)))
            y = vae.decode(moments.mean + moments.std * noise.to(device)).sample
            likeness = perceptual(y / 2 + 0.5, x / 2 + 0.5)
        error = (y.float() - x).abs().mean()
        kl = moments.kl().mean() / x[0].numel()
        loss = error + 0.1 * likeness + 1e-4 * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            psnr = -10 * math.log10(float(F.mse_loss(y.detach().float().clamp(-1, 1), x)) / 4)
            with (folder / "loss.csv").open("a") as log:
                log.write(f"{step + 1},{float(error):.5f},{float(likeness):.5f},{float(kl):.5f},{psnr:.2f}\n")
        if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
            checkpoints.save(folder, step + 1, weights, optimizer, None, limit=2)
    return vae.eval()


class Perceptual(nn.Module):
    """Distance of unit-normalised ImageNet feature maps (after LPIPS, Zhang et al. 2018, without its learned weights).

    Args:
        backbone: an EfficientNet of timm.
        blocks: how many of its blocks are compared, from the first.
    """

    def __init__(self, backbone: nn.Module, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(backbone.conv_stem, backbone.bn1)  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(list(backbone.blocks)[:blocks])  # type: ignore[arg-type]
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b: [N, 3, H, W] in [0, 1]."""
        distance = a.new_zeros(())
        x = torch.cat([a, b]) * (255 / 128) - 127 / 128
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
            first, second = F.normalize(x.float(), dim=1).chunk(2)
            distance = distance + (first - second).square().sum(1).mean()
        return distance


def _crops(pixels: np.ndarray, draw: np.random.Generator, count: int, shrink: int) -> np.ndarray:
    """Random crops of side R / shrink, mirrored half the time: uint8 [count, side, side, 3]."""
    resolution = pixels.shape[1]
    side = resolution // shrink
    rows = draw.integers(len(pixels), size=count)
    corners = draw.integers(0, resolution - side + 1, size=(count, 2))
    mirrored = draw.random(count) < 0.5
    crops = [pixels[r, y : y + side, x : x + side] for r, (y, x) in zip(rows, corners, strict=True)]
    return np.stack([crop[:, ::-1] if flip else crop for crop, flip in zip(crops, mirrored, strict=True)])


@torch.no_grad()
def standardise(vae: AutoencoderKL, moments: Tensor) -> None:
    """Fold a per-channel shift and scale into the 1x1 convolutions around the latent, so that each channel of it has
    zero mean and unit variance: one scalar `scaling_factor`, all that Stable Diffusion's format knows, then fits all.

    Args:
        moments: latent means and standard deviations of sample images, [N, 2 C, h, w].
    """
    means, stds = moments.chunk(2, 1)
    mean = means.mean((0, 2, 3)).to(vae.device)
    scale = (means.var((0, 2, 3)) + stds.square().mean((0, 2, 3))).sqrt().to(vae.device)
    channels = len(mean)
    before, after = vae.quant_conv, vae.post_quant_conv
    assert before.bias is not None and after.bias is not None
    before.weight[:channels] /= scale[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) / scale
    before.bias[channels:] -= 2 * scale.log()
    after.bias += (after.weight[:, :, 0, 0] * mean).sum(1)
    after.weight *= scale[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
