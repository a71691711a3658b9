"""Drawing images with diffusers' own pipelines: one function, per-image seeds, any base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.seeds import derive
from .base import Prompts, decode_latents, device_of, mean_latents, reconstruct

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def use_precision(module: nn.Module, precision: str) -> None:
    """Convert a frozen network; its inputs are cast on the way in, its outputs come back as float32."""
    dtype = DTYPES[precision]
    module.to(dtype)
    module.register_forward_pre_hook(lambda _, args, kwargs: _cast((args, kwargs), dtype), with_kwargs=True)
    module.register_forward_hook(lambda _, args, output: _cast(output, torch.float32))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(_cast(item, dtype) for item in value)
    if type(value) is dict:
        return {key: _cast(item, dtype) for key, item in value.items()}
    return value


class Solver(NamedTuple):
    """How noise becomes pictures: solver steps, strength of guidance (1: none), side of the pictures in pixels."""

    steps: int
    guidance: float
    resolution: int


class Start(NamedTuple):
    """Images to start from (Meng et al., "SDEdit", ICLR 2022).

    Attributes:
        images: uint8 [N, H, W, 3].
        strength: how much is made new, in (0, 1].
        region: bool [N, H, W], where it is made new. Elsewhere the latents are the start image's, noised as far as the
            rest, after every step (Lugmayr et al., "RePaint", CVPR 2022, algorithm 1 without resampling).
    """

    images: np.ndarray
    strength: float
    region: np.ndarray | None = None


class Edit(NamedTuple):
    """Images to change as the prompts say (Brooks et al., "InstructPix2Pix", CVPR 2023).

    Attributes:
        images: uint8 [N, H, W, 3].
        image_guidance: how much the pictures are held to these images, 1 or more. Without text guidance it has no effect.
        region: bool [N, H, W], where they may change; see `Start`.
    """

    images: np.ndarray
    image_guidance: float
    region: np.ndarray | None = None


class Control(NamedTuple):
    """Condition maps, uint8 [N, H, W, 3], and the ControlNet that reads them."""

    maps: np.ndarray
    network: ControlNetModel


def sample_images(
    pipeline: Any, prompts: Prompts, negative: Prompts, seeds: Sequence[int], solver: Solver,
    start: Start | Edit | None = None, control: Control | None = None,
) -> np.ndarray:  # fmt: skip
    """Draw one image per seed.

    Args:
        prompts, negative: encoded, one row per image.
        start, control: at most one of them. To edit, the pipeline's UNet must be one that sees start images.

    Returns:
        uint8 [N, resolution, resolution, 3], or of the size of the images that are edited. An image depends on its own
        row alone, up to the rounding of the hardware's batched kernels.
    """
    device = device_of(pipeline)
    if control:
        pipe, own = _controlled(pipeline, control, solver)
    elif isinstance(start, Edit):
        pipe, own = _edited(pipeline, start, seeds)
    elif start:
        pipe, own = _from_images(pipeline, start, solver, seeds)
    else:
        pipe, own = pipeline, {"height": solver.resolution, "width": solver.resolution}
    if prompts.pooled is not None and negative.pooled is not None:
        own |= {
            "pooled_prompt_embeds": prompts.pooled.to(device),
            "negative_pooled_prompt_embeds": negative.pooled.to(device),
        }
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        latents = pipe(
            prompt_embeds=prompts.hidden.to(device),
            negative_prompt_embeds=negative.hidden.to(device),
            # CPU generators: the same picture whatever the device
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=solver.steps,
            guidance_scale=solver.guidance,
            output_type="latent",
            **own,
        ).images
        return decode_latents(pipeline, latents)


def _from_images(pipeline: Any, start: Start, solver: Solver, seeds: Sequence[int]) -> tuple[Any, dict[str, Any]]:
    own: dict[str, Any] = {
        "image": [Image.fromarray(image) for image in start.images],
        # a strength below one step would leave the loop empty
        "strength": max(start.strength, 1 / solver.steps),
    }
    if start.region is not None:
        own["callback_on_step_end"] = _outside(pipeline, start.images, start.region, seeds)
    return AutoPipelineForImage2Image.from_pipe(pipeline), own


def _edited(pipeline: Any, edit: Edit, seeds: Sequence[int]) -> tuple[Any, dict[str, Any]]:
    own: dict[str, Any] = {
        "image": [Image.fromarray(image) for image in edit.images],
        "image_guidance_scale": edit.image_guidance,
    }
    if edit.region is not None:
        own["callback_on_step_end"] = _outside(pipeline, edit.images, edit.region, seeds)
    return StableDiffusionInstructPix2PixPipeline(**pipeline.components, requires_safety_checker=False), own


def _controlled(pipeline: Any, control: Control, solver: Solver) -> tuple[Any, dict[str, Any]]:
    xl = isinstance(pipeline, StableDiffusionXLPipeline)
    family = StableDiffusionXLControlNetPipeline if xl else StableDiffusionControlNetPipeline
    extra = {} if xl else {"requires_safety_checker": False}
    own: dict[str, Any] = {
        "image": [Image.fromarray(image) for image in control.maps],
        "height": solver.resolution,
        "width": solver.resolution,
    }
    return family(**pipeline.components, controlnet=control.network, **extra), own


def _outside(pipeline: Any, start: np.ndarray, region: np.ndarray, seeds: Sequence[int]) -> Any:
    """A callback for diffusers that puts the start image back outside the region after every step."""
    known = mean_latents(pipeline, start)
    noises = [
        torch.randn(known.shape[1:], generator=torch.Generator().manual_seed(derive(seed, "outside"))) for seed in seeds
    ]
    noise = torch.stack(noises).to(known.device)
    inside = F.adaptive_max_pool2d(torch.from_numpy(region)[:, None].float(), known.shape[-2:]).bool().to(known.device)

    def put_back(pipe: Any, number: int, _: Any, state: dict[str, Any]) -> dict[str, Any]:
        # counted from the end: image to image leaves out the first steps
        following = pipe.scheduler.timesteps[len(pipe.scheduler.timesteps) - pipe.num_timesteps + number + 1 :][:1]
        outside = pipe.scheduler.add_noise(known, noise, following.expand(len(known))) if len(following) else known
        return {"latents": torch.where(inside, state["latents"], outside.to(state["latents"].dtype))}

    return put_back


def keep_outside(images: np.ndarray, start: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The start image's own pixels outside the region, with a soft seam inside it.

    Args:
        images, start: uint8 [N, H, W, 3].
        region: bool [N, H, W].
    """
    seam = images.shape[1] / 24
    # the distance to what is kept; where nothing is, there is no seam
    depth = [ndimage.distance_transform_edt(part) if not part.all() else np.full(part.shape, np.inf) for part in region]
    inside = np.clip(np.stack(depth) / seam, 0, 1)[..., None]
    return np.round(inside * images + (1 - inside) * start).astype(np.uint8)


def add_detail(pipeline: Any, images: np.ndarray, start: np.ndarray, share: float) -> np.ndarray:
    """Add back what the autoencoder lost of the start images, which no latent can carry: grain, the thinnest lines.

    Args:
        images: drawn by image to image from `start`, both uint8 [N, H, W, 3].
        share: 0 for nothing, 1 for all of it.
    """
    lost = start.astype(np.float32) - reconstruct(pipeline, start)
    return np.clip(np.round(images + share * lost), 0, 255).astype(np.uint8)
