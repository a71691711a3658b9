"""Stable Diffusion's original single-file layout, written from a diffusers pipeline: the reverse of what diffusers reads.

diffusers ships the way there in its scripts alone, with the full-size models' numbers of blocks fixed in them. The names
are those of the LDM, CLIP and OpenCLIP code bases.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
VAE = [
    (r"mid_block\.attentions\.0", "mid.attn_1"), (r"conv_norm_out", "norm_out"), (r"conv_shortcut", "nin_shortcut"),
    (r"group_norm", "norm"), (r"to_q", "q"), (r"to_k", "k"), (r"to_v", "v"), (r"to_out\.0", "proj_out"),
    (r"down_blocks\.(\d+)\.resnets", r"down.\1.block"), (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
]  # fmt: skip
OPEN_CLIP = [
    (r"text_model\.encoder\.layers", "transformer.resblocks"), (r"text_model\.final_layer_norm", "ln_final"),
    (r"text_model\.embeddings\.token_embedding", "token_embedding"), (r"layer_norm(\d)", r"ln_\1"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"self_attn\.out_proj", "attn.out_proj"), (r"mlp\.fc1", "mlp.c_fc"), (r"mlp\.fc2", "mlp.c_proj"),
]  # fmt: skip


def save(pipeline: Any, path: Path) -> Path:
    """Write the pipeline's weights as one .safetensors file."""
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in unet(pipeline.unet).items()}
    state |= {f"first_stage_model.{name}": tensor for name, tensor in vae(pipeline.vae).items()}
    if isinstance(pipeline, StableDiffusionXLPipeline):
        state |= prefixed("conditioner.embedders.0.transformer", clip(pipeline.text_encoder))
        state |= prefixed("conditioner.embedders.1.model", open_clip(pipeline.text_encoder_2))
    else:
        state |= prefixed("cond_stage_model.transformer", clip(pipeline.text_encoder))
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    return path


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def unet(model: Any) -> State:
    step = model.config["layers_per_block"] + 1

    def renamed(name: str) -> str:
        module, _, kind = name.rpartition(".")
        if module in ENDS:
            return f"{ENDS[module]}.{kind}"
        side, block, part, number, rest = re.fullmatch(r"(down|up|mid)_blocks?\.?(\d*)\.(\w+)\.(\d+)\.(.+)", name).groups()
        first = rest.split(".")[0]
        rest = rest.replace(first, RESNET[first], 1) if part == "resnets" else rest
        if side == "mid":
            return f"middle_block.{1 if part == 'attentions' else 2 * int(number)}.{rest}"
        if part == "downsamplers":
            return f"input_blocks.{step * (int(block) + 1)}.0.op.{kind}"
        attends = "CrossAttn" in model.config["up_block_types"][int(block)]
        if part == "upsamplers":
            return f"output_blocks.{step * int(block) + step - 1}.{2 if attends else 1}.conv.{kind}"
        where = "input_blocks" if side == "down" else "output_blocks"
        place = step * int(block) + int(number) + (side == "down")
        return f"{where}.{place}.{1 if part == 'attentions' else 0}.{rest}"

    return {renamed(name): tensor for name, tensor in model.state_dict().items()}


def vae(model: Any) -> State:
    last = len(model.config["up_block_types"]) - 1
    found = {}
    for name, tensor in model.state_dict().items():
        new = name
        for pattern, replacement in VAE:
            new = re.sub(pattern, replacement, new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda hit: f"mid.block_{int(hit[1]) + 1}", new)
        new = re.sub(r"up_blocks\.(\d+)\.resnets", lambda hit: f"up.{last - int(hit[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda hit: f"up.{last - int(hit[1])}.upsample", new)
        attention = "attentions" in name and name.endswith("weight") and "norm" not in name
        found[new] = tensor[..., None, None] if attention else tensor  # linear layers there are convolutions of 1 x 1
    return found


def clip(model: Any) -> State:
    return {name if name.startswith("text_model.") else f"text_model.{name}": tensor
            for name, tensor in model.state_dict().items()}  # fmt: skip


def open_clip(model: Any) -> State:
    state, found = dict(model.state_dict()), {}
    found["text_projection"] = state.pop("text_projection.weight").T
    for name, tensor in state.items():
        if match := re.fullmatch(r"(.+)self_attn\.[qkv]_proj\.(weight|bias)", name):
            layer, kind = match.groups()
            parts = [state[f"{layer}self_attn.{which}_proj.{kind}"] for which in "qkv"]
            name, tensor = f"{layer}attn.in_proj_{kind}", torch.cat(parts)
        for pattern, replacement in OPEN_CLIP:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found
