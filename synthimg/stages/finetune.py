"""Stage 2: adapt the base model to the prepared training images: perhaps the decoder, a LoRA or the whole UNet, perhaps a
ControlNet, perhaps a model that edits by instructions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from ..attributes import captions
from ..config import Config
from ..core import files, stage
from ..core.device import autocast, choose_device, choose_precision
from ..core.seeds import derive
from ..data import conditions, consent
from ..data.prepared import Prepared, load, prompts_of
from ..diffusion import adapters, base, cache, checkpoints, decoder, edits, limit, sample, speed
from ..diffusion.accelerator import accelerator_for
from ..diffusion.train import (
    Cached,
    Objective,
    Predict,
    Step,
    denoising,
    predict_controlnet,
    predict_unet,
    training_loop,
)
from ..errors import UserError
from ..methods.base import Material
from ..methods.pairs import all_pairs
from ..methods.refined import lessons

SECTIONS = ("seed", "base", "resolution", "device", "compile", "dataset", "finetune")
SHEET_COLUMNS, SHEET_STEPS, SHEET_GUIDANCE = 4, 20, 3.0
"""The validation sheets are part of this stage's result, so they take no setting of another stage's."""


class Training(NamedTuple):
    """What the trained parts of one run share."""

    config: Config
    folder: Path
    prepared: Prepared
    rows: np.ndarray
    """Rows of `prepared` that may train."""
    accelerator: Accelerator
    pipeline: Any
    """The base, to which the parts are added as they are trained."""
    cached: Cached
    seed: int


class Part(NamedTuple):
    """One model to train, and how it is saved."""

    name: str
    model: nn.Module
    objective: Objective
    steps: int
    learning_rate: float
    save: Callable[[Path], object]


@stage.over_parts
def finetune_model(config: Config) -> Path:
    """Train the adapter (and decoder and ControlNet) of a run; returns its folder.

    Works unchanged under `accelerate launch`; a killed training resumes from its newest checkpoint, bit for bit.

    Raises:
        UserError: nothing is prepared, consent to an image has ended, the base cannot be loaded, or masks are wanted and
            there are none.
    """
    run, started = stage.check(config), time.monotonic()
    folder, prepared = run / "finetune", load(config)
    consent.recheck(config.dataset, prepared.frame["path"])
    key = stage.key(config, "finetune", SECTIONS, [config.root / "dataset"])
    if config.draws_with_model:
        key["inputs"]["base"] = base.digest(config.base)
    if config.finetune.drawn or config.finetune.edits:
        key["inputs"]["defects"] = config.generate.defects
    processes = PartialState(cpu=choose_device(config.device).type == "cpu")
    # each process draws a batch of its own, so with another number of them another model comes out
    if stage.enter_together(folder, key, processes, also=processes.num_processes):
        return folder
    facts = _train_parts(config, folder, prepared) if config.draws_with_model else {}
    if processes.is_main_process:
        checkpoints.discard(folder / "checkpoints")
        stage.finish(folder, key, started, facts)
    processes.wait_for_everyone()
    return folder


def _train_parts(config: Config, folder: Path, prepared: Prepared) -> dict[str, Any]:
    """Train what is not in the folder yet, one part after another; returns facts for the manifest."""
    accelerator = accelerator_for(config, folder)
    pipeline, rows = base.load(config.base, accelerator.device), training_rows(prepared, config)
    if config.finetune.edits:
        edits.check(pipeline, config.base)
    cached = _cache(config, prepared, rows, pipeline, accelerator)
    facts = {
        "images": len(rows),
        "precision": accelerator.mixed_precision,
        "base": base.fingerprint(*base.modules(pipeline)),
    }
    seed = derive(config.seed, "finetune")
    training = Training(config, folder, prepared, rows, accelerator, pipeline, cached, seed)
    if config.finetune.decoder_steps:
        _train(training, folder / "vae", _decoder)
        decoder.load(pipeline, folder / "vae")
    _train(training, folder / "adapter", _adapter)
    if config.finetune.controlnet:
        _train(training, folder / "controlnet", _controlnet)
    if config.finetune.edits:
        _train(training, folder / edits.FOLDER, _edit)
    for tracker in accelerator.trackers:
        tracker.finish()
    return facts


def _decoder(training: Training) -> Part:
    settings, vae = training.config.finetune, training.pipeline.vae
    if settings.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
    known = real_images(training.cached, training.config, len(training.rows))
    pictured = known._replace(conditions=training.prepared.pixels, condition_of=training.rows)
    objective = decoder.reconstruction(pictured, vae.config.scaling_factor, settings, training.accelerator)
    steps, rate = settings.decoder_steps, settings.decoder_learning_rate
    return Part("decoder", decoder.trainable(vae), objective, steps, rate, vae.save_pretrained)


def _adapter(training: Training) -> Part:
    settings, pipeline = training.config.finetune, training.pipeline
    torch.manual_seed(derive(training.seed, "initialise"))
    adapters.attach(pipeline, settings)
    _hasten(training, pipeline.unet, settings.steps)
    objective = _denoising(training, predict_unet(_extra(training)), training.cached)
    save = partial(adapters.save, pipeline, settings)
    return Part("adapter", pipeline.unet, objective, settings.steps, settings.learning_rate, save)


def _hasten(training: Training, unet: Any, steps: int) -> None:
    """Let a denoiser train for so many steps at the device's speed; see diffusion/speed.py."""
    config, accelerator = training.config, training.accelerator
    settings, precision = config.finetune, accelerator.mixed_precision
    if settings.method == "lora" and precision != "no":
        speed.lighten(unet, sample.DTYPES[precision])
    if speed.pays(config.compile, accelerator.device, steps * settings.accumulate * settings.batch_size):
        unet.compile(dynamic=False)


def _controlnet(training: Training) -> Part:
    settings, pipeline = training.config.finetune, _adapted(training)
    model = adapters.new_controlnet(pipeline)
    objective = _denoising(training, predict_controlnet(pipeline.unet, _extra(training)), _with_conditions(training))
    return Part("controlnet", model, objective, settings.controlnet_steps, settings.learning_rate, model.save_pretrained)


def _edit(training: Training) -> Part:
    config, accelerator, pipeline = training.config, training.accelerator, _adapted(training)
    settings = config.finetune
    edits.begin(pipeline, config.base)
    torch.manual_seed(derive(training.seed, "initialise edit"))
    edits.attach(pipeline, settings)
    _hasten(training, pipeline.unet, settings.edit_steps)
    pairs = all_pairs(Material(config, prompts_of(config), training.prepared))
    with accelerator.main_process_first():
        taught = edits.lessons(pipeline, pairs, settings.flip, stage.cache_of(config))
    schedule = base.training_schedule(pipeline.scheduler)
    objective = edits.editing(schedule, taught, settings, accelerator)
    save = partial(edits.save, pipeline, settings)
    return Part("edit", pipeline.unet, objective, settings.edit_steps, settings.learning_rate, save)


def _adapted(training: Training) -> Any:
    """The base with the adapter as it was saved: the pipeline at hand may hold adapters that are still apart."""
    pipeline = base.load(training.config.base, training.accelerator.device)
    adapters.load(pipeline, training.folder / "adapter")
    return pipeline


def _denoising(training: Training, predict: Predict, cached: Cached) -> Objective:
    schedule = base.training_schedule(training.pipeline.scheduler)
    return denoising(predict, schedule, cached, training.config.finetune, training.accelerator)


def _extra(training: Training) -> Callable[..., Any]:
    return partial(base.extra_conditions, training.config.resolution)


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
    if rare.all() or not rare.any():
        return np.full(len(labels), 1 / len(labels))
    weight = np.where(rare, rare_share / rare.sum(), (1 - rare_share) / (~rare).sum())
    return weight / weight.sum()


def _with_conditions(training: Training) -> Cached:
    """Condition maps beside the latents; an image whose mask is missing is not drawn, lest blank come to mean lesion."""
    prepared, rows, kind = training.prepared, training.rows, training.config.finetune.controlnet
    cached = real_images(training.cached, training.config, len(rows))
    assert kind is not None
    weight = cached.weight * (prepared.frame["mask"].to_numpy()[rows] if kind == "mask" else 1)
    if not weight.sum():
        raise UserError("finetune.controlnet: no training image has a mask")
    drawn = conditions.maps(kind, prepared.pixels, prepared.masks, rows)
    return cached._replace(conditions=drawn, condition_of=np.arange(len(rows)), weight=weight / weight.sum())


def _cache(config: Config, prepared: Prepared, rows: np.ndarray, pipeline: Any, accelerator: Accelerator) -> Cached:
    """The images to train on: the rows given, and the drawn pictures that join them, if there are any."""
    folder, flip, rare = stage.cache_of(config), config.finetune.flip, config.dataset.rare_class
    frame = prepared.frame.iloc[rows]
    labels, told = list(frame["label"]), list(frame["caption"])
    with accelerator.main_process_first():
        if config.part:  # the other parts want other rows of the same images
            moments = cache.moments(pipeline, prepared.pixels, flip, folder)[rows]
        else:
            moments = cache.moments(pipeline, prepared.pixels[rows], flip, folder)
        if config.finetune.drawn:
            drawn, words = lessons(Material(config, prompts_of(config), prepared), config.finetune.drawn)
            moments = torch.cat([moments, cache.moments(pipeline, drawn, flip, folder)])
            labels, told = labels + [rare] * len(drawn), told + words
        limit.tell_cut(pipeline, config, prompts_of(config), told)
        texts = ["", *sorted(set(told))]
        prompts = cache.prompts(pipeline, texts, folder)
    index = {text: number for number, text in enumerate(texts)}
    return Cached(
        moments=moments,
        prompts=prompts,
        prompt_of=torch.tensor([index[text] for text in told]),
        weight=draw_weights(np.array(labels, object), rare, config.finetune.rare_share),
    )


def real_images(cached: Cached, config: Config, count: int) -> Cached:
    """Without the drawn pictures, which are no originals: what the decoder and a ControlNet learn from."""
    if not config.finetune.drawn:
        return cached
    weight = cached.weight[:count]
    return cached._replace(moments=cached.moments[:count], prompt_of=cached.prompt_of[:count], weight=weight / weight.sum())


def _train(training: Training, place: Path, build: Callable[[Training], Part]) -> None:
    """Train one part unless it is there already, and save it to `place`, which appears whole or not at all."""
    accelerator = training.accelerator
    if not place.exists():
        part = build(training)
        _run_loop(training, part)
        if accelerator.is_main_process:
            files.write_folder(place, part.save)
    accelerator.wait_for_everyone()


def _run_loop(training: Training, part: Part) -> None:
    """Run the loop of one part to its end: loss table, tracker, validation sheets, progress."""
    folder, accelerator, settings = training.folder, training.accelerator, training.config.finetune
    if accelerator.log_with and not accelerator.trackers:
        accelerator.init_trackers("synthimg")
    loop = _finite(part.name, training_loop(
        part.model, part.objective, settings, part.steps, part.learning_rate, folder / "checkpoints" / part.name,
        derive(training.seed, part.name), accelerator,
    ))  # fmt: skip
    main = accelerator.is_main_process
    with tqdm(total=part.steps, desc=f"fine-tune {part.name}", unit="step", disable=not main) as bar:
        for step in _logged(loop, folder / f"loss-{part.name}.csv") if main else loop:
            bar.update(step.number - bar.n)
            bar.set_postfix(loss=f"{step.loss:.3f}")
            rates = {f"{part.name}/loss": step.loss, f"{part.name}/learning_rate": step.learning_rate}
            accelerator.log(rates, step.number)
            due = step.number % settings.validate_every == 0 or step.number == part.steps
            if due and part.name == "adapter" and main:
                _validate(training, step, folder / "validation" / f"step-{step.number:05d}.png")
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
    files.write_bytes(path, ("\n".join(known) + "\n").encode())
    with path.open("a") as file:
        for step in chain([first], loop):
            file.write(f"{step.number},{step.loss:.6f},{step.learning_rate:.4e}\n")
            file.flush()
            yield step


def _validate(training: Training, step: Step, path: Path) -> None:
    """Draw the first cells of the rare class's attribute grid with the averaged weights, always with the same seeds."""
    config, pipeline = training.config, training.pipeline
    prompts, side = prompts_of(config), config.resolution
    cells = captions.grid(prompts, [])[: 2 * SHEET_COLUMNS]
    texts = [captions.describe(prompts, 0, config.dataset.rare_class, cell) for cell in cells]
    encoded = base.encode_prompts(pipeline, [*texts, prompts.negative])
    trained = [parameter for parameter in pipeline.unet.parameters() if parameter.requires_grad]
    if step.ema:
        step.ema.store(trained)
        step.ema.copy_to(trained)
    pipeline.unet.eval()
    count, device = len(texts), base.device_of(pipeline)
    # a compiled denoiser would be compiled once more for these few pictures
    with autocast(device, choose_precision(config.finetune.precision, device)), torch.compiler.set_stance("force_eager"):
        images = sample.sample_images(
            pipeline, encoded.rows(list(range(count))), encoded.rows([count] * count),
            [derive(config.seed, "validation", i) for i in range(count)],
            sample.Solver(SHEET_STEPS, SHEET_GUIDANCE, side),
        )  # fmt: skip
    pipeline.unet.train()
    if step.ema:
        step.ema.restore(trained)
    sheet = Image.new("RGB", (SHEET_COLUMNS * side, -(-count // SHEET_COLUMNS) * side))
    for i, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (i % SHEET_COLUMNS * side, i // SHEET_COLUMNS * side))
    files.write_image(path, sheet)
