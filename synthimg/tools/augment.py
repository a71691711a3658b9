"""A run's real training images and its accepted synthetic ones as one image folder, to train any classifier on.

The folder is read as it is by torchvision's `ImageFolder` and by `datasets.load_dataset("imagefolder", data_dir=...)`.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from ..config import Config
from ..core import files
from ..data import consent, generated
from ..data.prepared import load
from ..errors import UserError
from ..evaluation.results_file import read_results
from ..reading import config_of
from ..reporting.wording import verdict_on
from ..stages.filter import filter_images
from ..stages.finetune import finetune_model
from ..stages.generate import generate_images

NEEDED = ("dataset/manifest.json", "generate/manifest.json", "filter/manifest.json")
LINEAGE = ("source", "ground", "defects", "like", "condition", "region", "method", "prompt")
SETTINGS = ("scale", "strength", "detail", "seed", "guidance", "image_guidance", "steps")
SPLIT_WORDS = re.compile(
    r"(?<![a-z])(train(?:ing)?|test(?:ing)?|eval(?:uation)?|val(?:id)?(?:ation)?|dev)(?![a-z])", re.IGNORECASE
)
"""Words in a path by which `datasets` sorts files into splits, unless more letters follow."""


def augment_dataset(run: Path, to: Path) -> Path:
    """Write `<to>/<label>/<file>`, `<to>/metadata.jsonl` and a data set card; the folder appears whole or not at all.

    Real images are the run's pixels, so that nothing but what they show tells them from synthetic ones; these are
    copied bit for bit, with their provenance.

    Raises:
        UserError: `to` is not empty or lies in the data set, the run is not filtered, an accepted image is missing, or
            consent to an image has ended.
    """
    run, to = files.expanded(run), files.expanded(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: exists and is not an empty folder; nothing was changed, choose another name")
    config = _config_of(run)
    records, pixels, _ = load(config)
    drawn_in = config.folder
    root = consent.recheck(config.dataset, records["path"]).root
    if to.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{to}: lies inside the data set {root}; synthetic images must not get in there")
    made = generated.accepted(drawn_in)
    if made.empty:
        raise UserError(f"{run}: no synthetic image was accepted, so there is nothing to add to the real ones")
    names = folder_names(records.label)
    real, drawn = real_rows(records, names), synthetic_rows(made, records, names)
    images = [drawn_in / "generate" / "images" / f"{name}.png" for name in made.id]
    for missing in (image for image in images if not image.is_file()):
        raise UserError(f"{missing}: this accepted image is missing")
    part = to.with_name(f".{to.name}.synthimg-part")
    shutil.rmtree(part, ignore_errors=True)
    rows = [*real, *drawn]
    for row in rows:  # and no folder without images, which ImageFolder refuses
        (part / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
    for row, index in zip(real, np.flatnonzero(records.split == "train"), strict=True):
        Image.fromarray(pixels[index]).save(part / row["file_name"])
    for row, image in zip(drawn, images, strict=True):
        shutil.copyfile(image, part / row["file_name"])
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    (part / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    summary = json.loads((config.root / "dataset" / "summary.json").read_text())
    text = card(
        config, rows, summary.get("licence"), files.digest(drawn_in / "filter" / "manifest.json"), measured_gain(run)
    )
    (part / "README.md").write_text(text, encoding="utf-8")
    if to.exists():
        to.rmdir()
    part.rename(to)
    return to


def _config_of(run: Path) -> Config:
    """The configuration of a run in its present place; of one with folds, that of its final part, once its images are made.

    Raises:
        UserError: it is no run, or its images are not filtered.
    """
    recorded = run / "config.yaml"
    if not recorded.exists():
        raise UserError(f"{recorded}: no such file; {run} is not a run whose images have been filtered")
    config = config_of(run)
    if len(config.parts) > 1:
        if config.name != run.resolve().name:
            raise UserError(f"{run}: is the run {config.name} under another name; name the folder {config.name} again")
        config = config.model_copy(update={"part": "final"})
        for stage in (finetune_model, generate_images, filter_images):
            stage(config)
        return config
    for missing in (run / name for name in NEEDED if not (run / name).exists()):
        raise UserError(f"{missing}: no such file; {run} is not a run whose images have been filtered")
    return config.model_copy(update={"name": run.resolve().name})


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """A folder name for each label that every file system takes; changed ones end in a digest, so that none collide.

    A leading dot, a path separator, or letters that differ in case alone would lose or mix classes, and `datasets`
    would take a folder called `test` for a split.
    """
    distinct = sorted(set(labels))
    folded = [label.casefold() for label in distinct]
    found = {}
    for label in distinct:
        safe = re.sub(r"[^\w.+-]", "_", SPLIT_WORDS.sub(r"\1class", label)).strip("._")[:80]
        changed = safe != label or folded.count(label.casefold()) > 1
        found[label] = f"{safe}-{sha256(label.encode()).hexdigest()[:6]}".lstrip("-") if changed else label
    return found


def real_rows(records: pd.DataFrame, names: dict[str, str]) -> list[dict[str, Any]]:
    """One row per real training image, in the order of the records."""
    rows = []
    train = records[records.split == "train"]
    for record in train.to_dict("records"):
        file = f"{names[record['label']]}/real-{record['id']}.png"
        row = {"file_name": file, "label": record["label"], "synthetic": False, "group": record["group"]}
        rows.append({**row, "original": record["path"], **_attributes(record, train), **_lineage({})})
    return rows


def synthetic_rows(made: pd.DataFrame, records: pd.DataFrame, names: dict[str, str]) -> list[dict[str, Any]]:
    """One row per accepted synthetic image; one made from real images joins a group, so as not to straddle splits."""
    group_of = dict(zip(records.id, records.group, strict=True))
    rows = []
    for plan in made.to_dict("records"):
        groups = (group_of.get(plan.get(name)) for name in ("source", "condition", "ground"))
        group = next(filter(None, groups), f"synthetic-{plan['id']}")
        file = f"{names[plan['label']]}/synthetic-{plan['id']}.png"
        row = {"file_name": file, "label": plan["label"], "synthetic": True, "group": group}
        rows.append({**row, "original": "", **_attributes(plan, records), **_lineage(plan)})
    return rows


def measured_gain(run: Path) -> str:
    """What the run's evaluation says of its synthetic images, if it has one."""
    if not (run / "evaluate" / "manifest.json").exists():
        return "Whether these synthetic images raise recall was not measured."
    return f"What was measured: {verdict_on(read_results(run)).headline}"


def card(config: Config, rows: list[dict[str, Any]], licence: str | None, manifest: str, gain: str) -> str:
    """A data set card: what is synthetic, what may be done with it, where it comes from, whether it helps."""
    name, side = config.name, config.resolution
    generated = sum(row["synthetic"] for row in rows)
    head = yaml.safe_dump(
        {"license": "other", "license_name": licence or "not stated", "task_categories": ["image-classification"],
         "tags": ["synthetic", "synthimg"], "pretty_name": f"{name}: real and synthetic training images"},
        sort_keys=False, allow_unicode=True,
    )  # fmt: skip
    rare, settings = " ".join(config.dataset.rare_class.split()), config.evaluate
    return f"""---
{head}---
# {name}: real and synthetic training images

**{generated} of the {len(rows)} images are synthetic**: drawn by a diffusion model (IPTC digital source type
`trainedAlgorithmicMedia`) or, where `method` is `transplant`, put together from two real ones (`compositeCapture`), where
it is `procedural`, a real one of another class with computed defects (`compositeSynthetic`). All of them carry the label
`{rare}`. They are marked three times: `"synthetic": true` in `metadata.jsonl`, file names that start
with `synthetic-`, and the provenance inside each file.

- Made by synthimg, run `{name}`; SHA-256 of the filter's manifest: `{manifest}`.
- All images are RGB at the run's resolution, {side} x {side} pixels, real ones too: as the run measured them. Beside
  originals of another size or mode, the synthetic ones could be told by these alone.
- Licence of the real images: {licence or "not stated"}. What is derived from them may carry the same terms.
- For training only. The generator has seen the real training images, so neither kind here is fit for testing: test on
  real images that were held out.
- {gain}
- Each synthetic image should count {settings.synthetic_weight:g} of a real one in the loss, beside the training set
  `{settings.beside}`: that is what this run measures. Counting as much as real ones they may do harm.
- A picture with procedural defects shows a real image (`ground`) nearly whole: share it where you may share that one.
- Synthetic images made from a real one (`source`, `condition`, else `ground`) share its `group`: keep groups together when
  splitting. A transplant also shows a second one (`ground`): leave it out of training where that one is tested on.

`metadata.jsonl`: `file_name`, `label`, `synthetic`, `group`, `original` (a real image's path in its data set, else
empty), `attribute.*` (recorded or measured in real images, asked for in synthetic ones), `source`, `ground`, `condition`
(ids of real images), `defects`, `region`, `method`, `prompt`, `scale`, `strength`, `seed`, `guidance`, `image_guidance`,
`steps`.

    ImageFolder("<this folder>")                                  # torchvision
    load_dataset("imagefolder", data_dir="<this folder>")         # datasets
"""


def _attributes(row: dict[str, Any], records: pd.DataFrame) -> dict[str, str]:
    """The same attribute columns in every row: `datasets` wants one schema."""
    names = [name for name in records.columns if name.startswith("attribute.")]
    return {name: row[name] if isinstance(row.get(name), str) else "" for name in names}


def _lineage(plan: dict[str, Any]) -> dict[str, Any]:
    """How an image was made; empty words and nulls for a real one."""
    settings = {name: plan.get(name) for name in SETTINGS}
    known = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in settings.items()}
    return {**{name: plan.get(name, "") for name in LINEAGE}, **known}
