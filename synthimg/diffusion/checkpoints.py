"""Training checkpoints in safetensors: weights, Adam moments and moving averages, written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer


def save(
    folder: Path, step: int, weights: Mapping[str, Tensor], optimizer: Optimizer, ema: EMAModel | None, limit: int
) -> None:
    """Write `<folder>/step-<step>.safetensors` and drop all but the newest `limit`.

    Args:
        weights: the trained tensors by name; all others are rebuilt from the base.
    """
    tensors = {f"weights.{name}": tensor for name, tensor in weights.items()}
    for i, parameter in enumerate(_parameters(optimizer)):
        tensors |= {f"optimizer.{i}.{name}": value for name, value in optimizer.state[parameter].items()}
    if ema:
        tensors |= {f"ema.{i}": tensor for i, tensor in enumerate(ema.shadow_params)}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".part"
    # clones: safetensors refuses tensors that share storage
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, part, metadata={"step": str(step)})
    part.replace(folder / f"step-{step:07d}.safetensors")
    for old in sorted(folder.glob("step-*.safetensors"))[:-limit]:
        old.unlink()


def restore(folder: Path, weights: Mapping[str, Tensor], optimizer: Optimizer, ema: EMAModel | None) -> int:
    """Load the newest checkpoint in place; returns its step, 0 where there is none."""
    found = sorted(folder.glob("step-*.safetensors"))
    if not found:
        return 0
    with safe_open(found[-1], "pt") as file:
        step = int(file.metadata()["step"])
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(file.get_tensor(f"weights.{name}"))
        names = list(file.keys())
        for i, parameter in enumerate(_parameters(optimizer)):
            prefix = f"optimizer.{i}."
            state = {name.removeprefix(prefix): file.get_tensor(name) for name in names if name.startswith(prefix)}
            # Adam keeps its moments beside the parameter, but its step count on the CPU unless it is fused
            apart = () if optimizer.defaults.get("fused") else ("step",)
            optimizer.state[parameter] = {k: v if k in apart else v.to(parameter.device) for k, v in state.items()}
        if ema:
            ema.shadow_params = [file.get_tensor(f"ema.{i}").to(shadow.device) for i, shadow in enumerate(ema.shadow_params)]
            ema.optimization_step = step
    return step


def discard(folder: Path) -> None:
    """Remove the checkpoints of a finished training."""
    shutil.rmtree(folder, ignore_errors=True)


def _parameters(optimizer: Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
