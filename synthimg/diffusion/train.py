"""The training loop of adapters, ControlNets and decoders: a generator, so that logging, validation and progress stay
with the caller.

Every random number derives from (seed, step, process), never from a stream: a resumed run is bit for bit an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import Finetune
from ..core.seeds import derive
from . import checkpoints
from .base import Prompts

Predict = Callable[[nn.Module, Tensor, Tensor, Prompts, Tensor | None], Tensor]
"""(model, noisy latents [N, C, h, w], timesteps [N], prompts, condition maps [N, 3, H, W] or None) -> prediction."""


class Objective(NamedTuple):
    """What is trained for, in two parts, so that the next batch can be drawn while the device works on this one.

    Attributes:
        draw: (name of the pass, from which its random numbers derive) -> batch on the device.
        loss: (model, batch) -> scalar loss, with gradients.
    """

    draw: Callable[[tuple[Any, ...]], Any]
    loss: Callable[[nn.Module, Any], Tensor]


class Noisy(NamedTuple):
    """A batch for the denoiser: what it sees, and what it should predict.

    Attributes:
        latents, target: [N, C, h, w]; levels: timesteps [N]; conditions: [N, 3, H, W] in [0, 1], or None.
    """

    latents: Tensor
    levels: Tensor
    target: Tensor
    prompts: Prompts
    conditions: Tensor | None


class Cached(NamedTuple):
    """A data set as the loop needs it.

    Attributes:
        moments: latent means and standard deviations, [N, flips, 2 C, h, w], scaled for the UNet.
        prompts: the unique encoded captions; row 0 is the empty one.
        prompt_of: row of `prompts` for each image [N].
        weight: chance of each image to be drawn, sums to 1 [N].
        conditions: uint8 pictures [M, H, W, 3] (a memory map will do), or None: condition maps for a ControlNet, for the
            decoder the images themselves.
        condition_of: row of `conditions` for each image [N].
    """

    moments: Tensor
    prompts: Prompts
    prompt_of: Tensor
    weight: np.ndarray
    conditions: np.ndarray | None = None
    condition_of: np.ndarray | None = None


class Step(NamedTuple):
    """One finished optimiser step, counted from 1; `ema` holds the moving average, if any."""

    number: int
    loss: float
    learning_rate: float
    ema: EMAModel | None


def training_loop(
    model: nn.Module, objective: Objective, settings: Finetune, steps: int, learning_rate: float, folder: Path, seed: int,
    accelerator: Accelerator,
) -> Iterator[Step]:  # fmt: skip
    """Train the parameters of `model` that require gradients, in place, resuming from the newest checkpoint in `folder`.

    A step is yielded before it is checkpointed, so whatever the caller writes down for it is there when a resumed run
    starts behind it. When the iterator ends the model holds the averaged weights.

    Raises:
        FloatingPointError: the loss is not finite.
        RuntimeError: the weights did not move.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    # On a GPU one kernel for all tensors: a LoRA has hundreds of small ones, and launching them one by one takes longer
    # than the work. The CPU keeps the plain path, whose results are bit for bit those of earlier runs.
    together = accelerator.device.type == "cuda"
    optimizer = torch.optim.AdamW(trained.values(), lr=learning_rate, weight_decay=settings.weight_decay, fused=together)
    ema = EMAModel(trained.values(), decay=settings.ema, foreach=together) if settings.ema else None
    start = checkpoints.restore(folder, trained, optimizer, ema)
    model, wrapped = accelerator.prepare(model, optimizer)
    model.train()
    passes = _passes(range(start + 1, steps + 1), settings.accumulate, (seed, "train"), accelerator.process_index)
    batches = (objective.draw(name) for name in passes)
    following = next(batches, None)
    for number in range(start + 1, steps + 1):
        rate = learning_rate * learning_rate_factor(number, steps, settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = []
        for _ in range(settings.accumulate):
            with accelerator.accumulate(model):
                loss = objective.loss(model, following)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trained.values(), settings.max_grad_norm)
                wrapped.step()
                wrapped.zero_grad()
            losses.append(loss.detach())
            following = next(batches, None)  # before the loss is read, which waits for the device
        if ema:
            ema.step(trained.values())
        mean = float(accelerator.gather(torch.stack(losses)).mean())
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss of step {number} is {mean}")
        yield Step(number, mean, rate, ema)
        if (number % settings.checkpoint_every == 0 or number == steps) and accelerator.is_main_process:
            checkpoints.save(folder, number, trained, optimizer, ema, settings.checkpoint_limit)
    accelerator.wait_for_everyone()
    if ema:
        ema.copy_to(trained.values())
    if all(torch.equal(before[name], parameter) for name, parameter in trained.items()):
        raise RuntimeError("training ended, but no weight has moved")


def _passes(steps: range, accumulate: int, prefix: tuple[Any, ...], process: int) -> Iterator[tuple[Any, ...]]:
    """The name of every forward pass of this process, in order."""
    return ((*prefix, number, part, process) for number in steps for part in range(accumulate))


def denoising(
    predict: Predict, schedule: DDPMScheduler, cached: Cached, settings: Finetune, accelerator: Accelerator
) -> Objective:
    """The objective of adapters and ControlNets."""

    def noised(name: tuple[Any, ...]) -> Noisy:
        latents, prompts, conditions = draw(cached, settings, derive(*name, "draw"), accelerator.device)
        noisy, levels, target = add_noise(latents, schedule, settings.noise_offset, derive(*name, "noise"))
        return Noisy(noisy, levels, target, prompts, conditions)

    def loss(model: nn.Module, batch: Noisy) -> Tensor:
        with accelerator.autocast():
            prediction = predict(model, batch.latents, batch.levels, batch.prompts, batch.conditions)
        return denoising_loss(prediction, batch.target, batch.levels, schedule, settings.min_snr_gamma)

    return Objective(noised, loss)


def learning_rate_factor(number: int, steps: int, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine from 1 to 0.1; `number` counts from 1."""
    if number <= warmup:
        return number / (warmup + 1)
    progress = (number - warmup) / max(1, steps - warmup)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2


def draw(cached: Cached, settings: Finetune, seed: int, device: torch.device) -> tuple[Tensor, Prompts, Tensor | None]:
    """Draw a batch with replacement: sampled latents [n, C, h, w], prompts, `conditions` [n, 3, H, W] in [0, 1]."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(cached.weight), settings.batch_size, p=cached.weight)
    flips = random.integers(cached.moments.shape[1], size=settings.batch_size)
    empty = random.random(settings.batch_size) < settings.caption_dropout
    mean, std = cached.moments[rows, flips].float().chunk(2, 1)
    generator = torch.Generator().manual_seed(derive(seed, "latent"))
    latents = mean + std * torch.randn(mean.shape, generator=generator)
    prompt = torch.where(torch.from_numpy(empty), 0, cached.prompt_of[rows])
    prompts = cached.prompts.rows(prompt.to(cached.prompts.hidden.device))
    conditions = None
    if cached.conditions is not None:
        assert cached.condition_of is not None
        maps = cached.conditions[cached.condition_of[rows]]
        maps = np.where(flips[:, None, None, None] == 1, maps[:, :, ::-1], maps)  # as the cached latents of view 1
        conditions = torch.from_numpy(maps).permute(0, 3, 1, 2).to(device).float().div(255)
    return latents.to(device), prompts, conditions


def add_noise(
    latents: Tensor, schedule: DDPMScheduler, offset: float, seed: int, levels: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, their timesteps [N] (drawn uniformly unless given), and what the model should predict."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(latents.shape, generator=generator)
    if offset:
        noise = noise + offset * torch.randn(*latents.shape[:2], 1, 1, generator=generator)
    if levels is None:
        levels = torch.randint(schedule.config["num_train_timesteps"], (len(latents),), generator=generator)
    noise, levels = noise.to(latents.device), levels.to(latents.device)
    noisy = schedule.add_noise(latents, noise, levels)
    kind = schedule.config["prediction_type"]
    target = {"epsilon": noise, "sample": latents}.get(kind)
    return noisy, levels, schedule.get_velocity(latents, noise, levels) if target is None else target


def denoising_loss(
    prediction: Tensor, target: Tensor, timesteps: Tensor, schedule: DDPMScheduler, min_snr_gamma: float | None
) -> Tensor:
    """Mean squared error, optionally weighted by Min-SNR (Hang et al., 2023, eq. 8 and its v-prediction form)."""
    loss = F.mse_loss(prediction.float(), target.float(), reduction="none").mean((1, 2, 3))
    if min_snr_gamma:
        snr = compute_snr(schedule, timesteps)
        kind = schedule.config["prediction_type"]
        divisor = {"epsilon": snr, "v_prediction": snr + 1}.get(kind, torch.ones_like(snr))
        loss = loss * snr.clamp(max=min_snr_gamma) / divisor.clamp(min=1e-8)
    return loss.mean()


def predict_unet(extra: Callable[[Tensor | None, int], dict[str, Tensor] | None]) -> Predict:
    """Prediction by the UNet alone. `extra` makes SDXL's additional conditions (see base.extra_conditions)."""

    def predict(model: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, _: Tensor | None) -> Tensor:
        return model(x, t, prompts.hidden, added_cond_kwargs=extra(prompts.pooled, len(x)), return_dict=False)[0]

    return predict


def predict_controlnet(unet: Any, extra: Callable[[Tensor | None, int], dict[str, Tensor] | None]) -> Predict:
    """Prediction by a frozen UNet under the guidance of the ControlNet being trained."""

    def predict(model: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, conditions: Tensor | None) -> Tensor:
        added = extra(prompts.pooled, len(x))
        down, middle = model(
            x, t, prompts.hidden, controlnet_cond=conditions, added_cond_kwargs=added, return_dict=False
        )  # fmt: skip
        return unet(
            x, t, prompts.hidden, added_cond_kwargs=added, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip

    return predict
