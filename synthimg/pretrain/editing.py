"""The edit adapter of the embedded base model: taught by pairs of procedural scenes, which cost nothing and are exact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field
from tqdm.auto import tqdm

from ..config import Finetune, Positive
from ..core import files
from ..core.device import choose_precision
from ..core.seeds import derive
from ..data import pairs
from ..diffusion import base, edits
from ..diffusion.train import training_loop


class EditRecipe(BaseModel):
    """Settings of the adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    pairs: Positive = 20000
    """Pairs of scenes, of every kind of edit alike."""
    steps: Annotated[int, Field(ge=0)] = 6000
    """0: no edit adapter."""
    batch: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    rank: Positive = 32
    """Of the LoRA; at 32 the adapter of the embedded model takes 4.9 MB."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    checkpoint_every: Positive = 500

    @property
    def finetune(self) -> Finetune:
        """The same in the words of the training loop."""
        return Finetune(
            batch_size=self.batch,
            learning_rate=self.learning_rate,
            rank=self.rank,
            ema=self.ema,
            warmup=min(200, self.steps),
            checkpoint_every=self.checkpoint_every,
        )


def train_editor(model: Path, recipe: EditRecipe, side: int, work: Path, device: torch.device) -> Path:
    """Teach a finished base model to edit, and put the adapter beside it; returns `<model>/edit`, in float16.

    Args:
        side: of the scenes in pixels.
        work: for latents, checkpoints and the loss; a killed training resumes there.
    """
    place, seed = model / edits.FOLDER, derive(0, "editor")
    if place.exists():
        return place
    pipeline, settings = base.load(str(model), device), recipe.finetune
    lessons = edits.lessons(pipeline, pairs.of_scenes(recipe.pairs, side, seed), settings.flip, work / "latents")
    edits.begin(pipeline, str(model))
    torch.manual_seed(derive(seed, "initialise"))
    edits.attach(pipeline, settings)
    precision = choose_precision("auto", device)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no" if precision == "fp32" else precision)
    schedule = base.training_schedule(pipeline.scheduler)
    objective = edits.editing(schedule, lessons, settings, accelerator)
    loop = training_loop(
        pipeline.unet, objective, settings, recipe.steps, recipe.learning_rate, work / "checkpoints", seed, accelerator
    )
    with tqdm(total=recipe.steps, desc="edit adapter", unit="step") as bar:
        for step in loop:
            bar.update(step.number - bar.n)
            bar.set_postfix(loss=f"{step.loss:.3f}")
    pipeline.unet.half()
    files.write_folder(place, lambda folder: edits.save(pipeline, settings, folder))
    return place
