"""The training loop: exact resume, parity with diffusers, randomness by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from synthimg.config import Finetune
from synthimg.diffusion import checkpoints
from synthimg.diffusion.base import Prompts
from synthimg.diffusion.train import Cached, add_noise, denoising, denoising_loss, draw, learning_rate_factor, training_loop
from synthimg.stages.finetune import draw_weights

EPSILON = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
VELOCITY = DDPMScheduler(
    beta_schedule="scaled_linear",
    beta_start=0.00085,
    beta_end=0.012,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
)


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 3, padding=1))


def data() -> Cached:
    generator = torch.Generator().manual_seed(1)
    return Cached(
        moments=torch.rand(12, 2, 8, 4, 4, generator=generator),
        prompts=Prompts(torch.rand(3, 5, 6, generator=generator), None),
        prompt_of=torch.arange(12) % 2 + 1,
        weight=np.full(12, 1 / 12),
        conditions=None,
    )


def steps(folder: Path, count: int, stop: int | None = None, **changes: Any) -> tuple[list[float], nn.Module]:
    """Train; `stop` abandons the loop after that step, as a kill would."""
    settings = Finetune(batch_size=2, checkpoint_every=2, accumulate=2, warmup=1, learning_rate=1e-2, **changes)
    model, losses = small(), []
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    loss = denoising(lambda m, x, t, p, c: m(x), EPSILON, data(), settings, accelerator)
    loop = training_loop(model, loss, settings, count, settings.learning_rate, folder, 7, accelerator)
    for step in loop:
        losses.append(step.loss)
        if step.number == stop:
            break
    return losses, model


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_resuming_twice_is_bit_identical(tmp_path: Path, ema: float) -> None:
    whole, reference = steps(tmp_path / "whole", 11, ema=ema)
    steps(tmp_path / "broken", 11, stop=3, ema=ema)
    steps(tmp_path / "broken", 11, stop=8, ema=ema)
    rest, model = steps(tmp_path / "broken", 11, ema=ema)
    assert rest == whole[-len(rest) :]
    assert len(rest) < 11
    for a, b in zip(reference.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpoint_limit(tmp_path: Path) -> None:
    steps(tmp_path, 8, checkpoint_limit=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000006.safetensors", "step-0000008.safetensors"]


def test_training_that_moves_nothing_is_a_fault(tmp_path: Path) -> None:
    settings, accelerator = Finetune(batch_size=2, weight_decay=0), Accelerator(cpu=True)
    loss = denoising(lambda m, x, t, p, c: 0 * m(x), EPSILON, data(), settings, accelerator)
    loop = training_loop(small(), loss, settings, 2, 1e-30, tmp_path, 0, accelerator)
    with pytest.raises(RuntimeError, match="no weight has moved"):
        list(loop)


def test_loss_that_is_not_finite_stops_at_once(tmp_path: Path) -> None:
    settings, accelerator = Finetune(batch_size=2), Accelerator(cpu=True)
    loss = denoising(lambda m, x, t, p, c: m(x) * float("nan"), EPSILON, data(), settings, accelerator)
    loop = training_loop(small(), loss, settings, 5, 1e-3, tmp_path, 0, accelerator)
    with pytest.raises(FloatingPointError, match="step 1"):
        list(loop)
    assert checkpoints.restore(tmp_path, {}, torch.optim.AdamW(small().parameters()), None) == 0


def test_targets_agree_with_diffusers() -> None:
    latents = torch.randn(5, 4, 4, 4)
    levels = torch.tensor([0, 10, 500, 998, 999])
    noisy, _, noise = add_noise(latents, EPSILON, 0.0, 3, levels)
    torch.testing.assert_close(noisy, EPSILON.add_noise(latents, noise, levels))
    _, _, velocity = add_noise(latents, VELOCITY, 0.0, 3, levels)
    torch.testing.assert_close(velocity, VELOCITY.get_velocity(latents, noise, levels))
    # at zero terminal SNR the velocity is the negative image: a model of the noise alone could not learn brightness
    torch.testing.assert_close(velocity[-1], -latents[-1])


def test_min_snr_weights() -> None:
    levels = torch.tensor([5, 900])
    prediction, target = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    alpha = EPSILON.alphas_cumprod[levels]
    snr = alpha / (1 - alpha)
    expected = (snr.clamp(max=5) / snr).mean()
    torch.testing.assert_close(denoising_loss(prediction, target, levels, EPSILON, 5), expected)
    assert denoising_loss(prediction, target, levels, EPSILON, None) == 1


@given(st.integers(1, 2000), st.integers(0, 100))
def test_learning_rate_stays_within_bounds(count: int, warmup: int) -> None:
    factors = [learning_rate_factor(number, count, warmup) for number in range(1, count + 1, max(1, count // 50))]
    assert all(0 < factor <= 1 for factor in factors)


@given(st.integers(1, 30), st.integers(1, 300), st.floats(0.05, 0.95))
def test_draw_weights_hold_the_share(rare: int, common: int, share: float) -> None:
    labels = np.array(["rare"] * rare + ["common"] * common)
    weight = draw_weights(labels, "rare", share)
    assert weight.sum() == pytest.approx(1)
    assert weight[:rare].sum() == pytest.approx(share)


def test_caption_dropout_takes_the_empty_prompt() -> None:
    settings = Finetune(batch_size=4, caption_dropout=1.0)
    _, prompts, _ = draw(data(), settings, 0, torch.device("cpu"))
    assert torch.equal(prompts.hidden, data().prompts.hidden[[0] * 4])
