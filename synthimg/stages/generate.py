"""Stage 3: an immutable plan of rare-class images under controlled variation, then the images."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm.auto import tqdm

from ..attributes import captions
from ..config import COMPOSED, Config
from ..core import stage
from ..core.device import choose_device, choose_precision
from ..core.seeds import derive
from ..data import conditions, consent
from ..data.prepared import Prepared, load, prompts_of
from ..diffusion import adapters, base, decoder, sample
from ..errors import UserError
from ..methods import donors, procedural, transplant

SECTIONS = ("seed", "base", "resolution", "device", "dataset", "finetune", "generate")
FROM_IMAGE = ("image", "from_common", "inpaint")
"""The methods in which a model starts from an image."""
FROM_COMMON = ("from_common", "inpaint", *COMPOSED)
"""The methods that change an image of another class."""
Paint = Callable[[pd.DataFrame], np.ndarray]
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SOURCE_TYPE = {"transplant": "compositeCapture", "procedural": "compositeSynthetic"}
"""Several captures of real life put together; a capture together with what was computed."""


def generate_images(config: Config) -> Path:
    """Plan and draw the images of a run; returns its folder. Killed at any moment, it continues where it was.

    Raises:
        UserError: the adapter is not trained yet, consent to an image has ended, or the plan names an unknown axis.
    """
    run = stage.check(config)
    folder = run / "generate"
    prepared = load(run)
    consent.recheck(config.dataset, prepared.frame["path"])
    stage.require(run / "finetune", "the model is not fine-tuned")
    key = stage.key(config, "generate", SECTIONS, [run / "dataset", run / "finetune"])
    stage.enter(folder, key)
    if stage.is_done(folder, key):
        return folder
    started = time.monotonic()
    if not (folder / "plan.parquet").exists():
        model = stage.digest(run / "finetune" / "manifest.json")
        stage.write_table(folder / "plan.parquet", plan(config, prompts_of(config), prepared, model))
    rows = pd.read_parquet(folder / "plan.parquet")
    draw(config, prepared, rows, run / "finetune", folder / "images")
    return stage.finish(folder, key, started, {"images": len(rows)})


def plan(config: Config, prompts: captions.Prompts, prepared: Prepared, model: str) -> pd.DataFrame:
    """The table of images to make: methods by weight, each over the balanced attribute grid.

    Args:
        model: digest of the model that will draw; part of every id.

    Returns:
        One row per image with the columns of docs/architecture.md.
    """
    settings = config.generate
    cells = captions.grid(prompts, settings.axes)
    rare = config.dataset.rare_class
    counts, choose = share_out(settings.methods.model_dump(), settings.count), None
    if prepared.masks is not None and (settings.methods.inpaint or settings.methods.transplant):
        sizes = donors.sizes_of(prompts, settings.axes)
        prepared = prepared._replace(frame=donors.with_objects(prepared.frame, prepared.masks, sizes))
        if counts.get("transplant"):
            choose = donors.chooser(prepared, sizes, rare, config.seed)
    frame, rows = prepared.frame, []
    for method, count in counts.items():
        # the donors' trials take time, the rest none
        for i in tqdm(range(count), desc="plan", unit="image", disable=method != "transplant"):
            # each pass visits the whole grid in an order of its own: a plan shorter than the grid still spreads over
            # all axes, and strengths and templates, which cycle by row, do not go with any cell
            if i % len(cells) == 0:
                order = np.random.default_rng(derive(config.seed, "grid", method, i // len(cells))).permutation(len(cells))
            cell = cells[order[i % len(cells)]]
            seed = derive(config.seed, "image", method, i)
            masked = method == "inpaint" or (method == "controlnet" and config.finetune.controlnet == "mask")
            record = _source(frame, rare, method, cell, seed, masked)
            ground = record if method in COMPOSED else ""
            donor, scale = choose(record, seed) if choose and method == "transplant" else ("", float("nan"))
            strengths = settings.strength
            row = {
                "label": rare,
                "method": method,
                "prompt": captions.describe(prompts, i, rare, cell),
                "negative": prompts.negative,
                **{f"attribute.{name}": cell.get(name, "") for name in prompts.attributes},
                "source": donor or (record if method in FROM_IMAGE else ""),
                "ground": ground,
                "scale": scale,
                "defects": settings.defects if method == "procedural" else "",
                "condition": record if method == "controlnet" else "",
                "strength": strengths[i % len(strengths)] if method in FROM_IMAGE else float("nan"),
                # what is painted anew has no use for the old object's detail, and what is kept is kept whole
                "detail": settings.detail if method in ("image", "from_common") else float("nan"),
                "seed": seed,
                "guidance": settings.guidance,
                "steps": settings.steps,
            }
            content = json.dumps([model, *map(str, row.values())])
            rows.append({"id": hashlib.sha256(content.encode()).hexdigest()[:16], **row})
    return pd.DataFrame(rows)


def share_out(weights: dict[str, float], count: int) -> dict[str, int]:
    """Divide a count by weights with largest remainders; the parts add up to it."""
    total = sum(weights.values())
    exact = {name: count * weight / total for name, weight in weights.items() if weight > 0}
    parts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: parts[name] - exact[name])
    for name in by_remainder[: count - sum(parts.values())]:
        parts[name] += 1
    return parts


def _source(frame: pd.DataFrame, rare: str, method: str, cell: dict[str, str], seed: int, masked: bool) -> str:
    """Draw the real training image to start from, among those that agree best with the cell's attributes."""
    if method == "text":
        return ""
    wanted = frame["label"] != rare if method in FROM_COMMON else frame["label"] == rare
    if masked:
        wanted &= frame["mask"]
    if method == "transplant":
        wanted &= frame["takes"]
    pool = frame[wanted & (frame["split"] == "train")]
    if pool.empty:
        raise UserError(f"generate.methods.{method}: no training image to start from")
    columns = [f"attribute.{name}" for name in cell]
    agreement = sum((pool[column] == cell[column.removeprefix("attribute.")]).astype(int) for column in columns)
    best = pool[agreement == agreement.max()] if len(columns) else pool
    return str(best["id"].iloc[seed % len(best)])


def draw(config: Config, prepared: Prepared, rows: pd.DataFrame, model: Path, folder: Path) -> None:
    """Make the images of a plan that are not there yet, as `<folder>/<id>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = list(_batches(rows, config.generate.batch_size))
    missing = [batch for batch in batches if any(not (folder / f"{name}.png").exists() for name in batch["id"])]
    if not missing:
        return
    compose = composer(prepared)
    by_model = any(_method(batch) not in COMPOSED for batch in missing)
    painted = _painter(config, prepared, rows, model) if by_model else compose
    with tqdm(total=len(rows), initial=len(rows) - sum(map(len, missing)), desc="generate", unit="image") as bar:
        for batch in missing:
            # a batch is always drawn whole: the rounding of batched kernels depends on its size
            images = compose(batch) if _method(batch) in COMPOSED else painted(batch)
            for (_, row), image in zip(batch.iterrows(), images, strict=True):
                path = folder / f"{row['id']}.png"
                if not path.exists():
                    stage.write_bytes(path, encode_png(image, row.to_dict()))
            bar.update(len(batch))


def _painter(config: Config, prepared: Prepared, rows: pd.DataFrame, model: Path) -> Paint:
    """Load what draws the images that need a model; gives a function from a batch to its pictures."""
    pipeline = fine_tuned(config, model)
    rows = rows[~rows["method"].isin(COMPOSED)]
    texts = sorted(set(rows["prompt"]) | set(rows["negative"]))
    encoded = base.encode_prompts(pipeline, texts)
    index = {text: i for i, text in enumerate(texts)}
    row_of = prepared.row_of()
    kind: Any = config.finetune.controlnet
    controlnet = None
    if (rows["method"] == "controlnet").any():
        device = base.device_of(pipeline)
        controlnet = adapters.load_controlnet(model / "controlnet", device)
        sample.use_precision(controlnet, choose_precision(config.finetune.precision, device))

    def paint(batch: pd.DataFrame) -> np.ndarray:
        sources = [row_of[name] for name in batch["source"] if name]
        mapped = [row_of[name] for name in batch["condition"] if name]
        start = prepared.pixels[sources] if sources else None
        region = None
        if _method(batch) == "inpaint" and prepared.masks is not None:
            region = conditions.regions(prepared.masks, sources)
        images = sample.sample_images(
            pipeline,
            encoded.rows([index[text] for text in batch["prompt"]]),
            encoded.rows([index[text] for text in batch["negative"]]),
            batch["seed"].tolist(), int(batch["steps"].iloc[0]), float(batch["guidance"].iloc[0]), config.resolution,
            start=start, strength=float(batch["strength"].iloc[0]) if sources else 1.0, region=region,
            conditions=conditions.maps(kind, prepared.pixels, prepared.masks, mapped) if mapped else None,
            controlnet=controlnet if mapped else None,
        )  # fmt: skip
        if start is not None and region is not None:
            return sample.keep_outside(images, start, region)
        if start is not None and (detail := float(batch["detail"].iloc[0])):
            return sample.add_detail(pipeline, images, start, detail)
        return images

    return paint


def composer(prepared: Prepared) -> Paint:
    """What makes the pictures, uint8 [N, R, R, 3], of planned rows of one method that needs no model.

    It raises a UserError for an image on which no defect shows.
    """
    pixels, masks, row_of = prepared.pixels, prepared.masks, prepared.row_of()

    def compose(batch: pd.DataFrame) -> np.ndarray:
        grounds = [row_of[name] for name in batch["ground"]]
        if _method(batch) == "procedural":
            found = []
            for ground, defects, seed in zip(grounds, batch["defects"], batch["seed"], strict=True):
                if (picture := procedural.damaged(pixels[ground], defects, seed)) is None:
                    path = prepared.frame["path"].iloc[ground]
                    raise UserError(f"generate.methods.procedural: no defect shows on {path}, it is too dark or too bright")
                found.append(picture)
            return np.stack(found)
        assert masks is not None  # config.parse sees to it
        pairs = zip([row_of[name] for name in batch["source"]], grounds, strict=True)
        return np.stack([
            transplant.transplanted(pixels[a], masks[a] > 0, pixels[b], masks[b] > 0, scale, derive(seed, "symmetry") % 8)
            for (a, b), scale, seed in zip(pairs, batch["scale"], batch["seed"], strict=True)
        ])  # fmt: skip

    return compose


def fine_tuned(config: Config, model: Path) -> Any:
    """The base with a run's adapter, its denoiser in the precision of the configuration."""
    device = choose_device(config.device)
    pipeline = base.load(config.base, device)
    adapters.load(pipeline, model / "adapter")
    if config.finetune.decoder_steps:
        decoder.load(pipeline, model / "vae")
    sample.use_precision(pipeline.unet, choose_precision(config.finetune.precision, device))
    return pipeline


def _method(batch: pd.DataFrame) -> str:
    return str(batch["method"].iloc[0])


def _batches(rows: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Batches of one method and strength, in plan order."""
    for _, part in rows.groupby(["method", "strength"], sort=False, dropna=False):
        for start in range(0, len(part), size):
            yield part.iloc[start : start + size]


def encode_png(image: np.ndarray, row: dict[str, Any]) -> bytes:
    """A PNG with its plan row (text chunk `synthimg`, JSON) and IPTC's digital source type (XMP).

    Args:
        image: uint8 [H, W, 3].
    """
    kind = SOURCE_TYPE.get(row["method"], "trainedAlgorithmicMedia")
    plain = {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
    info = PngInfo()
    info.add_itxt("synthimg", json.dumps(plain, ensure_ascii=False, default=str))
    info.add_text("Software", "synthimg")
    info.add_itxt("XML:com.adobe.xmp", XMP.format(SOURCE_TYPES + kind))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
