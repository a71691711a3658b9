"""Small real inputs for tests: a Stable Diffusion 1.5 architecture with random weights, and a folder of drawn images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from synthimg import scenes
from synthimg.config import Config
from synthimg.stages.classify import classify_images
from synthimg.stages.evaluate import evaluate_run

SD15_BLOCKS = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}


def sd15(folder: Path) -> Path:
    """SD 1.5's architecture and scheduler (epsilon, PNDM), narrow, with random weights, as a diffusers folder."""
    torch.manual_seed(0)
    letters = sorted({*map(chr, range(33, 127)), "Ġ"})
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77)
    last = len(tokens) - 1
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            projection_dim=32, bos_token_id=last - 1, eos_token_id=last, pad_token_id=last,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 16, 32, 32),
        cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8, **SD15_BLOCKS,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16), latent_channels=4, norm_num_groups=4, layers_per_block=1, sample_size=64,
    )  # fmt: skip
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, skip_prk_steps=True,
        steps_offset=1, set_alpha_to_one=False,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def named_base(file: Path) -> Path:
    """A file that passes for a checkpoint of Stable Diffusion as long as nobody loads it."""
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, file)
    return file


def sdxl(folder: Path) -> Path:
    """SDXL's architecture (two text encoders, pooled prompt and size conditions, three levels), narrow, random weights.

    The tokenizer and the autoencoder are those of `sd15`, which lies in `<folder>-parts`.
    """
    parts = StableDiffusionPipeline.from_pretrained(sd15(folder.with_name(f"{folder.name}-parts")), safety_checker=None)
    torch.manual_seed(1)
    # the second encoder's own width is what the UNet reads beside the first one's; its projection is the pooled prompt
    second = CLIPTextModelWithProjection(
        CLIPTextConfig(**{**parts.text_encoder.config.to_dict(), "hidden_size": 48, "projection_dim": 40})
    )
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(16, 32, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=32 + 48, attention_head_dim=(2, 4, 4), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 40,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    parts.vae.register_to_config(scaling_factor=0.13025)
    pipeline = StableDiffusionXLPipeline(
        vae=parts.vae, text_encoder=parts.text_encoder, text_encoder_2=second, tokenizer=parts.tokenizer,
        tokenizer_2=parts.tokenizer, unet=unet, scheduler=scheduler,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def drawn(pipeline: Any) -> np.ndarray:
    """A picture that diffusers' own pipeline draws, always from the same noise: [1, 64, 64, 3] in [0, 1]."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    found = pipeline("a cracked panel", height=64, width=64, num_inference_steps=2, generator=generator, output_type="np")
    return np.asarray(found.images)


def evaluated(config: Config) -> Path:
    """Classify and evaluate a run whose images are filtered; the folder of the evaluation."""
    classify_images(config)
    return evaluate_run(config)


def files(folder: Path) -> list[Path]:
    """Every file of a run, those of the stages' work to which it has links, too."""
    found = (Path(parent) / name for parent, _, names in os.walk(folder, followlinks=True) for name in names)
    return sorted(path for path in found if path.is_file())


def photographs(folder: Path, rare: int = 30, common: int = 60, side: int = 64) -> Path:
    """An image folder of drawn panels: `cracked` (the rare class) and `intact`, with masks and a table in metadata.csv."""
    generator = torch.Generator().manual_seed(0)
    counts = {"cracked": rare, "intact": common}
    found: dict[str, int] = dict.fromkeys(counts, 0)
    lines = ["file_name,label,mask,part"]
    while any(found[label] < count for label, count in counts.items()):
        scene = scenes.sample(40, generator, ("panel",))
        images, masks = scenes.render(scene, side)
        for image, mask, cracks in zip(images, masks, scene.count, strict=True):
            label = "intact" if cracks == 0 else "cracked"
            if found[label] == counts[label]:
                continue
            name = f"{label}/{found[label]:03d}.png"
            for kind, picture in (("images", image.permute(1, 2, 0)), ("masks", mask[0])):
                path = folder / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((picture * 255).byte().numpy()).save(path)
            lines.append(f"images/{name},{label},masks/{name},part-{label}-{found[label] // 2}")
            found[label] += 1
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def touch(root: Path, *names: str) -> None:
    """Empty files, with the folders in which they lie."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def count_files(root: Path) -> int:
    """Files below a folder, a link to a folder as one: os.walk does not follow them."""
    return sum(len(names) + sum(os.path.islink(os.path.join(parent, sub)) for sub in subs)
               for parent, subs, names in os.walk(root))  # fmt: skip


def settings(data: Path, outputs: Path, base: Path | str, **changes: Any) -> dict[str, Any]:
    """A configuration tree for a run of seconds; `changes` replace whole sections or top-level keys."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "outputs": str(outputs),
        "base": str(base),
        "resolution": 64,
        "device": "cpu",
        "folds": 1,
        "dataset": {
            "path": str(data), "table": "metadata.csv", "mask": "{mask}", "group": "part", "rare_class": "cracked",
            "rare_budget": 10, "prompts": str(Path(__file__).parent / "panel.yaml"),
            "consent": {"licence": "CC0-1.0", "scope": ["research"]},
        },
        "finetune": {
            "steps": 6, "controlnet_steps": 4, "batch_size": 2, "warmup": 1, "checkpoint_every": 2, "validate_every": 3,
            "rank": 4, "learning_rate": 1e-3, "tracker": "none",
        },
        "generate": {"count": 6, "steps": 3, "batch_size": 2, "methods": {"text": 1, "image": 1, "from_common": 1}},
        "filter": {"confidence": 0.0, "copy_quantile": 0.0, "attributes": False},
        "evaluate": {"seeds": 2, "steps": 20, "bootstrap": 50, "arms": ["real", "oversampled", "synthetic", "oracle"]},
    }  # fmt: skip
    return {**tree, **changes}
