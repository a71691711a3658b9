"""What the attributes change: one picture for each cell of the grid, before a long job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from ..attributes import captions
from ..config import Config
from ..core import files, stage
from ..core.seeds import derive
from ..data import consent
from ..data.prepared import load, prompts_of
from ..diffusion import base, limit, sample
from ..methods.base import find
from ..methods.studio import Studio, fine_tuned
from ..stages.generate import plan

MARGIN = 24
Cells = list[dict[str, str]]


def preview_grid(config: Config) -> Path:
    """Draw every cell of the grid once; returns `<run>/preview.png`.

    Where a model draws: by text alone and from the same noise, so that an axis along which the pictures do not change is one
    that the model does not follow. Else, for every method, the first picture of each cell, as a job makes it that has enough
    pictures of the method for all cells.

    Raises:
        UserError: the data set is not prepared or the model not fine-tuned yet, consent to an image has ended, an axis is
            unknown, no rare image has an object to give, or no defect shows on any image.
    """
    stage.check(config)
    config = config.parts[0]  # a run with folds has a model for each; the first one shows what they do
    run = config.folder
    if config.draws_with_model:
        stage.require(run / "finetune", "the model is not fine-tuned")
    prompts = prompts_of(config)
    consent.recheck(config.dataset, load(config).frame["path"])
    cells = captions.grid(prompts, config.generate.axes, config.dataset.deployment)
    table = sheet(*(_by_text if config.draws_with_model else _without_model)(config, prompts, cells))
    files.write_image(config.root / "preview.png", table)
    return config.root / "preview.png"


def _by_text(config: Config, prompts: captions.Prompts, cells: Cells) -> tuple[list[np.ndarray], Cells]:
    """One picture for each cell, all from one seed, and the cells."""
    settings = config.generate
    texts = [captions.describe(prompts, 0, config.dataset.rare_class, cell) for cell in cells]
    pipeline = fine_tuned(config, config.folder / "finetune")
    limit.tell_cut(pipeline, config, prompts, [*texts, prompts.negative])
    encoded = base.encode_prompts(pipeline, [*texts, prompts.negative])
    seed, solver = derive(config.seed, "preview"), sample.Solver(settings.steps, settings.guidance, config.resolution)
    images: list[np.ndarray] = []
    with tqdm(total=len(cells), desc="preview", unit="image") as bar:
        for start in range(0, len(cells), settings.batch_size):
            rows = list(range(start, min(start + settings.batch_size, len(cells))))
            images.extend(sample.sample_images(
                pipeline, encoded.rows(rows), encoded.rows([len(cells)] * len(rows)), [seed] * len(rows), solver,
            ))  # fmt: skip
            bar.update(len(rows))
    return images, cells


def _without_model(config: Config, prompts: captions.Prompts, cells: Cells) -> tuple[list[np.ndarray], Cells]:
    """The first picture of each cell and method of the plan, and the cells with their methods."""
    prepared, each = load(config), dict.fromkeys(config.generate.methods, 1.0)
    settings = {"count": len(cells) * len(each), "methods": each}  # one pass over the grid
    first = config.model_copy(update={"generate": config.generate.model_copy(update=settings)})
    rows = plan(first, prompts, prepared, "")
    studio = Studio(first, prepared, rows, config.folder / "finetune")
    asked = [tuple(row) for row in rows[[f"attribute.{axis}" for axis in cells[0]]].to_numpy()]
    images, shown = [], []
    for method, part in rows.groupby("method", sort=False):
        pictures = find(str(method)).draw(part, studio)
        picture_of = dict(zip([asked[i] for i in part.index], pictures, strict=True))
        images += [picture_of[tuple(cell.values())] for cell in cells]
        shown += [{"generate.methods": str(method), **cell} for cell in cells]
    return images, shown


def sheet(images: list[np.ndarray], cells: Cells) -> Image.Image:
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
