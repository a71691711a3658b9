"""The fast path draws the pictures of the plain one, and trains as it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from PIL import Image
from torch import nn

from synthimg import finetune_model, generate_images, prepare_dataset, scenes
from synthimg.config import Compile, Finetune
from synthimg.core.device import CPU
from synthimg.diffusion import adapters, base, speed
from synthimg.reading import parse


def test_decoding_in_bf16_stays_within_a_grey_level_and_keeps_a_ramps_steps() -> None:
    pipeline = base.load("embedded", CPU)
    images, _ = scenes.render(scenes.sample(2, torch.Generator().manual_seed(0)), 64)
    ramp = np.broadcast_to(np.linspace(40, 215, 64).round().astype(np.uint8)[None, :, None], (64, 64, 3))
    pixels = np.concatenate([(images.permute(0, 2, 3, 1) * 255).round().byte().numpy(), ramp[None]])
    latents = base.mean_latents(pipeline, pixels)
    plain = base.decode_latents(pipeline, latents).astype(int)
    scaled = latents / pipeline.vae.config.scaling_factor
    found = ((speed.decode_half(pipeline.vae, scaled) / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).int().numpy()
    difference = np.abs(plain - found)
    assert difference.max() <= 1 and 0 < difference.mean() < 0.2
    assert len(np.unique(found[-1, ..., 0])) >= len(np.unique(plain[-1, ..., 0])) - 3  # no banding
    assert not isinstance(pipeline.vae.decoder.conv_out, nn.Identity)  # put back


def test_lighter_weights_change_nothing_under_autocast(tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "base")
    batch = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 7, 32)
    found, weights = [], []
    for light in (False, True):
        pipeline = base.load(str(folder), CPU)
        torch.manual_seed(1)
        adapters.attach(pipeline, Finetune(rank=4))
        if light:
            speed.lighten(pipeline.unet, torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            loss = pipeline.unet(*batch, return_dict=False)[0].float().square().mean()
        loss.backward()
        trained = {name: weight for name, weight in pipeline.unet.named_parameters() if weight.requires_grad}
        assert all(weight.dtype == torch.float32 for weight in trained.values())
        found.append((loss, {name: weight.grad for name, weight in trained.items()}))
        weights.append(pipeline.unet.conv_in.weight.dtype)
    assert weights == [torch.float32, torch.bfloat16]
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


@pytest.mark.parametrize(
    ("setting", "passes", "expected"), [("never", 10**9, False), ("always", 1, True), ("auto", 10**9, False)]
)
def test_when_compiling_pays_on_a_cpu(setting: Compile, passes: int, expected: bool) -> None:
    assert speed.pays(setting, CPU, passes) is expected


@pytest.mark.slow
def test_a_compiled_denoiser_sees_full_batches_and_draws_the_same_pictures(tmp_path: Path, monkeypatch: Any) -> None:
    data, folder = tiny.photographs(tmp_path / "data"), tiny.sd15(tmp_path / "base")
    seen: list[int] = []
    # torch's own tracer with its debugging backend: inductor takes a minute to build kernels on a CPU
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: _traced(module, seen))
    found = []
    for compile_ in ("never", "always"):
        tree = tiny.settings(data, tmp_path / compile_, folder, compile=compile_)
        tree["generate"] |= {"count": 3, "methods": {"text": 1}}
        config = parse(tree)
        prepare_dataset(config)
        finetune_model(config)
        made = generate_images(config)
        # in the plan's order: an id holds the model's digest, and whether it was compiled is part of that
        ids = pd.read_parquet(made / "plan.parquet")["id"]
        files = [made / "images" / f"{name}.png" for name in ids]
        found.append([np.asarray(Image.open(file)).astype(int) for file in files])
    assert set(seen) == {2, 4}  # two rows to a batch: alone in fine-tuning, doubled by guidance
    assert np.abs(np.array(found[0]) - np.array(found[1])).max() <= 1


def _traced(module: nn.Module, seen: list[int]) -> None:
    module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    module._compiled_call_impl = torch.compile(module._call_impl, backend="eager", dynamic=False)
