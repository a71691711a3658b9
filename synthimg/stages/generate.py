"""Stage 3: an immutable plan of rare-class images under controlled variation, then the images."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..attributes import captions
from ..config import Config
from ..core import files, stage
from ..core.device import choose_device
from ..core.seeds import derive
from ..data import consent
from ..data.prepared import Prepared, load, prompts_of
from ..data.provenance import encode_png
from ..errors import UserError
from ..methods import starts
from ..methods.base import Columns, Material, Wish, code_from_outside, find
from ..methods.studio import Studio

SECTIONS = ("seed", "base", "resolution", "device", "compile", "dataset", "finetune", "generate")
NAN = float("nan")
DEFAULTS = {
    "source": "",
    "ground": "",
    "scale": NAN,
    "defects": "",
    "like": "",
    "condition": "",
    "strength": NAN,
    "region": "",
    "image_guidance": NAN,
    "detail": NAN,
}
"""Columns that some methods fill."""


@stage.over_parts
def generate_images(config: Config) -> Path:
    """Plan and draw the images of a run; returns its folder. Killed at any moment, it continues where it was.

    Under `accelerate launch` or `torchrun` the processes share the images: each is drawn once, as a single process draws it.

    Raises:
        UserError: the adapter is not trained yet, consent to an image has ended, the plan names an unknown axis, or a method
            has no image to start from.
    """
    run = stage.check(config)
    folder = run / "generate"
    prepared = load(config)
    consent.recheck(config.dataset, prepared.frame["path"])
    stage.require(run / "finetune", "the model is not fine-tuned")
    key = stage.key(config, "generate", SECTIONS, [config.root / "dataset", run / "finetune"])
    key["inputs"] |= {name: files.digest(file) for name, file in code_from_outside(config.generate.methods).items()}
    processes = PartialState(cpu=choose_device(config.device).type == "cpu")
    if stage.enter_together(folder, key, processes):
        return folder
    started = time.monotonic()
    if processes.is_main_process and not (folder / "plan.parquet").exists():
        model = files.digest(run / "finetune" / "manifest.json")
        files.write_table(folder / "plan.parquet", plan(config, prompts_of(config), prepared, model))
    processes.wait_for_everyone()
    rows = pd.read_parquet(folder / "plan.parquet")
    share = processes.process_index, processes.num_processes
    draw(config, prepared, rows, run / "finetune", folder / "images", share)
    processes.wait_for_everyone()
    if processes.is_main_process:
        passed_over = int(rows["passed_over"].sum())
        if passed_over:
            tqdm.write(f"generate: {passed_over} real images were passed over, since nothing would show on them")
        stage.finish(folder, key, started, {"images": len(rows), "passed_over": passed_over})
    processes.wait_for_everyone()
    return folder


def plan(config: Config, prompts: captions.Prompts, prepared: Prepared, model: str) -> pd.DataFrame:
    """The table of images to make: methods by weight, each over the balanced attribute grid.

    Args:
        model: digest of the model that will draw; part of every id.

    Returns:
        One row per image with the columns of docs/architecture.md.

    Raises:
        UserError: an unknown axis, or a method has no image to start from.
    """
    settings = config.generate
    cells = captions.grid(prompts, settings.axes, config.dataset.deployment)
    rows, material = [], Material(config, prompts, prepared)
    for name, count in share_out(able(settings.methods, prepared.frame, config.dataset.rare_class), settings.count).items():
        method, wanted = find(name), list(wishes(name, count, cells, config.seed))
        own = method.plan(wanted, starts.records(method, material), material)
        if len(own) != len(wanted):
            raise UserError(f"generate.methods.{name}: plan returned {len(own)} rows, expected {len(wanted)}")
        for wish, columns in zip(wanted, own, strict=True):
            row = _row(material, wish, columns)
            rows.append({"id": _identity(model, row), **row})
    return pd.DataFrame(rows)


def able(methods: dict[str, float], frame: pd.DataFrame, rare: str) -> dict[str, float]:
    """The methods that have something to start from; without rare training images, those that need none.

    Raises:
        UserError: no method is left.
    """
    if ((frame["split"] == "train") & (frame["label"] == rare)).any():
        return methods
    aside = [name for name in methods if find(name).needs_rare]
    left = {name: weight for name, weight in methods.items() if name not in aside}
    if not left:
        raise UserError(f"generate.methods: {', '.join(aside)} need a real rare training image, and there is none")
    if aside:
        tqdm.write(f"generate: no real rare training image, so {', '.join(aside)} stand aside")
    return left


def share_out(weights: dict[str, float], count: int) -> dict[str, int]:
    """Divide a count by weights with largest remainders; the parts add up to it."""
    total = sum(weights.values())
    exact = {name: count * weight / total for name, weight in weights.items() if weight > 0}
    parts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: parts[name] - exact[name])
    for name in by_remainder[: count - sum(parts.values())]:
        parts[name] += 1
    return parts


def wishes(method: str, count: int, cells: list[dict[str, str]], seed: int) -> Iterator[Wish]:
    """What a method is asked for: each cell of the grid about equally often.

    Each pass visits the whole grid in an order of its own. So a plan shorter than the grid still spreads over all axes, and
    what cycles by number (strengths, templates) does not go with any cell.
    """
    for number in range(count):
        turn, place = divmod(number, len(cells))
        if place == 0:
            order = np.random.default_rng(derive(seed, "grid", method, turn)).permutation(len(cells))
        yield Wish(method, number, cells[order[place]], derive(seed, "image", method, number))


def _row(material: Material, wish: Wish, own: Columns) -> Columns:
    """A row of the plan but for its id: what all methods share, and its method's own columns or their defaults."""
    config, prompts, _ = material
    rare = config.dataset.rare_class
    return {
        "label": rare,
        "method": wish.method,
        "prompt": captions.describe(prompts, wish.number, rare, wish.cell),
        "negative": prompts.negative,
        **{f"attribute.{name}": wish.cell.get(name, "") for name in prompts.attributes},
        **DEFAULTS,
        "seed": wish.seed,
        "guidance": config.generate.guidance,
        "steps": config.generate.steps,
        "passed_over": 0,
        **own,
    }


def _identity(model: str, row: Columns) -> str:
    """16 hex digits that stand for all that the picture follows from."""
    content = [str(value) for name, value in row.items() if name != "passed_over"]
    return hashlib.sha256(json.dumps([model, *content]).encode()).hexdigest()[:16]


def draw(
    config: Config, prepared: Prepared, rows: pd.DataFrame, model: Path, folder: Path, share: tuple[int, int] = (0, 1)
) -> None:
    """Make the images of a plan that are not there yet, as `<folder>/<id>.png`.

    Args:
        model: the folder of the fine-tuned model; read only if a method needs it.
        share: (i, n) draws every n-th batch from the i-th on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    studio, (rank, processes) = Studio(config, prepared, rows, model), share
    mine = list(_batches(rows, config.generate.batch_size))[rank::processes]
    missing = [batch for batch in mine if any(not (folder / f"{name}.png").exists() for name in batch["id"])]
    total = sum(map(len, mine))
    done = total - sum(map(len, missing))
    with tqdm(total=total, initial=done, desc="generate", unit="image", disable=not missing or rank > 0) as bar:
        for batch in missing:
            method = find(batch["method"].iloc[0])
            # a batch is always drawn whole: the rounding of batched kernels depends on its size
            images = _checked(method.draw(batch, studio), (len(batch), *prepared.pixels.shape[1:]), batch["method"].iloc[0])
            for (_, row), image in zip(batch.iterrows(), images, strict=True):
                path = folder / f"{row['id']}.png"
                if not path.exists():
                    files.write_bytes(path, encode_png(image, row.to_dict(), method.source_type))
            bar.update(len(batch))


def _checked(images: Any, shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    """What a method drew, once it is known to be pictures: a method may be another package's.

    Raises:
        UserError: it is of another type or shape; none of it is written.
    """
    found = np.asarray(images)
    if found.dtype != np.uint8 or found.shape != shape:
        raise UserError(
            f"generate.methods.{name}: draw returned an array of {found.dtype} {list(found.shape)}, "
            f"expected uint8 {list(shape)}"
        )
    return found


def _batches(rows: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Batches of one method and strength, in plan order."""
    for _, part in rows.groupby(["method", "strength"], sort=False, dropna=False):
        for start in range(0, len(part), size):
            yield part.iloc[start : start + size]
