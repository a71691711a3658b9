"""What one GPU gives: synthimg beside diffusers' own training script and pipeline, on SD 1.5's architecture.

python benchmarks/gpu.py generate train-4 train-16 parity      # about 5 minutes on one card, compiling included
python benchmarks/gpu.py run-embedded run-sd15                  # `synthimg run` as a whole, at small counts
python benchmarks/gpu.py train-4 --toy                          # the same code in seconds on a CPU; its figures mean nothing

Weights are random: speed does not depend on their values. `stock` does for each batch what `train_text_to_image_lora.py` of
diffusers does (encode pixels and captions, LoRA on the attention, AdamW, two losses read by the host), but gets its batches
for nothing. Figures are medians; kernels that an earlier call compiled are taken from torch's cache.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from synthimg.config import Finetune
from synthimg.core.device import choose_device, choose_precision
from synthimg.diffusion import adapters, base, sample, speed
from synthimg.diffusion.base import Prompts
from synthimg.diffusion.train import Cached, denoising, predict_unet, training_loop

STEPS, GUIDANCE, TOKENS = 20, 5.0, 77
SCHEDULE: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
DEVICE = choose_device("auto")


def pipeline(toy: bool) -> StableDiffusionPipeline:
    """SD 1.5's networks with random weights, without its text encoder."""
    torch.manual_seed(0)
    narrow: dict[str, Any] = {"block_out_channels": (16, 16, 32, 32), "layers_per_block": 1} if toy else {}
    channels = (8, 8, 16, 16) if toy else (128, 256, 512, 512)
    with torch.device(DEVICE):
        unet = UNet2DConditionModel(
            sample_size=8 if toy else 64, cross_attention_dim=width(toy), attention_head_dim=4 if toy else 8,
            norm_num_groups=8 if toy else 32, **narrow,
        )  # fmt: skip
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=channels, layers_per_block=2, norm_num_groups=4 if toy else 32, sample_size=512,
        )  # fmt: skip
    found = StableDiffusionPipeline(
        vae=vae, text_encoder=None, tokenizer=None, unet=unet, scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    found.set_progress_bar_config(disable=True)
    for part in (unet, vae):
        part.requires_grad_(False).eval()
    return found


def width(toy: bool) -> int:
    return 32 if toy else 768


def side(toy: bool) -> int:
    """Of the pictures, in pixels."""
    return 64 if toy else 512


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def generate(toy: bool, repeats: int) -> Iterator[tuple[str, float, str]]:
    """Images a second at equal steps and guidance: diffusers' pipeline, ours, the compiled denoiser alone."""
    batches = (2,) if toy else (8, 16, 32)
    encoded = Prompts(torch.randn(max(batches), TOKENS, width(toy)), None)
    stock = pipeline(toy)
    stock.vae.to(torch.bfloat16)
    stock.unet.to(torch.bfloat16)
    for count in batches if repeats > 1 else batches[:1]:
        hidden = encoded.hidden[:count].to(DEVICE, torch.bfloat16)
        seconds = timed(lambda hidden=hidden: stock(  # type: ignore[misc]
            prompt_embeds=hidden, negative_prompt_embeds=hidden, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            height=side(toy), width=side(toy),
        ), repeats)  # fmt: skip
        yield f"generate, stock, batch {count}", count / seconds, "images/s"
    stock.to("cpu")
    ours = pipeline(toy)
    ours.vae.to(memory_format=torch.channels_last)
    speed.lay_out(ours.unet, DEVICE)
    sample.use_precision(ours.unet, "bf16")
    if not toy:
        ours.unet.compile(dynamic=False)
    count = batches[-1]
    rows = encoded.rows(list(range(count)))
    start = time.perf_counter()
    solver = sample.Solver(STEPS, GUIDANCE, side(toy))
    seconds = timed(lambda: sample.sample_images(ours, rows, rows, list(range(count)), solver), repeats)
    spent = time.perf_counter() - start - repeats * seconds
    yield f"generate, synthimg, batch {count}", count / seconds, "images/s"
    yield "    first batch, compiling included", spent, "s"
    inputs = torch.randn(2 * count, 4, side(toy) // 8, side(toy) // 8, device=DEVICE)
    hidden = torch.randn(2 * count, TOKENS, width(toy), device=DEVICE)
    level = torch.tensor(500, device=DEVICE)
    with torch.no_grad():
        seconds = timed(lambda: ours.unet(inputs, level, encoder_hidden_states=hidden, return_dict=False), 5 * repeats)
    yield "    compiled UNet alone", count / seconds / STEPS, "images/s"
    latents = torch.randn(count, 4, side(toy) // 8, side(toy) // 8, device=DEVICE)
    yield "    decoding alone", count / timed(lambda: base.decode_latents(ours, latents), repeats), "images/s"


def training(toy: bool, repeats: int, batch: int) -> Iterator[tuple[str, float, str]]:
    """Samples a second of LoRA training at rank 16."""
    count = 2 if toy else batch
    yield f"train, stock, batch {batch}", count / stock_training(toy, repeats, count), "samples/s"
    torch.cuda.empty_cache()
    for compiled in (False, True) if not toy else (False,):
        seconds, first = our_training(toy, repeats, count, compiled)
        what = "compiled" if compiled else "not compiled"
        yield f"train, synthimg, batch {batch}, {what}", count / seconds, "samples/s"
        yield "    first step", first, "s"
        torch.cuda.empty_cache()


def stock_training(toy: bool, repeats: int, count: int) -> float:
    """Seconds a step of what diffusers' script does."""
    parts, text = pipeline(toy), _text_encoder(toy)
    parts.unet.to(torch.bfloat16)
    parts.vae.to(torch.bfloat16)
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    parts.unet.add_adapter(LoraConfig(r=16, lora_alpha=16, init_lora_weights="gaussian", target_modules=targets))
    trained = [weight for weight in parts.unet.parameters() if weight.requires_grad]
    for weight in trained:
        weight.data = weight.data.float()
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, 1)
    schedule = DDPMScheduler(**SCHEDULE)
    pixels = torch.rand(count, 3, side(toy), side(toy), device=DEVICE, dtype=torch.bfloat16) * 2 - 1
    tokens = torch.randint(0, 90, (count, TOKENS), device=DEVICE)

    def step() -> None:
        latents = parts.vae.encode(pixels).latent_dist.sample() * parts.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        levels = torch.randint(0, 1000, (count,), device=DEVICE)
        noisy = schedule.add_noise(latents, noise, levels)
        hidden = text(tokens, return_dict=False)[0]
        with torch.autocast(DEVICE.type, torch.bfloat16):
            prediction = parts.unet(noisy, levels, hidden, return_dict=False)[0]
        loss = F.mse_loss(prediction.float(), noise.float())
        _ = loss.repeat(count).mean().item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        _ = loss.detach().item()

    return timed(step, 5 * repeats)


def _text_encoder(toy: bool) -> CLIPTextModel:
    wide = width(toy)
    config = CLIPTextConfig(
        hidden_size=wide, intermediate_size=4 * wide, num_hidden_layers=2 if toy else 12,
        num_attention_heads=4 if toy else 12,
        projection_dim=wide,
    )  # fmt: skip
    with torch.device(DEVICE):
        return CLIPTextModel(config).to(torch.bfloat16).requires_grad_(False).eval()


def our_training(toy: bool, repeats: int, count: int, compiled: bool) -> tuple[float, float]:
    """Seconds a step of `training_loop` as the stage `finetune` calls it, and of the first one."""
    settings = Finetune(batch_size=count, rank=16, checkpoint_every=10**6)
    parts = pipeline(toy)
    speed.lay_out(parts.unet, DEVICE)
    adapters.attach(parts, settings)
    speed.lighten(parts.unet, torch.bfloat16)
    if compiled:
        parts.unet.compile(dynamic=False)
    latent = side(toy) // 8
    cached = Cached(
        torch.rand(64, 2, 8, latent, latent), Prompts(torch.randn(9, TOKENS, width(toy), device=DEVICE), None),
        torch.arange(64) % 8 + 1, np.full(64, 1 / 64),
    )  # fmt: skip
    accelerator = Accelerator(cpu=DEVICE.type == "cpu", mixed_precision="bf16")
    objective = denoising(predict_unet(lambda pooled, n: None), DDPMScheduler(**SCHEDULE), cached, settings, accelerator)
    times, start = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        loop = training_loop(parts.unet, objective, settings, 10**5, 1e-4, Path(folder), 0, accelerator)
        for _ in range(5 * repeats + 4):
            next(loop)
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
    accelerator.free_memory()
    return median(times[3:]), times[0]


def parity(toy: bool, repeats: int) -> Iterator[tuple[str, float, str]]:
    """Grey levels between pictures of the embedded model drawn on the plain and on the fast path."""
    texts = [
        "a cracked rough panel, two cracks, dimly lit",
        "a brightly lit smooth panel",
        "a large dark lesion on light skin",
    ]
    found = []
    for fast in (False, True):
        loaded = base.load("embedded", DEVICE)
        encoded = base.encode_prompts(loaded, [*texts, ""])
        if not fast:
            loaded.unet.to(memory_format=torch.contiguous_format)
        sample.use_precision(loaded.unet, choose_precision("auto", DEVICE) if fast else "fp32")
        if fast and not toy:
            loaded.unet.compile(dynamic=False)
        count = 2 if toy else 24
        rows = encoded.rows([i % len(texts) for i in range(count)]), encoded.rows([len(texts)] * count)
        found.append(sample.sample_images(loaded, *rows, list(range(count)), sample.Solver(STEPS, 3.0, 128)).astype(int))
    difference = np.abs(found[0] - found[1])
    yield "parity, embedded, float32 to fast: mean difference", float(difference.mean()), "grey levels"
    yield "    95th percentile", float(np.quantile(difference, 0.95)), "grey levels"


def whole(toy: bool, repeats: int, model: str) -> Iterator[tuple[str, float, str]]:
    """`synthimg run` from start to end, small counts, on drawn pictures; the report stays in outputs/gpu-<base>."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import tiny

    work = Path("outputs/.gpu")
    if model == "sd15":
        from test_full_size import sd15

        where = tiny.sd15(work / "sd15") if toy else sd15(work / "full")
    else:
        where = Path("embedded")
    pixels = 64 if toy else 512 if model == "sd15" else 128
    if not (work / f"data-{pixels}").exists():
        tiny.photographs(work / f"data-{pixels}", 60, 120, pixels)
    tree = tiny.settings(work / f"data-{pixels}", Path("outputs"), where, name=f"gpu-{model}")
    tree |= {"resolution": pixels, "device": "auto"}
    tree["finetune"] |= {"steps": 6 if toy else 60, "batch_size": 2 if toy else 8, "controlnet_steps": 4 if toy else 30,
                         "checkpoint_every": 30, "validate_every": 30}  # fmt: skip
    tree["generate"] |= {"count": 6 if toy else 48, "steps": 3 if toy else 20, "batch_size": 2 if toy else 16}
    (work / f"{model}.yaml").write_text(yaml.safe_dump(tree))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "synthimg", "run", str(work / f"{model}.yaml")], check=True)
    yield f"synthimg run, {model}, as a whole", time.perf_counter() - start, "s"


PARTS: dict[str, Callable[[bool, int], Iterator[tuple[str, float, str]]]] = {
    "generate": generate,
    "train-4": lambda toy, repeats: training(toy, repeats, 4),
    "train-16": lambda toy, repeats: training(toy, repeats, 16),
    "parity": parity,
    "run-embedded": lambda toy, repeats: whole(toy, repeats, "embedded"),
    "run-sd15": lambda toy, repeats: whole(toy, repeats, "sd15"),
}


def main(parts: list[str], toy: bool, repeats: int) -> None:
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}", flush=True)
    for part in parts:
        for what, value, unit in PARTS[part](toy, repeats):
            print(f"{what:58s} {value:9.2f} {unit}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--toy", action="store_true", help="tiny networks, a few steps: to try the script out on a CPU")
    parser.add_argument("--repeats", type=int, default=3)
    main(**vars(parser.parse_args()))
