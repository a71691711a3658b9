"""Editing by instructions (Brooks et al., "InstructPix2Pix", CVPR 2023): a denoiser that also sees the start image.

Its first convolution takes twice as many channels: the noisy latents, and the mode of the start image's latents, unscaled.
The new channels start at zero, so at first the model draws as it did. The files are those that diffusers reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..config import Finetune
from ..core.seeds import derive
from ..data.pairs import Pairs
from ..errors import UserError
from . import adapters, base, cache
from .base import Prompts
from .speed import lay_out
from .train import Noisy, Objective, add_noise, denoising_loss

FOLDER = "edit"
"""Where the editing model lies in a fine-tuned model's folder, and in a base's that can edit."""
FIRST = "conv_in.safetensors"
"""The first convolution, which lies beside a LoRA."""
DROPOUT = 0.05
"""Share of the pairs without instruction, without start image, and without both, each."""


LAYERS = [*adapters.TARGETS, "conv1", "conv2"]
"""What a LoRA adapts: beside the attention the residual blocks, too. Fine detail of the start image passes by them alone."""


class Lessons(NamedTuple):
    """Pairs as the loop needs them.

    Attributes:
        starts: the latents' mode of the pictures before, unscaled [N, flips, C, h, w].
        moments: latent means and standard deviations of those after, scaled for the UNet [N, flips, 2 C, h, w].
        prompts: the unique encoded instructions; row 0 is the empty one.
        prompt_of: row of `prompts` for each pair [N].
    """

    starts: Tensor
    moments: Tensor
    prompts: Prompts
    prompt_of: Tensor


def check(pipeline: Any, name: str) -> None:
    """Refuse a base of a family that cannot be taught to edit here.

    Raises:
        UserError: the base is SDXL.
    """
    if isinstance(pipeline, StableDiffusionXLPipeline):
        raise UserError(f"finetune.edits: base '{name}' is Stable Diffusion XL; editing needs Stable Diffusion 1.x or 2.x")


def widen(unet: Any) -> None:
    """Let a UNet see start latents beside the noisy ones; until it is trained they change nothing."""
    narrow = unet.conv_in
    wide = nn.Conv2d(2 * narrow.in_channels, narrow.out_channels, narrow.kernel_size, padding=narrow.padding)  # type: ignore[arg-type]
    wide.to(narrow.weight.device, narrow.weight.dtype)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : narrow.in_channels] = narrow.weight
        wide.bias.copy_(narrow.bias)  # type: ignore[union-attr]
    unet.conv_in = wide.requires_grad_(False)
    unet.register_to_config(in_channels=wide.in_channels)


def begin(pipeline: Any, name: str) -> None:
    """Make a pipeline's UNet one that edits: as the base `name` has learnt it, or untrained.

    Raises:
        UserError: the base is SDXL.
    """
    check(pipeline, name)
    own = own_editor(name)
    if own:
        load(pipeline, own)
    else:
        widen(pipeline.unet)
    lay_out(pipeline.unet, base.device_of(pipeline))


def adapt(pipeline: Any, name: str, model: Path) -> None:
    """Give a freshly loaded base the editing model of a fine-tuned one.

    Args:
        name: the base's.
        model: the folder of the fine-tuned model.
    """
    adapters.adapt(pipeline, name, model)
    begin(pipeline, name)
    load(pipeline, model / FOLDER)


def own_editor(name: str) -> Path | None:
    """The editing model that comes with a base on this machine, if there is one."""
    place = base.find(name)
    return place / FOLDER if place and (place / FOLDER).is_dir() else None


def attach(pipeline: Any, settings: Finetune) -> None:
    """Make a UNet that edits trainable: all of it, or a fresh LoRA and the first convolution."""
    adapters.attach(pipeline, settings, LAYERS)
    pipeline.unet.conv_in.requires_grad_(True)


def save(pipeline: Any, settings: Finetune, folder: Path) -> None:
    """Write a LoRA and `conv_in.safetensors`, or a diffusers `unet/` folder."""
    adapters.save(pipeline, settings, folder)
    if settings.method == "lora":
        state = {name: tensor.contiguous() for name, tensor in pipeline.unet.conv_in.state_dict().items()}
        save_file(state, folder / FIRST)


def load(pipeline: Any, folder: Path) -> None:
    """Put a saved editing model into a pipeline; its UNet may have been widened already."""
    first = folder / FIRST
    if first.exists():
        state = load_file(first)
        if pipeline.unet.conv_in.weight.shape != state["weight"].shape:
            widen(pipeline.unet)
        pipeline.unet.conv_in.load_state_dict(state)
    adapters.load(pipeline, folder)


def lessons(pipeline: Any, pairs: Pairs, flip: bool, folder: Path) -> Lessons:
    """Encode pairs once, through the cache.

    Args:
        flip: whether their mirror images are wanted, too.
        folder: where the cache lies.
    """
    starts, _ = cache.moments(pipeline, pairs.before, flip, folder).chunk(2, 2)
    every = ["", *sorted(set(pairs.texts))]
    index = {text: number for number, text in enumerate(every)}
    return Lessons(
        starts=starts / pipeline.vae.config.scaling_factor,
        moments=cache.moments(pipeline, pairs.after, flip, folder),
        prompts=cache.prompts(pipeline, every, folder),
        prompt_of=torch.tensor([index[text] for text in pairs.texts]),
    )


def editing(schedule: DDPMScheduler, pairs: Lessons, settings: Finetune, accelerator: Accelerator) -> Objective:
    """The objective: the noise on the picture after, given the one before and the instruction."""

    def noised(name: tuple[Any, ...]) -> Noisy:
        latents, starts, prompts = draw(pairs, settings.batch_size, derive(*name, "draw"), accelerator.device)
        noisy, levels, target = add_noise(latents, schedule, settings.noise_offset, derive(*name, "noise"))
        return Noisy(noisy, levels, target, prompts, starts)

    def loss(model: nn.Module, batch: Noisy) -> Tensor:
        assert batch.conditions is not None
        with accelerator.autocast():
            prediction = predict(model, batch.latents, batch.levels, batch.prompts, batch.conditions)
        return denoising_loss(prediction, batch.target, batch.levels, schedule, settings.min_snr_gamma)

    return Objective(noised, loss)


def predict(model: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, starts: Tensor) -> Tensor:
    """The prediction [N, C, h, w] for noisy latents beside start latents, [N, C, h, w] each."""
    return model(torch.cat([x, starts], 1), t, prompts.hidden, return_dict=False)[0]  # type: ignore[no-any-return]


def draw(pairs: Lessons, count: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor, Prompts]:
    """Draw a batch with replacement: sampled latents after and start latents [n, C, h, w], instructions.

    A dropped instruction is the empty text, a dropped start image is zero.
    """
    random = np.random.default_rng(seed)
    rows = random.integers(len(pairs.prompt_of), size=count)
    flips = random.integers(pairs.moments.shape[1], size=count)
    chance = torch.from_numpy(random.random(count))
    silent, blind = chance < 2 * DROPOUT, (chance >= DROPOUT) & (chance < 3 * DROPOUT)
    mean, std = pairs.moments[rows, flips].float().chunk(2, 1)
    latents = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(derive(seed, "latent")))
    starts = torch.where(blind[:, None, None, None], 0, pairs.starts[rows, flips].float())
    prompt = torch.where(silent, 0, pairs.prompt_of[rows])
    return latents.to(device), starts.to(device), pairs.prompts.rows(prompt.to(pairs.prompts.hidden.device))
