"""Fine-tuning of the decoder: the right half, the right crop, and pictures closer to ones it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from synthimg import scenes
from synthimg.config import Finetune
from synthimg.core.device import CPU
from synthimg.core.seeds import derive
from synthimg.diffusion import base, cache, decoder
from synthimg.diffusion.train import Cached, draw, training_loop
from synthimg.pretrain.autoencoder import Perceptual
from synthimg.vision.backbone import lite


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@given(st.integers(1, 9), st.sampled_from([1, 4, 8]), st.integers(0, 1000))
def test_the_crop_takes_the_same_place_from_latents_and_images(side: int, factor: int, seed: int) -> None:
    latents = torch.rand(2, 3, side, side)
    images = F.interpolate(latents, scale_factor=factor)
    small, picture = decoder.crop(latents, images, seed)
    assert small.shape[-1] == -(-side // 2)
    assert torch.equal(F.interpolate(small, scale_factor=factor), picture)


def test_what_is_trained_is_what_decodes() -> None:
    vae = base.load("embedded", CPU).vae
    half, latents = decoder.trainable(vae), torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(half(latents), vae.decode(latents).sample)
    assert not any(parameter.requires_grad for parameter in vae.encoder.parameters())


def test_latents_are_decoded_in_their_own_scale_and_images_mirrored_with_them(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    """SD's scaling factor is not 1."""
    pipeline = base.load(str(tiny.sd15(tmp_path / "base")), CPU)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    settings = Finetune(batch_size=3)
    moments = cache.moments(pipeline, pixels, True, tmp_path)
    moments[:, :, 4:] = 0  # no noise, so that the latents are known
    prompts = cache.prompts(pipeline, [""], tmp_path)
    cached = Cached(moments, prompts, torch.zeros(3, dtype=torch.long), np.full(3, 1 / 3), pixels, np.arange(3))
    scale = pipeline.vae.config.scaling_factor
    latents, _, images = draw(cached, settings, derive("a", "draw"), CPU)
    assert images is not None
    encoded = base.encode_images(pipeline, (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()).chunk(2, 1)[0]
    torch.testing.assert_close(latents, encoded * scale, atol=1e-4, rtol=1e-4)
    found, seen = decoder.crop(latents, images, derive("a", "crop"))
    plain = pipeline.vae.decode(found / scale).sample / 2 + 0.5
    expected = (plain - seen).abs().mean() + decoder.LIKENESS * Perceptual(lite(2), blocks=5)(plain, seen)
    objective = decoder.reconstruction(cached, scale, settings, accelerator)
    loss = objective.loss(decoder.trainable(pipeline.vae), objective.draw(("a",)))
    torch.testing.assert_close(loss, expected)


@pytest.mark.slow
def test_unseen_pictures_come_back_closer(tmp_path: Path, accelerator: Accelerator) -> None:
    """Panels through a made-up camera with stripes, a texture that the embedded autoencoder never saw."""
    stripes = 24 * (np.arange(64) % 3)[None, :, None]
    drawn = scenes.pixels(scenes.sample(48, torch.Generator().manual_seed(0), ("panel",)), 64)
    pixels = np.clip(drawn.astype(int) - stripes, 0, 255).astype(np.uint8)
    seen, unseen = pixels[:32], pixels[32:]
    pipeline = base.load("embedded", CPU)
    teacher = Perceptual(lite(), blocks=5)

    def distance() -> float:
        means = base.encode_images(pipeline, unseen).chunk(2, 1)[0]
        found, real = (torch.from_numpy(p).permute(0, 3, 1, 2) / 255 for p in (base.decode_latents(pipeline, means), unseen))
        with torch.no_grad():
            return float(teacher(found, real))

    before = distance()
    settings = Finetune(batch_size=8, warmup=5, ema=0, decoder_steps=40)
    prompts = cache.prompts(pipeline, [""], tmp_path)
    moments = cache.moments(pipeline, seen, False, tmp_path)
    cached = Cached(moments, prompts, torch.zeros(32, dtype=torch.long), np.full(32, 1 / 32), seen, np.arange(32))
    loss = decoder.reconstruction(cached, pipeline.vae.config.scaling_factor, settings, accelerator)
    steps = list(
        training_loop(decoder.trainable(pipeline.vae), loss, settings, 40, 1e-3, tmp_path / "steps", 0, accelerator)
    )
    assert len(steps) == 40
    pipeline.vae.eval()
    assert distance() < 0.8 * before
