"""What fine-tuning makes: a LoRA or a whole UNet, and perhaps a ControlNet, in the files diffusers reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from ..config import Finetune

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
"""All linear layers of the attention blocks: attention alone adapts too little to images far from the base's."""


def attach(pipeline: Any, settings: Finetune, targets: Sequence[str] = TARGETS) -> None:
    """Make the UNet trainable: a fresh LoRA on the layers of these names, or all of it."""
    if settings.method == "lora":
        pipeline.unet.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=list(targets)))
    else:
        pipeline.unet.requires_grad_(True)
    if settings.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()


def save(pipeline: Any, settings: Finetune, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors` (LoRA) or a diffusers `unet/` folder (full)."""
    if settings.method == "lora":
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
        pipeline.save_lora_weights(folder, unet_lora_layers=layers)
    else:
        pipeline.unet.save_pretrained(folder / "unet")


def load(pipeline: Any, folder: Path) -> None:
    """Put a saved adapter into a freshly loaded pipeline; a LoRA is merged into the weights."""
    device = pipeline.unet.device
    if (folder / "unet").exists():
        pipeline.unet = UNet2DConditionModel.from_pretrained(folder / "unet").to(device)
    else:
        pipeline.load_lora_weights(folder)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    pipeline.unet.requires_grad_(False).eval()


def adapt(pipeline: Any, _: str, model: Path) -> None:
    """Give a freshly loaded base the adapter of a fine-tuned model, whose folder is `model`."""
    load(pipeline, model / "adapter")


def new_controlnet(pipeline: Any) -> ControlNetModel:
    """A trainable ControlNet that starts from the (adapted) UNet and at first changes nothing (Zhang et al., 2023)."""
    return ControlNetModel.from_unet(pipeline.unet).requires_grad_(True).to(pipeline.unet.device)


def load_controlnet(folder: Path, device: Any) -> ControlNetModel:
    """Read a saved ControlNet, frozen."""
    return ControlNetModel.from_pretrained(folder).requires_grad_(False).eval().to(device)
