"""Base models: one loader for the embedded model, a diffusers folder, a single safetensors file and a hub id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from diffusers import DDPMScheduler, DiffusionPipeline, ModelMixin, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils.logging import disable_progress_bar
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..core import files
from ..errors import UserError
from . import kinds
from .speed import decode_batch, decode_half, lay_out

EMBEDDED = Path(__file__).parents[1] / "base_model"
READ = (".safetensors", ".json", ".txt")
"""What is read of a base."""


class Prompts(NamedTuple):
    """Encoded prompts.

    Attributes:
        hidden: [N, tokens, width].
        pooled: [N, width] for SDXL, else None.
    """

    hidden: Tensor
    pooled: Tensor | None

    def rows(self, index: Sequence[int] | Tensor) -> Prompts:
        return Prompts(self.hidden[index], None if self.pooled is None else self.pooled[index])


def load(base: str, device: torch.device) -> Any:
    """Load a Stable Diffusion 1.x / 2.x / XL pipeline in float32, frozen, without its safety checker.

    Args:
        base: `embedded`, a diffusers folder, a `.safetensors` checkpoint (a diffusers folder of the same name without
            the ending beside it serves as its configuration), or a hub id. Only safetensors are read, never pickles.

    Raises:
        UserError: the model is missing, unreadable or of another family.
    """
    disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    path = find(base)
    try:
        if path and path.is_file():
            pipeline = _single_file(path)
        elif path:
            pipeline = DiffusionPipeline.from_pretrained(
                path, use_safetensors=True, local_files_only=True, safety_checker=None
            )
        else:
            pipeline = DiffusionPipeline.from_pretrained(base, use_safetensors=True, safety_checker=None)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if path and path.is_file():
            reason += f"; its configuration is looked for in {path.with_suffix('')}, else on the hub"
        raise UserError(f"base '{base}': cannot be loaded: {reason}") from error
    if not isinstance(pipeline, kinds.FAMILIES):
        raise UserError(f"base '{base}': is a {type(pipeline).__name__}; {kinds.WANTED}")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.to(memory_format=torch.channels_last)  # its convolutions run a quarter faster so, in the same precision
    lay_out(pipeline.unet, device)
    for part in modules(pipeline):
        part.requires_grad_(False).eval().to(device, torch.float32)
        if isinstance(part, ModelMixin):  # else what is saved names a folder of this machine, and its digest with it
            part.register_to_config(_name_or_path="")
    return pipeline


def find(base: str) -> Path | None:
    """The file or folder of a base on this machine; None for a hub id.

    Raises:
        UserError: neither there nor a hub id, or no base: an adapter, a part of one, another format, family or variant.
    """
    path = EMBEDDED if base == "embedded" else files.expanded(base)
    if path.exists():
        fault = kinds.fault_of(path)
        if fault:
            raise UserError(f"base '{base}': {fault}")
        return path
    if base == "embedded" or base.count("/") != 1 or base.startswith((".", "/", "~")):
        raise UserError(f"base '{base}': no such file or folder (and not a hub id, which reads owner/name)")
    return None


def _single_file(path: Path) -> Any:
    with safe_open(path, "pt") as file:
        xl = any(name.startswith("conditioner.") for name in file.keys())  # noqa: SIM118
    family = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    beside = path.with_suffix("")
    config = {"config": str(beside), "local_files_only": True} if beside.is_dir() else {}
    extra = {} if xl else {"safety_checker": None}
    return family.from_single_file(str(path), **config, **extra)


def modules(pipeline: Any) -> list[nn.Module]:
    """The pipeline's networks."""
    return [part for part in pipeline.components.values() if isinstance(part, nn.Module)]


def fingerprint(*parts: nn.Module | bytes | str) -> str:
    """32 hex digits that change with any weight or byte: the key of caches."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            for name, tensor in sorted(part.state_dict().items()):
                sha.update(name.encode())
                # flat first: the order of bytes must not depend on how the weights lie in memory
                sha.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        else:
            sha.update(part.encode() if isinstance(part, str) else part)
    return sha.hexdigest()[:32]


def digest(name: str) -> str:
    """SHA-256 over the files of a base on this machine, those of a checkpoint's configuration too; of a hub id, its name.

    A model trained anew under the same name is another base, and what was made with the old one is not taken for its work.
    """
    place = find(name)
    if place is None:
        return name
    found = hashlib.sha256()
    roots = [place.with_suffix(""), place] if place.is_file() else [place]
    # unlike `**`, these follow a link to a folder: a part of a base may lie elsewhere
    below = [path for root in roots for pattern in ("*", "*/*") for path in root.glob(pattern)]
    for path in sorted(path for path in [*roots, *below] if path.suffix in READ and path.is_file()):
        found.update(f"{path.relative_to(place.parent)} {files.digest(path)}\n".encode())
    return found.hexdigest()


@torch.no_grad()
def encode_prompts(pipeline: Any, prompts: Sequence[str], batch_size: int = 32) -> Prompts:
    """Encode each prompt once, with the pipeline's own text encoder(s)."""
    hidden, pooled = [], []
    for start in range(0, len(prompts), batch_size):
        found = pipeline.encode_prompt(
            list(prompts[start : start + batch_size]), device=device_of(pipeline), num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )  # fmt: skip
        hidden.append(found[0])
        if isinstance(pipeline, StableDiffusionXLPipeline):
            pooled.append(found[2])
    return Prompts(torch.cat(hidden), torch.cat(pooled) if pooled else None)


@torch.no_grad()
def encode_images(pipeline: Any, pixels: np.ndarray) -> Tensor:
    """Latent moments of images, in float32.

    Args:
        pixels: uint8 [N, H, W, 3].

    Returns:
        [N, 2 C, h, w] on the CPU: means, then standard deviations, in the VAE's own scale.
    """
    x = torch.from_numpy(np.ascontiguousarray(pixels)).to(device_of(pipeline)).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = pipeline.vae.encode(x).latent_dist
    return torch.cat([found.mean, found.std], 1).cpu()


@torch.no_grad()
def decode_latents(pipeline: Any, latents: Tensor) -> np.ndarray:
    """Decode scaled latents to uint8 [N, H, W, 3]: in float32, or in bf16 on a GPU whose denoiser runs in it."""
    scaled = latents.float() / pipeline.vae.config.scaling_factor
    device = scaled.device
    half = device.type == "cuda" and pipeline.unet.dtype == torch.bfloat16
    decode = decode_half if half else _decode
    # few at a time: decoding is where large images run out of memory
    images = torch.cat(
        [decode(pipeline.vae, part) for part in scaled.split(decode_batch(device, 64 * latents[0, 0].numel()))]
    )
    return ((images / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _decode(vae: Any, latents: Tensor) -> Tensor:
    return vae.decode(latents).sample  # type: ignore[no-any-return]


def mean_latents(pipeline: Any, pixels: np.ndarray) -> Tensor:
    """Scaled mean latents [N, C, h, w] of images uint8 [N, H, W, 3], where the denoiser lies."""
    # one at a time: in float32 the encoder's widest activation of a large image takes hundreds of megabytes
    means = torch.cat([encode_images(pipeline, pixels[row : row + 1]).chunk(2, 1)[0] for row in range(len(pixels))])
    return (means * pipeline.vae.config.scaling_factor).to(device_of(pipeline))


def reconstruct(pipeline: Any, pixels: np.ndarray) -> np.ndarray:
    """What the autoencoder makes of images: uint8 [N, H, W, 3] to the same."""
    return decode_latents(pipeline, mean_latents(pipeline, pixels))


def device_of(pipeline: Any) -> torch.device:
    """Where the pipeline's denoiser lies."""
    return next(pipeline.unet.parameters()).device


def training_schedule(solver: Any) -> DDPMScheduler:
    """The forward noising process that a pipeline's scheduler solves, whichever solver it is."""
    return DDPMScheduler.from_config(solver.config)


def extra_conditions(resolution: int, pooled: Tensor | None, count: int) -> dict[str, Tensor] | None:
    """SDXL's pooled prompt and size conditions for square, uncropped images; None for the other families."""
    if pooled is None:
        return None
    sizes = torch.tensor([resolution, resolution, 0, 0, resolution, resolution], dtype=pooled.dtype, device=pooled.device)
    return {"text_embeds": pooled, "time_ids": sizes.expand(count, 6)}
