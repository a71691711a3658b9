"""What methods draw with: the prepared images, and the fine-tuned model for those that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..core.device import choose_device, choose_precision
from ..data.prepared import Prepared, prompts_of
from ..diffusion import adapters, base, decoder, edits, limit, sample, speed
from ..diffusion.sample import Control, Edit, Start
from .base import composed

Pictures = NDArray[np.uint8]


class Studio:
    """The prepared images, and the fine-tuned model, which is loaded when a method first asks for it.

    Args:
        rows: the whole plan. The prompts of all its rows are encoded together, so that a picture does not depend on which
            others are already there.
        model: the folder of the fine-tuned model.
    """

    def __init__(self, config: Config, prepared: Prepared, rows: pd.DataFrame, model: Path) -> None:
        self.config, self.prepared = config, prepared
        self._rows, self._model, self._row_of = rows, model, prepared.row_of()

    def records(self, ids: Iterable[str]) -> list[int]:
        """The rows of some records among the prepared images."""
        return [self._row_of[name] for name in ids]

    def pixels(self, ids: Iterable[str]) -> Pictures:
        """The real images of some records, uint8 [N, R, R, 3]."""
        return np.asarray(self.prepared.pixels[self.records(ids)])

    def masks(self, ids: Iterable[str]) -> NDArray[np.bool_]:
        """Where the objects of some records are, bool [N, R, R]. For methods that need masks."""
        assert self.prepared.masks is not None  # reading.parse sees to it
        return self.prepared.masks[self.records(ids)] > 0

    @cached_property
    def pipeline(self) -> Any:
        """The fine-tuned model, a diffusers pipeline."""
        return fine_tuned(self.config, self._model)

    def sample(
        self, batch: pd.DataFrame, start: Pictures | None = None, region: NDArray[np.bool_] | None = None,
        conditions: Pictures | None = None,
    ) -> Pictures:  # fmt: skip
        """Draw the pictures of planned rows with the model: prompts, seeds, steps, guidance and strength are the rows' own.

        Args:
            start, region, conditions: images, where they are made new, and condition maps (see `diffusion.sample`).

        Returns:
            uint8 [N, R, R, 3].
        """
        begun = None if start is None else Start(start, float(batch["strength"].iloc[0]), region)
        control = None if conditions is None else Control(conditions, self._controlnet)
        return self._drawn(self.pipeline, batch, begun, control)

    def edit(self, batch: pd.DataFrame, start: Pictures, region: NDArray[np.bool_] | None = None) -> Pictures:
        """Change images as the planned rows say: instructions, seeds, steps and both guidances are the rows' own.

        Args:
            start: the images.
            region: where they may change; None: everywhere.

        Returns:
            uint8 [N, R, R, 3].
        """
        edit = Edit(start, float(batch["image_guidance"].iloc[0]), region)
        return self._drawn(self.editor, batch, edit)

    def _drawn(
        self,
        pipeline: Any,
        batch: pd.DataFrame,
        start: Start | Edit | None,
        control: Control | None = None,
    ) -> Pictures:
        first, count = batch.iloc[0], len(batch)
        prompts, index = self._prompts
        if compiled(self.config):  # it would be compiled anew for a smaller last batch: rows are repeated to fill it
            filled = np.resize(np.arange(count), max(count, self.config.generate.batch_size))
            batch = batch.iloc[filled]
            if start is not None:
                start = start._replace(images=start.images[filled], region=_rows_of(start.region, filled))
            if control is not None:
                control = control._replace(maps=control.maps[filled])
        return sample.sample_images(
            pipeline,
            prompts.rows([index[text] for text in batch["prompt"]]),
            prompts.rows([index[text] for text in batch["negative"]]),
            batch["seed"].tolist(),
            sample.Solver(int(first["steps"]), float(first["guidance"]), self.config.resolution),
            start,
            control,
        )[:count]

    @cached_property
    def editor(self) -> Any:
        """The fine-tuned model that edits, a diffusers pipeline whose denoiser also sees the start image."""
        return fine_tuned(self.config, self._model, edits.adapt)

    @cached_property
    def _prompts(self) -> tuple[base.Prompts, dict[str, int]]:
        """The encoded prompts of the plan, and the place of each text among them."""
        rows = self._rows[~self._rows["method"].isin(composed(self._rows["method"]))]
        texts = sorted(set(rows["prompt"]) | set(rows["negative"]))
        reader = self.__dict__.get("editor") or self.pipeline  # they share the text encoder: whichever is loaded
        limit.tell_cut(reader, self.config, prompts_of(self.config), texts)
        return base.encode_prompts(reader, texts), {text: i for i, text in enumerate(texts)}

    @cached_property
    def _controlnet(self) -> Any:
        device = base.device_of(self.pipeline)
        controlnet = adapters.load_controlnet(self._model / "controlnet", device)
        sample.use_precision(controlnet, choose_precision(self.config.finetune.precision, device))
        return controlnet


def fine_tuned(config: Config, model: Path, adapt: Callable[[Any, str, Path], None] = adapters.adapt) -> Any:
    """The base with a run's adapter, or with what else `adapt` puts there, its denoiser in the configuration's precision."""
    device = choose_device(config.device)
    pipeline = base.load(config.base, device)
    adapt(pipeline, config.base, model)
    if config.finetune.decoder_steps:
        decoder.load(pipeline, model / "vae")
    sample.use_precision(pipeline.unet, choose_precision(config.finetune.precision, device))
    if compiled(config):
        pipeline.unet.compile(dynamic=False)
    return pipeline


def _rows_of(regions: NDArray[np.bool_] | None, rows: NDArray[np.intp]) -> NDArray[np.bool_] | None:
    return None if regions is None else regions[rows]


def compiled(config: Config) -> bool:
    """Whether the denoiser is compiled to draw a run's images; guidance doubles the samples that go through it."""
    samples = config.generate.count * config.generate.steps * (2 if config.generate.guidance > 1 else 1)
    return speed.pays(config.compile, choose_device(config.device), samples)
