"""What methods draw with: the prepared images, and the fine-tuned model for those that need it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..core.device import choose_device, choose_precision
from ..data.prepared import Prepared, prompts_of
from ..diffusion import adapters, base, decoder, limit, sample, speed
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
        first, count = batch.iloc[0], len(batch)
        prompts, index = self._prompts
        if compiled(self.config):  # it would be compiled anew for a smaller last batch: rows are repeated to fill it
            filled = np.resize(np.arange(count), max(count, self.config.generate.batch_size))
            batch = batch.iloc[filled]
            start, conditions = _rows_of(start, filled), _rows_of(conditions, filled)
            region = None if region is None else region[filled]
        return sample.sample_images(
            self.pipeline,
            prompts.rows([index[text] for text in batch["prompt"]]),
            prompts.rows([index[text] for text in batch["negative"]]),
            batch["seed"].tolist(),
            sample.Solver(int(first["steps"]), float(first["guidance"]), self.config.resolution),
            None if start is None else sample.Start(start, float(first["strength"]), region),
            None if conditions is None else sample.Control(conditions, self._controlnet),
        )[:count]  # fmt: skip

    @cached_property
    def _prompts(self) -> tuple[base.Prompts, dict[str, int]]:
        """The encoded prompts of the plan, and the place of each text among them."""
        rows = self._rows[~self._rows["method"].isin(composed(self._rows["method"]))]
        texts = sorted(set(rows["prompt"]) | set(rows["negative"]))
        limit.tell_cut(self.pipeline, self.config, prompts_of(self.config), texts)
        return base.encode_prompts(self.pipeline, texts), {text: i for i, text in enumerate(texts)}

    @cached_property
    def _controlnet(self) -> Any:
        device = base.device_of(self.pipeline)
        controlnet = adapters.load_controlnet(self._model / "controlnet", device)
        sample.use_precision(controlnet, choose_precision(self.config.finetune.precision, device))
        return controlnet


def fine_tuned(config: Config, model: Path) -> Any:
    """The base with a run's adapter, its denoiser in the precision of the configuration."""
    device = choose_device(config.device)
    pipeline = base.load(config.base, device)
    adapters.load(pipeline, model / "adapter")
    if config.finetune.decoder_steps:
        decoder.load(pipeline, model / "vae")
    sample.use_precision(pipeline.unet, choose_precision(config.finetune.precision, device))
    if compiled(config):
        pipeline.unet.compile(dynamic=False)
    return pipeline


def _rows_of(images: Pictures | None, rows: NDArray[np.intp]) -> Pictures | None:
    return None if images is None else images[rows]


def compiled(config: Config) -> bool:
    """Whether the denoiser is compiled to draw a run's images; guidance doubles the samples that go through it."""
    samples = config.generate.count * config.generate.steps * (2 if config.generate.guidance > 1 else 1)
    return speed.pays(config.compile, choose_device(config.device), samples)
