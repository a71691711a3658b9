"""One picture, or a folder of them, changed by an instruction: by a run's model that edits, or by a base that can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from ..config import Config
from ..core import files
from ..core.device import choose_device, choose_precision
from ..core.seeds import derive
from ..data import images
from ..data.provenance import encode_png
from ..data.walk import is_picture
from ..diffusion import base, edits, sample
from ..errors import UserError
from ..methods.studio import fine_tuned
from ..reading import config_of

GRID = 8
"""Sides of edited pictures are multiples of it: what the autoencoder takes for one place."""


class Strength(NamedTuple):
    """How an edit is made: solver steps, guidance towards the instruction, guidance towards the start image, root seed."""

    steps: int = 20
    guidance: float = 5.0
    image_guidance: float = 1.5
    seed: int = 0


def edit_images(model: str, source: Path, instruction: str, to: Path, how: Strength = Strength()) -> Path:  # noqa: B008
    """Edit a picture, or every picture of a folder; returns `to`.

    A picture comes out at the model's scale: its shorter side is the model's resolution. The PNG says how it was made.

    Args:
        model: a run's folder, or a base model that has a folder `edit/`.
        source: an image file, or a folder of them.
        to: a PNG file, or for a folder one that does not exist yet. It appears whole or not at all.

    Raises:
        UserError: the model cannot edit, `to` is there already or is no PNG, or a picture cannot be read.
    """
    source, to = files.expanded(source), files.expanded(to)
    pictures = _pictures(source)
    if to.exists():
        raise UserError(f"{to}: exists already; nothing was changed, choose another name")
    if not source.is_dir() and to.suffix.lower() != ".png":
        raise UserError(f"{to}: expected a name that ends in .png, which can say how the picture was made")
    if not instruction.strip():
        raise UserError('the instruction is empty; say what is to change, such as "add a crack"')
    for path in pictures.values():  # an unreadable one is named before the work begins
        _opened(path)
    pipeline, side = editor(model)
    prompts = base.encode_prompts(pipeline, [instruction, ""])

    def edited() -> Iterator[tuple[str, bytes]]:
        for name, path in tqdm(pictures.items(), desc="edit", unit="image"):
            seed = derive(how.seed, "edit", name)
            start = scaled(_opened(path), side)[None]
            solver = sample.Solver(how.steps, how.guidance, side)
            edit = sample.Edit(start, how.image_guidance)
            found = sample.sample_images(pipeline, prompts.rows([0]), prompts.rows([1]), [seed], solver, edit)[0]
            row = {"method": "edit", "model": model, "source": path.name, "prompt": instruction, **how._asdict()}
            yield name, encode_png(found, row, "trainedAlgorithmicMedia")

    if source.is_dir():

        def write(folder: Path) -> None:
            for name, content in edited():
                files.write_bytes(folder / name, content)

        files.write_folder(to, write)
    else:
        ((_, content),) = edited()
        files.write_bytes(to, content)
    return to


def scaled(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    """A picture whose shorter side is `side` and whose sides are multiples of GRID: uint8 [H, W, 3]."""
    factor = side / min(picture.size)
    width, height = (max(GRID, round(length * factor / GRID) * GRID) for length in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def _pictures(source: Path) -> dict[str, Path]:
    """The image files, by the name of what comes out.

    Raises:
        UserError: there is none, or two would come out under one name.
    """
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if not source.is_dir():
        return {f"{source.stem}.png": source}
    found = sorted(path for path in source.iterdir() if is_picture(path.name))
    if not found:
        raise UserError(f"{source}: holds no image")
    named: dict[str, Path] = {}
    for path in found:
        other = named.setdefault(f"{path.stem}.png", path)
        if other is not path:
            raise UserError(f"{path}: would come out as {path.stem}.png, and so would {other.name}; rename one of them")
    return named


def _opened(path: Path) -> Image.Image:
    try:
        return images.read(path)
    except images.UnreadableError as error:
        raise UserError(f"{path}: {error}") from error


def editor(model: str) -> tuple[Any, int]:
    """A pipeline whose denoiser edits, and the side of the pictures that it knows.

    Raises:
        UserError: the model cannot edit, or is none.
    """
    run = files.expanded(model)
    if (run / "config.yaml").exists():
        config = config_of(run)
        return fine_tuned(config, _model_of(config, run), edits.adapt), config.resolution
    if edits.own_editor(model) is None:
        raise UserError(
            f"base '{model}': has no model that edits (a folder {edits.FOLDER}/); name a run that was fine-tuned with "
            "finetune.edits, such as {scenes: 500}"
        )
    device = choose_device("auto")
    pipeline = base.load(model, device)
    edits.begin(pipeline, model)
    sample.use_precision(pipeline.unet, choose_precision("auto", device))
    return pipeline, pipeline.unet.config.sample_size * pipeline.vae_scale_factor


def _model_of(config: Config, run: Path) -> Path:
    """The fine-tuned model of a run that edits; of one with parts, that of the final part or else of the first."""
    if len(config.parts) > 1:
        parts = [config.model_copy(update={"part": "final"}), *config.parts]
        places = [run / part.folder.relative_to(config.root) for part in parts]
    else:
        places = [run]
    for place in places:
        if (place / "finetune" / edits.FOLDER).is_dir():
            return place / "finetune"
    raise UserError(f"{run}: has no model that edits; set finetune.edits, such as {{procedural: 200}}, and run finetune")
