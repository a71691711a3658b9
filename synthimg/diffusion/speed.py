"""What makes the denoiser and the decoder run at a GPU's speed: weights in the precision of the arithmetic, memory laid out
for the matrix units, compiled kernels. Measured in docs/performance.md."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..config import Compile

COMPILE_PASSES = 20_000
"""Samples through the denoiser from which on compiling pays: it takes about a minute and halves the time of the rest."""

DECODE_BYTES = 9000
"""Of memory for a pixel while it is decoded in float32 by SD's autoencoder, as measured at 512 px."""


def lighten(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen weights of linear and convolution layers in `dtype`; autocast would cast them anew at every pass.

    Results stay the same: autocast rounds these very weights before it multiplies. Normalisations stay in float32, as
    autocast runs them.
    """
    for part in model.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)) and not any(weight.requires_grad for weight in part.parameters()):
            part.to(dtype)


def lay_out(model: nn.Module, device: torch.device) -> None:
    """Channels-last memory on a GPU, in which its convolutions run fastest."""
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)


def pays(compile_: Compile, device: torch.device, passes: int) -> bool:
    """Whether to compile a network through which `passes` samples will go."""
    return compile_ == "always" or (compile_ == "auto" and device.type == "cuda" and passes >= COMPILE_PASSES)


@torch.no_grad()
def decode_half(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Decode in bf16 but for the last layer: there its steps of half a grey level would show.

    Within one grey level of float32, 0.1 in the mean, for the embedded model (tests/test_speed.py).

    Args:
        latents: float32 [N, C, h, w] in the autoencoder's own scale.

    Returns:
        float32 [N, 3, H, W], about -1 to 1.
    """
    last = vae.decoder.conv_out
    vae.decoder.conv_out = nn.Identity()  # type: ignore[assignment]
    try:
        with torch.autocast(latents.device.type, torch.bfloat16):
            hidden = vae.decode(latents).sample
    finally:
        vae.decoder.conv_out = last
    return last(hidden.float())


def decode_batch(device: torch.device, pixels: int) -> int:
    """How many images are decoded at once: what fits into half of a GPU's free memory; one on other devices.

    Args:
        pixels: of one image.
    """
    if device.type != "cuda":
        return 1
    return max(1, min(16, int(torch.cuda.mem_get_info(device)[0] / 2 / (pixels * DECODE_BYTES))))
