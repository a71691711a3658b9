"""Stage 2: adapt the base model to the prepared training images: perhaps the decoder, a LoRA or the whole UNet, perhaps a
ControlNet."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from ..attributes import captions
from ..config import Config
from ..core import stage
from ..core.device import autocast, choose_device, choose_precision
from ..core.seeds import derive
from ..data import conditions, consent
from ..data.prepared import Prepared, load, prompts_of
from ..diffusion import adapters, base, cache, checkpoints, decoder, sample, speed
from ..diffusion.train import Cached, Objective, Step, denoising, predict_controlnet, predict_unet, training_loop
from ..errors import UserError

SECTIONS = ("seed", "base", "resolution", "device", "dataset", "finetune")


def finetune_model(config: Config) -> Path:
    """Train the adapter (and decoder and ControlNet) of a run; returns its folder.

    Works unchanged under `accelerate launch`; a killed training resumes from its newest checkpoint, bit for bit.

    Raises:
        UserError: nothing is prepared, consent to an image has ended, the base cannot be loaded, or masks are wanted and
            there are none.
    """
    run = stage.check(config)
    folder = run / "finetune"
    prepared = load(run)
    key = stage.key(config, "finetune", SECTIONS, [run / "dataset"])
    if stage.is_done(folder, key):
        return folder
    consent.recheck(config.dataset, prepared.frame["path"])
    started = time.monotonic()
    if not config.draws:  # nothing to train
        if PartialState().is_main_process:
            stage.begin(folder, key)
            stage.finish(folder, key, started)
        PartialState().wait_for_everyone()
        return folder
    settings = config.finetune
    stage.begin(folder, key)
    accelerator = _accelerator(config, folder)
    pipeline = base.load(config.base, accelerator.device)
    rows = training_rows(prepared, config)
    cached = _cache(config, prepared, rows, pipeline, accelerator)
    extra = partial(base.extra_conditions, config.resolution)
    seed = derive(config.seed, "finetune")
    digest_of_base = base.fingerprint(*base.modules(pipeline))
    fit = partial(_train, config, folder, pipeline, accelerator, seed)
    if settings.decoder_steps:
        if not (folder / "vae").exists():
            if settings.gradient_checkpointing:
                pipeline.vae.enable_gradient_checkpointing()
            pictured = cached._replace(conditions=prepared.pixels, condition_of=rows)
            loss = decoder.reconstruction(pictured, pipeline.vae.config.scaling_factor, settings, accelerator)
            fit("decoder", decoder.trainable(pipeline.vae), loss, settings.decoder_steps, settings.decoder_learning_rate)
            if accelerator.is_main_process:
                _appear(folder / "vae", pipeline.vae.save_pretrained)
        accelerator.wait_for_everyone()
        decoder.load(pipeline, folder / "vae")
    objective = partial(
        denoising, schedule=base.training_schedule(pipeline.scheduler), settings=settings, accelerator=accelerator
    )
    if not (folder / "adapter").exists():
        torch.manual_seed(derive(seed, "initialise"))
        adapters.attach(pipeline, settings)
        precision = accelerator.mixed_precision
        if settings.method == "lora" and precision != "no":
            speed.lighten(pipeline.unet, sample.DTYPES[precision])
        if speed.pays(config.compile, accelerator.device, settings.steps * settings.accumulate * settings.batch_size):
            pipeline.unet.compile(dynamic=False)
        loss = objective(predict_unet(extra), cached=cached)
        fit("adapter", pipeline.unet, loss, settings.steps, settings.learning_rate)
        if accelerator.is_main_process:
            _appear(folder / "adapter", partial(adapters.save, pipeline, settings))
    accelerator.wait_for_everyone()
    if settings.controlnet and not (folder / "controlnet").exists():
        pipeline = base.load(config.base, accelerator.device)
        adapters.load(pipeline, folder / "adapter")
        mapped = _with_conditions(settings.controlnet, prepared, rows, cached)
        controlnet = adapters.new_controlnet(pipeline)
        loss = objective(predict_controlnet(pipeline.unet, extra), cached=mapped)
        fit("controlnet", controlnet, loss, settings.controlnet_steps, settings.learning_rate)
        if accelerator.is_main_process:
            _appear(folder / "controlnet", controlnet.save_pretrained)
    accelerator.end_training()
    facts = {"images": len(rows), "precision": accelerator.mixed_precision, "base": digest_of_base}
    if accelerator.is_main_process:
        checkpoints.discard(folder / "checkpoints")
        stage.finish(folder, key, started, facts)
    accelerator.wait_for_everyone()
    return folder


def training_rows(prepared: Prepared, config: Config) -> np.ndarray:
    """Rows that may train: the training split; the rare class alone where rare_share is 1."""
    frame = prepared.frame
    chosen = frame["split"] == "train"
    if config.finetune.rare_share == 1:
        chosen &= frame["label"] == config.dataset.rare_class
    return np.flatnonzero(chosen)


def draw_weights(labels: np.ndarray, rare_class: str, rare_share: float) -> np.ndarray:
    """Chance of each image to be drawn: the rare class gets `rare_share` in all, the others the rest, evenly per image."""
    rare = labels == rare_class
    if rare.all():
        return np.full(len(labels), 1 / len(labels))
    weight = np.where(rare, rare_share / rare.sum(), (1 - rare_share) / (~rare).sum())
    return weight / weight.sum()


def _with_conditions(kind: Any, prepared: Prepared, rows: np.ndarray, cached: Cached) -> Cached:
    """Condition maps beside the latents; an image whose mask is missing is not drawn, lest blank come to mean lesion."""
    weight = cached.weight * (prepared.frame["mask"].to_numpy()[rows] if kind == "mask" else 1)
    if not weight.sum():
        raise UserError("finetune.controlnet: no training image has a mask")
    drawn = conditions.maps(kind, prepared.pixels, prepared.masks, rows)
    return cached._replace(conditions=drawn, condition_of=np.arange(len(rows)), weight=weight / weight.sum())


def _accelerator(config: Config, folder: Path) -> Accelerator:
    settings = config.finetune
    device = choose_device(config.device)
    precision = choose_precision(settings.precision, device)
    try:
        return Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="no" if precision == "fp32" else precision,
            gradient_accumulation_steps=settings.accumulate,
            log_with=None if settings.tracker == "none" else settings.tracker,
            project_dir=folder / "logs",
        )
    except (ValueError, ImportError) as error:
        raise UserError(f"finetune.tracker '{settings.tracker}': {' '.join(str(error).split())}") from error


def _cache(config: Config, prepared: Prepared, rows: np.ndarray, pipeline: Any, accelerator: Accelerator) -> Cached:
    frame = prepared.frame.iloc[rows]
    texts, folder = ["", *sorted(set(frame["caption"]))], Path(config.outputs) / ".cache"
    with accelerator.main_process_first():
        moments = cache.moments(pipeline, prepared.pixels[rows], config.finetune.flip, folder)
        prompts = cache.prompts(pipeline, texts, folder)
    labels = frame["label"].to_numpy()
    return Cached(
        moments=moments,
        prompts=prompts,
        prompt_of=torch.tensor([texts.index(text) for text in frame["caption"]]),
        weight=draw_weights(labels, config.dataset.rare_class, config.finetune.rare_share),
    )


def _train(
    config: Config, folder: Path, pipeline: Any, accelerator: Accelerator, seed: int, part: str, model: nn.Module,
    loss: Objective, steps: int, learning_rate: float,
) -> None:  # fmt: skip
    """Run the loop of one part to its end: loss table, tracker, validation sheets, progress."""
    settings = config.finetune
    if accelerator.log_with and not accelerator.trackers:
        accelerator.init_trackers("synthimg")
    loop = _finite(part, training_loop(
        model, loss, settings, steps, learning_rate, folder / "checkpoints" / part, derive(seed, part), accelerator,
    ))  # fmt: skip
    with tqdm(total=steps, desc=f"fine-tune {part}", unit="step", disable=not accelerator.is_main_process) as bar:
        for step in _logged(loop, folder / f"loss-{part}.csv") if accelerator.is_main_process else loop:
            bar.update(step.number - bar.n)
            bar.set_postfix(loss=f"{step.loss:.3f}")
            accelerator.log({f"{part}/loss": step.loss, f"{part}/learning_rate": step.learning_rate}, step.number)
            due = step.number % settings.validate_every == 0 or step.number == steps
            if due and part == "adapter" and accelerator.is_main_process:
                _validate(config, pipeline, step, folder / "validation" / f"step-{step.number:05d}.png")
    accelerator.free_memory()  # else the optimiser of this part stays until the last one ends


def _finite(part: str, loop: Iterator[Step]) -> Iterator[Step]:
    try:
        yield from loop
    except FloatingPointError as error:
        key = "decoder_learning_rate" if part == "decoder" else "learning_rate"
        raise UserError(f"finetune: {part}: {error}; lower finetune.{key}") from error


def _logged(loop: Iterator[Step], path: Path) -> Iterator[Step]:
    """Keep the loss table in step with training: rows behind the checkpoint that a resumed run starts from are dropped."""
    first = next(loop, None)
    if first is None:
        return
    known = path.read_text().splitlines()[: first.number] if path.exists() else ["step,loss,learning_rate"]
    stage.write_bytes(path, ("\n".join(known) + "\n").encode())
    with path.open("a") as file:
        for step in chain([first], loop):
            file.write(f"{step.number},{step.loss:.6f},{step.learning_rate:.4e}\n")
            file.flush()
            yield step


def _validate(config: Config, pipeline: Any, step: Step, path: Path, columns: int = 4) -> None:
    """Draw the first cells of the rare class's attribute grid with the averaged weights, always with the same seeds."""
    prompts = prompts_of(config)
    cells = captions.grid(prompts, config.generate.axes)[: 2 * columns]
    texts = [captions.describe(prompts, 0, config.dataset.rare_class, cell) for cell in cells]
    encoded = base.encode_prompts(pipeline, [*texts, prompts.negative])
    trained = [parameter for parameter in pipeline.unet.parameters() if parameter.requires_grad]
    if step.ema:
        step.ema.store(trained)
        step.ema.copy_to(trained)
    pipeline.unet.eval()
    # a compiled denoiser would be compiled again for these eight pictures
    count, device = len(texts), base.device_of(pipeline)
    with autocast(device, choose_precision(config.finetune.precision, device)), torch.compiler.set_stance("force_eager"):
        images = sample.sample_images(
            pipeline, encoded.rows(list(range(count))), encoded.rows([count] * count),
            [derive(config.seed, "validation", i) for i in range(count)],
            sample.Solver(config.generate.steps, config.generate.guidance, config.resolution),
        )  # fmt: skip
    pipeline.unet.train()
    if step.ema:
        step.ema.restore(trained)
    sheet = Image.new("RGB", (columns * config.resolution, -(-count // columns) * config.resolution))
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (i % columns * config.resolution, i // columns * config.resolution))
    stage.write_image(path, sheet)


def _appear(folder: Path, write: Any) -> None:
    """Let a folder appear whole: written beside its place, then renamed."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    part.replace(folder)
