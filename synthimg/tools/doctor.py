"""What this machine can run: its processor, memory, accelerator and weights, and what that means."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import psutil
import torch

from ..config import Evaluate
from ..core.device import CPU, choose_device, choose_precision
from ..core.stage import versions
from ..diffusion import base
from ..errors import UserError
from ..vision import backbone, features

GIB = 1024**3
NEEDS = {
    "embedded model, 128 px": (6, 0),
    "SD 1.5 / 2.x LoRA, 512 px": (16, 8),
    "SD 1.5 / 2.x full, 512 px": (32, 24),
    "SDXL LoRA, 1024 px": (32, 16),
}
"""Memory and GPU memory in GiB that each way of working asks for: measured for the first, a rule of thumb for the rest."""


def describe_machine() -> str:
    """A table for the terminal."""
    device = choose_device("auto")
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(".")
    video = torch.cuda.get_device_properties(0).total_memory / GIB if device.type == "cuda" else 0.0
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = [
        ("processor", f"{threads} cores, matrix precision {choose_precision('auto', CPU)}"),
        ("memory", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"),
        ("disk here", f"{disk.free / GIB:.1f} GiB free"),
        ("accelerator", _accelerator(device, video)),
        ("embedded model", _embedded()),
        ("ImageNet features", _weights()),
        ("FID and KID on", features.choose(Evaluate())),
        ("solar cell photographs", "installed" if find_spec("elpv_dataset") else "no; pip install 'synthimg[elpv]'"),
        *((name, number) for name, number in versions().items() if name != "synthimg"),
        ("", ""),
    ]
    for name, (ram, gpu) in NEEDS.items():
        fits = memory.total / GIB >= ram and (video >= gpu or gpu == 0)
        rows.append(
            (name, "yes" if fits else f"no: asks for {ram} GiB of memory" + (f" and a GPU with {gpu} GiB" if gpu else ""))
        )
    return "\n".join(f"{name:<28}{value}".rstrip() for name, value in rows)


def _accelerator(device: torch.device, video: float) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(0)}, {video:.0f} GiB, {choose_precision('auto', device)}"
    return "Apple GPU" if device.type == "mps" else "none; everything runs on the processor"


def _embedded() -> str:
    try:
        pipeline = base.load("embedded", CPU)
    except UserError as error:
        return f"no: {error}"
    weights = sum(parameter.numel() for part in base.modules(pipeline) for parameter in part.parameters())
    return f"loads, {weights / 1e6:.1f} million weights"


def _weights() -> str:
    try:
        for number in backbone.LITE_SHA256:
            backbone.lite_weights(number)
    except UserError as error:
        return f"no: {error}"
    return "EfficientNet-Lite0 and 2, digests checked"
