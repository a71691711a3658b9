"""What a file or folder is that was named as a base and is none: told from its names alone, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import SafetensorError, safe_open

FAMILIES = (StableDiffusionPipeline, StableDiffusionXLPipeline)
WANTED = "expected Stable Diffusion 1.x, 2.x or XL"
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
"""The parts of a base that have weights and are used."""
FIRST, LATENT = "model.diffusion_model.input_blocks.0.0.weight", 4
"""The denoiser's first layer in a checkpoint of one file, and the channels it reads."""
KINDS = (
    (("lora_", ".lora", "hada_w", "lokr_w"), "a LoRA, an adapter to a base"),
    (("emb_params", "string_to_param", "clip_g", "clip_l"), "a textual inversion, words for a base"),
    (("control_model.", "controlnet_"), "a ControlNet"),
    (("image_proj.", "ip_adapter."), "an IP-Adapter"),
    (("double_blocks.", "joint_blocks.", "transformer_blocks.0.norm1_context"), "a diffusion transformer (SD 3, Flux)"),
)
"""By parts of the tensors' names, the first that fits."""
ALONE = (
    (("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "first_stage_model."), "an autoencoder (VAE) alone"),
    (("conv_", "down_blocks.", "mid_block.", "up_blocks.", "time_embedding.", "input_blocks."), "a denoiser (UNet) alone"),
    (("text_model.", "cond_stage_model.", "embeddings."), "a text encoder alone"),
)
"""By how all tensors' names begin, or the most of them."""


def fault_of(place: Path) -> str | None:
    """Why a file or folder on this machine is no base, for people; None where nothing speaks against it."""
    return _fault_of_folder(place) if place.is_dir() else _fault_of_file(place)


def _fault_of_file(file: Path) -> str | None:
    if file.suffix != ".safetensors":
        return f"is a file of the kind '{file.suffix}'; only .safetensors are read"
    try:
        with safe_open(file, "pt") as tensors:
            names = list(tensors.keys())
            channels = tensors.get_slice(FIRST).get_shape()[1] if FIRST in names else LATENT
    except (OSError, SafetensorError) as error:
        return f"cannot be loaded: {' '.join(str(error).split())}"
    kind = kind_of(names)
    if not kind and channels != LATENT:
        kind = f"a model that reads {channels} channels, for inpainting or depth"
    return f"is {kind}; {WANTED}" if kind else None


def kind_of(names: list[str]) -> str | None:
    """What the tensors of these names are, unless they are a whole Stable Diffusion checkpoint."""
    for words, kind in KINDS:
        if any(word in name for name in names for word in words):
            return kind
    if any(name.startswith("model.diffusion_model.") for name in names):
        return None
    for starts, kind in ALONE:
        if 2 * sum(name.startswith(starts) for name in names) > len(names):
            return kind
    return f"of an unknown architecture, with tensors such as '{names[0]}'" if names else "without any tensor"


def _fault_of_folder(folder: Path) -> str | None:
    index = folder / "model_index.json"
    if not index.is_file():
        return f"the folder has no model_index.json; expected diffusers' folder format{_instead(folder)}"
    try:
        tree = json.loads(index.read_text(encoding="utf-8"))
        family, parts = tree.get("_class_name"), [part for part in PARTS if (tree.get(part) or [None])[0]]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"its model_index.json cannot be read: {' '.join(str(error).split())}"
    if family not in {known.__name__ for known in FAMILIES}:
        return f"is a {family}; {WANTED}"
    return next((fault for part in parts if (fault := _fault_of_part(folder / part))), None)


def _instead(folder: Path) -> str:
    """What a folder without an index holds."""
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return ". It is empty"
    if "adapter_config.json" in names or any("lora" in name.lower() for name in names):
        return ". It holds a LoRA, an adapter to a base"
    files = [name for name in names if name.endswith(".safetensors")]
    if "config.json" in names:
        return ". It holds one part of a base alone"
    return f". It holds a single file; name that one: {folder / files[0]}" if len(files) == 1 else ""


def _fault_of_part(folder: Path) -> str | None:
    """What is wrong with the folder of one network."""
    if not folder.is_dir():
        return f"its model_index.json names {folder.name}, and there is no such folder"
    names = {path.name for path in folder.iterdir()}
    index = next((name for name in sorted(names) if name.endswith(".safetensors.index.json")), None)
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    wanted = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values() if index else weights
    lacking = sorted(set(wanted) - names)
    variants = [name for name in weights if name.count(".") == 2]
    if weights and not lacking and (index or len(variants) < len(weights)):
        return None
    if variants:
        variant = variants[0].split(".")[-2]
        return (
            f"holds the variant {variant} alone, such as {folder.name}/{variants[0]}; get the weights without a variant, "
            f"or load it once with diffusers' variant='{variant}' and save it"
        )
    if lacking:
        return f"its {folder.name}/{index} names {lacking[0]}, and there is no such file"
    pickled = [name for name in sorted(names) if name.endswith((".bin", ".ckpt", ".pt", ".pth"))]
    return f"has no .safetensors in {folder.name}/" + (f", only {pickled[0]}, which is not read" if pickled else "")
