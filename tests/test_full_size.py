"""Stable Diffusion 1.5's architecture at its full size, with random weights: load, one LoRA step, save, load, sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from synthimg.config import Finetune
from synthimg.core.device import choose_precision
from synthimg.diffusion import adapters, base, cache, sample
from synthimg.diffusion.train import Cached, denoising, predict_unet, training_loop

CPU = torch.device("cpu")


def sd15(folder: Path) -> Path:
    """SD 1.5 as published (860 million weights in the UNet), but for its values and its vocabulary's words."""
    tokens = json.loads((tiny.sd15(folder / "tiny") / "vocab.json").read_text())
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "tiny" / "vocab.json"), merges=str(folder / "tiny" / "merges.txt"), model_max_length=77
    )
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=77, projection_dim=768, bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(dtype=torch.float16).save_pretrained(folder / "base")
    return folder / "base"


@pytest.mark.slow
def test_one_lora_step_and_a_picture_at_full_size(tmp_path: Path) -> None:
    folder = sd15(tmp_path)
    pipeline = base.load(str(folder), CPU)
    assert 8.5e8 < sum(parameter.numel() for parameter in pipeline.unet.parameters()) < 8.7e8
    settings = Finetune(batch_size=1, rank=4, gradient_checkpointing=True, min_snr_gamma=5)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 512, 512, 3), dtype=np.uint8)
    data = Cached(
        cache.moments(pipeline, pixels, False, tmp_path), cache.prompts(pipeline, ["", "a panel"], tmp_path),
        torch.tensor([1]), np.ones(1), None,
    )  # fmt: skip
    adapters.attach(pipeline, settings)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if choose_precision("auto", CPU) == "bf16" else "no")
    predict, schedule = predict_unet(lambda pooled, count: None), base.training_schedule(pipeline.scheduler)
    loss = denoising(predict, schedule, data, settings, accelerator)
    steps = list(training_loop(pipeline.unet, loss, settings, 1, 1e-4, tmp_path / "checkpoints", 0, accelerator))
    assert [step.number for step in steps] == [1]
    adapters.save(pipeline, settings, tmp_path / "adapter")

    del pipeline
    again = base.load(str(folder), CPU)
    adapters.load(again, tmp_path / "adapter")
    sample.use_precision(again.unet, choose_precision("auto", CPU))
    images = sample.sample_images(again, data.prompts.rows([1]), data.prompts.rows([0]), [0], sample.Solver(2, 3.0, 512))
    assert images.shape == (1, 512, 512, 3)
