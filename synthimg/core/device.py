"""Where networks run, and in which precision."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import UserError

CPU = torch.device("cpu")


def choose_device(name: str) -> torch.device:
    """Resolve `auto` to cuda, mps or cpu.

    Raises:
        UserError: the device asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if not there[name]:
        raise UserError(f"device '{name}': not available on this machine; use device=auto")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> str:
    """Resolve `auto` to bf16 where the hardware multiplies it, else fp16 on a GPU and fp32 on a CPU.

    Raises:
        UserError: fp16 is asked for on a CPU.
    """
    if name == "fp16" and device.type == "cpu":
        raise UserError("finetune.precision 'fp16': needs a GPU; use auto, bf16 or fp32")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return "bf16"
    return "fp32"


def autocast(device: torch.device, precision: str) -> Any:
    """Autocast context of a resolved precision."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")
