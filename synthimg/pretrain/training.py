"""The recipe of the embedded base model: captioned images -> tokenizer, autoencoder, text encoder and UNet.

    synthimg pretrain configs/base-model.yaml

Each part is skipped where its result is there already; a killed training resumes from its newest checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.training_utils import EMAModel
from PIL import Image
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .. import scenes
from ..config import Positive, Section
from ..core import files, stage
from ..core.device import choose_device
from ..core.seeds import derive
from ..diffusion import base, checkpoints
from ..diffusion.train import add_noise, denoising_loss
from ..errors import UserError
from ..vision.backbone import lite
from . import autoencoder
from .editing import EditRecipe, train_editor

SCENES_PER_SEED = 50
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Pretrain(Section):
    """Settings of the recipe."""

    corpus: str | None = None
    """Folder with `metadata.jsonl` (file_name, text) of captioned images under permissive licences; none: scenes alone."""
    work: str = "outputs/base-model"
    """Folder for data, checkpoints and logs."""
    seed: int = 0
    device: str = "auto"
    resolution: Positive = 128
    scenes: Annotated[int, Field(ge=0)] = 20000
    """Procedural images beside the corpus, of every kind alike."""
    autoencoder: str = ""
    """Folder of an AutoencoderKL to keep; without one it is trained, and `vae_...` and `latent_channels` say how."""
    vae_channels: tuple[int, ...] = (32, 48, 96, 128)
    latent_channels: Positive = 8
    vae_steps: Positive = 3000
    vae_batch: Positive = 16
    vae_learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    vocabulary: Positive = 1500
    """Most tokens that the learner may make."""
    tokens: Positive = 48
    text_width: Positive = 128
    text_layers: Positive = 2
    unet_channels: tuple[int, ...] = (64, 128, 192)
    unet_steps: Positive = 12500
    unet_batch: Positive = 16
    unet_learning_rate: Annotated[float, Field(gt=0)] = 6e-4
    prediction: Literal["v_prediction", "epsilon"] = "v_prediction"
    """What the denoiser predicts: v, with zero terminal SNR, or the noise, as SD 1.5 does."""
    caption_dropout: float = 0.1
    ema: float = 0.999
    compile: bool = False
    """Compile the denoiser (torch.compile): minutes before the first step, then faster ones; needs a C++ compiler."""
    checkpoint_every: Positive = 500
    edit: EditRecipe = EditRecipe()
    """The adapter that edits by instructions, which is trained last."""


def pretrain_base(path: Path, to: Path | None = None) -> Path:
    """Run the recipe of a YAML file; returns the folder of the finished model, diffusers' format in float16.

    Args:
        to: where the model goes; default `<work>/model`. A finished model that is there already is kept, and gets its edit
            adapter if it has none.
    """
    settings = _load(path)
    work = files.expanded(settings.work)
    device = choose_device(settings.device)
    folder = files.expanded(to) if to else work / "model"
    stage.begin(work, settings.model_dump(include={"seed", "corpus", "scenes", "resolution", "prediction"}))
    if not (folder / "model_index.json").exists():  # written last
        _train(settings, work, device, folder)
    if settings.edit.steps:
        train_editor(folder, settings.edit, settings.resolution, work / "edit", device)
    return folder


def _train(settings: Pretrain, work: Path, device: torch.device, folder: Path) -> None:
    """Train every part that is not there yet, and save them as a model in float16."""
    pixels, texts = images(settings, work)
    tokenizer = _tokenizer(texts, settings, work / "tokenizer")
    vae = _vae(pixels, settings, work, device)
    moments = _moments(vae, pixels, work)
    ids = tokenizer(texts, padding="max_length", max_length=settings.tokens, truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    empty = tokenizer([""], padding="max_length", max_length=settings.tokens, return_tensors="pt")["input_ids"]
    unet, text_encoder = _denoiser(moments, ids, empty, len(tokenizer), settings, work / "unet", device)
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=_scheduler(settings.prediction),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(dtype=torch.float16)
    # transformers keeps the precision it finds, diffusers loads float32: mixed, the plain pipeline would not run
    text_encoder.float()
    pipeline.save_pretrained(folder, max_shard_size="14MB")


def _load(path: Path) -> Pretrain:
    try:
        return Pretrain.model_validate(yaml.safe_load(files.expanded(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such configuration file") from error
    except ValidationError as error:
        keys = "; ".join(f"key '{'.'.join(map(str, e['loc']))}': {e['msg']}" for e in error.errors())
        raise UserError(f"{path}: {keys}") from error


def images(settings: Pretrain, work: Path) -> tuple[np.ndarray, list[str]]:
    """The training images, uint8 [N, R, R, 3], and their captions: first the corpus, then the scenes."""
    pixel_file, text_file = work / "pixels.npy", work / "captions.json"
    if not text_file.exists():
        entries = _entries(files.expanded(settings.corpus)) if settings.corpus else []
        if not entries and not settings.scenes:
            raise UserError("corpus, scenes: without a corpus some scenes are needed to train on")
        work.mkdir(parents=True, exist_ok=True)
        side = settings.resolution
        shape = (len(entries) + settings.scenes, side, side, 3)
        pixels = np.lib.format.open_memmap(pixel_file, "w+", np.uint8, shape)
        for i, (file, _) in enumerate(tqdm(entries, desc="corpus", unit="image")):
            pixels[i] = np.asarray(Image.open(file).convert("RGB").resize((side, side)))
        texts = [text for _, text in entries]
        for k in tqdm(range(0, settings.scenes, SCENES_PER_SEED), desc="scenes", unit="batch"):
            count = min(SCENES_PER_SEED, settings.scenes - k)
            scene = scenes.sample(count, torch.Generator().manual_seed(k))
            pixels[len(texts) : len(texts) + count] = scenes.pixels(scene, side)
            texts += scenes.captions(scene)
        pixels.flush()
        files.write_json(text_file, texts)
    return np.load(pixel_file, mmap_mode="r"), json.loads(text_file.read_text())


def _entries(corpus: Path) -> list[tuple[Path, str]]:
    """Files and captions of a corpus."""
    listing = corpus / "metadata.jsonl"
    if not listing.exists():
        raise UserError(f"corpus: {listing} is missing; expected lines with file_name and text")
    entries = map(json.loads, listing.read_text().splitlines())
    return [(corpus / entry["file_name"], entry["text"]) for entry in entries]


def _tokenizer(texts: list[str], settings: Pretrain, folder: Path) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's format, merges learnt from the captions: it reads any text, unknown words as bytes."""
    if not (folder / "vocab.json").exists():
        learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
        learner.normalizer = normalizers.Lowercase()
        words = pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True)
        learner.pre_tokenizer = pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=settings.vocabulary, min_frequency=20, end_of_word_suffix="</w>", show_progress=False
        )
        learner.train_from_iterator(texts, trainer)
        merges = json.loads(learner.to_str())["model"]["merges"]
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
        tokens += ["<|startoftext|>", "<|endoftext|>"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
        (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=settings.tokens
    )


def _vae(pixels: np.ndarray, settings: Pretrain, work: Path, device: torch.device) -> AutoencoderKL:
    done = files.expanded(settings.autoencoder) if settings.autoencoder else work / "vae" / "vae"
    if settings.autoencoder and not done.is_dir():
        raise UserError(f"autoencoder: {done} is no folder")
    if done.exists():
        vae = AutoencoderKL.from_pretrained(done).to(device).eval()
        vae.register_to_config(_name_or_path="")  # else the finished model's files name a folder of this machine
        return vae
    torch.manual_seed(derive(settings.seed, "vae"))
    vae = autoencoder.build(tuple(settings.vae_channels), settings.latent_channels, settings.resolution)
    perceptual = autoencoder.Perceptual(lite(), blocks=3).to(device)
    autoencoder.train(
        vae, pixels, perceptual, work / "vae", settings.vae_steps, settings.vae_batch, settings.vae_learning_rate,
        settings.seed, device, settings.checkpoint_every,
    )  # fmt: skip
    autoencoder.standardise(vae, _encode(vae, pixels[:: max(1, len(pixels) // 2000)]))
    vae.save_pretrained(done)
    return vae


@torch.no_grad()
def _encode(vae: AutoencoderKL, pixels: np.ndarray, batch_size: int = 32) -> Tensor:
    """Latent means and standard deviations [N, 2 C, h, w]."""
    found = []
    device = next(vae.parameters()).device
    for start in tqdm(range(0, len(pixels), batch_size), desc="latents", unit="batch"):
        batch = torch.from_numpy(pixels[start : start + batch_size].copy()).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            moments = vae.encode(batch.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist
        found.append(torch.cat([moments.mean, moments.std], 1).float().cpu() * vae.config.scaling_factor)
    return torch.cat(found)


def _moments(vae: AutoencoderKL, pixels: np.ndarray, work: Path) -> Tensor:
    path = work / f"latents-{base.fingerprint(vae)}.npy"
    if not path.exists():
        files.write_array(path, _encode(vae, pixels).half().numpy())
    return torch.from_numpy(np.load(path))


def _scheduler(prediction: str) -> DPMSolverMultistepScheduler:
    """Trailing steps, v-prediction with zero terminal SNR (Lin et al., 2023), sampled by DPM-Solver++ (Lu et al., 2022)."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type=prediction, rescale_betas_zero_snr=prediction == "v_prediction", timestep_spacing="trailing",
    )  # fmt: skip


def _rate(number: int, steps: int, warmup: int = 200) -> float:
    """Warm-up, a plateau, and a fall over the last fifth: a run can be made longer from any checkpoint of its plateau."""
    return min(1, number / warmup, max(0.02, (steps - number) / (0.2 * steps)))


def _networks(channels: int, vocabulary: int, settings: Pretrain) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Untrained UNet and text encoder."""
    torch.manual_seed(derive(settings.seed, "unet"))
    width = settings.text_width
    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, projection_dim=width,
        num_hidden_layers=settings.text_layers, num_attention_heads=width // 32,
        max_position_embeddings=settings.tokens, bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
    ))  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=settings.resolution // 8, in_channels=channels, out_channels=channels,
        block_out_channels=tuple(settings.unet_channels), layers_per_block=1, norm_num_groups=16, attention_head_dim=4,
        # words are read at 8x8 and 4x4, where attention has few places to look from and costs little
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=width,
    )  # fmt: skip
    return unet, text_encoder


def _denoiser(
    moments: Tensor, ids: Tensor, empty: Tensor, vocabulary: int, settings: Pretrain, folder: Path, device: torch.device
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train UNet and text encoder together; both come back with their averaged weights."""
    unet, text_encoder = _networks(moments.shape[1] // 2, vocabulary, settings)
    both = nn.ModuleDict({"unet": unet, "text": text_encoder}).to(device)
    finished = folder / "finished.safetensors"
    if finished.exists():
        both.load_state_dict(load_file(finished))
        return unet, text_encoder
    schedule = base.training_schedule(_scheduler(settings.prediction))
    weights = dict(both.named_parameters())
    optimizer = torch.optim.AdamW(
        weights.values(), lr=settings.unet_learning_rate, weight_decay=1e-2, betas=(0.9, 0.99), fused=True
    )
    ema = EMAModel(weights.values(), decay=settings.ema)
    start = checkpoints.restore(folder, weights, optimizer, ema)
    both.train()
    if device.type == "cpu":  # over so few places the fused attention's backward pass is slower there than plain products
        unet.set_attn_processor(AttnProcessor())
    predict = torch.compile(unet) if settings.compile else unet
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "loss.csv").open("a") as log:
        recent: list[float] = []
        for step in tqdm(range(start, settings.unet_steps), initial=start, total=settings.unet_steps, desc="unet"):
            seed = derive(settings.seed, "unet", step)
            random = np.random.default_rng(seed)
            rows = random.integers(len(moments), size=settings.unet_batch)
            dropped = torch.from_numpy(random.random(settings.unet_batch) < settings.caption_dropout)
            tokens = torch.where(dropped[:, None], empty, ids[rows]).to(device)
            mean, std = moments[rows].float().chunk(2, 1)
            latents = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
            noisy, levels, target = add_noise(latents.to(device), schedule, 0.0, derive(seed, "noise"))
            for group in optimizer.param_groups:
                group["lr"] = settings.unet_learning_rate * _rate(step + 1, settings.unet_steps)
            with torch.autocast(device.type, torch.bfloat16):
                prediction = predict(noisy, levels, text_encoder(tokens)[0], return_dict=False)[0]
            loss = denoising_loss(prediction, target, levels, schedule, None)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            ema.step(weights.values())
            recent.append(float(loss))
            if (step + 1) % 100 == 0:
                log.write(f"{step + 1},{np.mean(recent):.5f}\n")
                log.flush()
                recent.clear()
            if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.unet_steps:
                checkpoints.save(folder, step + 1, weights, optimizer, ema, limit=2)
    ema.copy_to(weights.values())
    both.eval().requires_grad_(False)
    state: dict[str, Any] = {name: tensor.contiguous() for name, tensor in both.state_dict().items()}
    save_file(state, finished)
    return unet, text_encoder
