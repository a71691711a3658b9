"""What the words change: one seed drawn over the whole attribute grid, before a long job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from . import stage
from .config import Config
from .dataset import captions
from .dataset.prepared import prompts_of
from .diffusion import base, sample
from .errors import UserError
from .generate import fine_tuned
from .seeds import derive

MARGIN = 24


def preview(config: Config) -> Path:
    """Draw every cell of the grid from the same noise, by text alone; returns `<run>/preview.png`.

    An axis along which the pictures do not change is one that the model does not follow.

    Raises:
        UserError: the model is not fine-tuned yet, or an axis is unknown.
    """
    run = stage.check(config)
    stage.require(run / "finetune", "the model is not fine-tuned")
    if not config.draws:
        raise UserError("generate.methods: no model draws any of these images, so there is nothing to preview")
    prompts, settings = prompts_of(config), config.generate
    cells = captions.grid(prompts, settings.axes)
    texts = [captions.describe(prompts, 0, config.dataset.rare_class, cell) for cell in cells]
    pipeline = fine_tuned(config, run / "finetune")
    encoded = base.encode_prompts(pipeline, [*texts, prompts.negative])
    seed = derive(config.seed, "preview")
    images: list[np.ndarray] = []
    with tqdm(total=len(cells), desc="preview", unit="image") as bar:
        for start in range(0, len(cells), settings.batch_size):
            rows = list(range(start, min(start + settings.batch_size, len(cells))))
            images.extend(sample.sample(
                pipeline, encoded.rows(rows), encoded.rows([len(cells)] * len(rows)), [seed] * len(rows), settings.steps,
                settings.guidance, config.resolution,
            ))  # fmt: skip
            bar.update(len(rows))
    stage.write_image(run / "preview.png", sheet(images, cells))
    return run / "preview.png"


def sheet(images: list[np.ndarray], cells: list[dict[str, str]]) -> Image.Image:
    """The grid as a table: the last axis across, all others down, each line under the words it stands for.

    Args:
        images: uint8 [H, W, 3], one per cell.
        cells: as `captions.grid` gives them, the last axis changing fastest.
    """
    last = list(cells[0])[-1] if cells[0] else ""
    across = list(dict.fromkeys(cell.get(last, "") for cell in cells))
    side, font = images[0].shape[0], ImageFont.load_default(13)
    down = len(cells) // len(across)
    table = Image.new("RGB", (len(across) * side, MARGIN + down * (side + MARGIN)), "white")
    pen = ImageDraw.Draw(table)
    for column, name in enumerate(across):
        pen.text((column * side + 4, 4), f"{last}: {name}" if last else "", "black", font)
    for i, (image, cell) in enumerate(zip(images, cells, strict=True)):
        row, column = divmod(i, len(across))
        top = MARGIN + row * (side + MARGIN)
        table.paste(Image.fromarray(image), (column * side, top + MARGIN))
        if column == 0:
            words = ", ".join(f"{axis}: {name}" for axis, name in cell.items() if axis != last)
            pen.text((4, top + 4), words, "black", font)
    return table
