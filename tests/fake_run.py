"""A run folder that keeps every contract of docs/architecture.md, made in a second without any model."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from fake_subgroups import fake_prevalence, fake_subgroups
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from synthimg.attributes import captions
from synthimg.config import Config
from synthimg.core import files, stage
from synthimg.evaluation.arms import ARMS as ARMS_OF_THE_PACKAGE
from synthimg.evaluation.results import VERSION
from synthimg.reading import parse

RARE, COMMON = "defective", "functional"
SPLITS = {
    RARE: {"train": 8, "reserve": 4, "validation": 3, "test": 5},
    COMMON: {"train": 10, "reserve": 0, "validation": 4, "test": 6},
}
ARMS = ("real", "weighted", "oversampled", "augmented", "synthetic", "oracle")
CONTROLS = {"real": -0.06, "weighted": -0.02, "oversampled": 0.0, "augmented": -0.03}
RESOLUTION = 64

Draw = Callable[[np.random.Generator, str], np.ndarray]


def draw(rng: np.random.Generator, label: str) -> np.ndarray:
    """A grey cell with bus bars; a defective one has a dark crack."""
    y, x = np.mgrid[0:RESOLUTION, 0:RESOLUTION] / RESOLUTION
    grey = rng.uniform(0.35, 0.85) + 0.1 * np.sin(3 * x + rng.uniform(0, 6)) + 0.04 * rng.standard_normal(x.shape)
    grey[:, [16, 32, 48]] *= 0.6
    if label == RARE:
        grey[np.abs(y - rng.uniform(0.2, 0.8) - rng.uniform(-1, 1) * (x - 0.5)) < 0.03] *= 0.3
    return np.repeat((grey.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def fake_run(
    root: Path,
    name: str = "fake",
    gain: float = 0.05,
    width: float = 0.04,
    accepted: int = 12,
    overrides: dict[str, Any] | None = None,
    paint: Draw = draw,
    counts: dict[str, dict[str, int]] | None = None,
    planned: int = 24,
) -> Config:
    """Make `<root>/outputs/<name>` with all stages up to evaluate, one part, and its data set `<root>/cells`.

    Args:
        gain: of the synthetic arm over the best control; `width` is half of its interval.
        overrides: further top-level keys of the configuration.
    """
    tree = {
        "name": name,
        "outputs": str(root / "outputs"),
        "resolution": RESOLUTION,
        "folds": 1,
        "dataset": {
            "path": str(root / "cells"),
            "rare_class": RARE,
            "prompts": "solar-cell",
            "consent": {"licence": "CC BY-NC-SA 4.0", "scope": ["research"]},
        },
        **(overrides or {}),
    }
    config = parse(tree)
    run = stage.claim(config)
    records = _dataset(run / "dataset", root / "cells", paint, counts or SPLITS, config.seed)
    _finish(config, run / "dataset", [])
    _finetune(run / "finetune", paint)
    _finish(config, run / "finetune", [run / "dataset"])
    plan = _generate(run / "generate", records, planned, paint)
    _finish(config, run / "generate", [run / "finetune"])
    decisions = _filter(run / "filter", records, plan, accepted)
    _finish(config, run / "filter", [run / "generate"])
    _classify(run / "classify", records)
    _finish(config, run / "classify", [run / "dataset", run / "filter"])
    files.write_json(run / "evaluate" / "metrics.json", fake_metrics(gain, width, _counts(records, decisions)))
    _finish(config, run / "evaluate", [run / "dataset", run / "filter", run / "classify"])
    return config


def _finish(config: Config, folder: Path, after: list[Path]) -> None:
    key = stage.key(config, folder.name, [], after)
    if folder.name == "dataset":
        key["inputs"]["prompts"] = files.digest(captions.find(config.dataset.prompts))
    stage.finish(folder, key, started=0.0)


def _identity(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16]


def _dataset(folder: Path, source: Path, paint: Draw, counts: dict[str, dict[str, int]], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows, pixels = [], []
    for label, splits in counts.items():
        for split, count in splits.items():
            for index in range(count):
                image = paint(rng, label)
                path = source / label / f"{split}-{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
                rows.append(_record(path.relative_to(source).as_posix(), label, split, index, image, seed))
                pixels.append(image)
    records = pd.DataFrame(rows)
    files.write_table(folder / "records.parquet", records)
    np.save(folder / "pixels.npy", np.stack(pixels))
    with (folder / "excluded.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "reason"], ["functional/<b>odd</b> & broken.png", "unreadable"]])
    summary = {"classes": counts, "excluded": {"unreadable": 1}, "licence": "CC BY-NC-SA 4.0", "duplicates": 1}
    files.write_json(folder / "summary.json", summary)
    return records


def _record(path: str, label: str, split: str, index: int, image: np.ndarray, seed: int) -> dict[str, Any]:
    brightness = float(image.mean() / 255)
    return {
        "id": _identity(path, seed), "path": path, "label": label, "group": f"{label}-{split}-{index // 2}", "split": split,
        "mask": False, "caption": f"a photo of {label} solar cell",
        "attribute.type": ["mono", "poly"][index % 2], "attribute.brightness": _shade(brightness),
        "measured.brightness": brightness, "measured.contrast": float(image.std() / 255),
    }  # fmt: skip


def _shade(brightness: float) -> str:
    return "dark" if brightness < 0.5 else "medium" if brightness < 0.65 else "bright"


def _finetune(folder: Path, paint: Draw) -> None:
    rng = np.random.default_rng(1)
    losses = 0.05 + 0.2 * np.exp(-np.arange(300) / 60) + 0.02 * rng.standard_normal(300)
    frame = pd.DataFrame({"step": range(1, 301), "loss": losses, "learning_rate": 1e-4})
    files.write_table(folder / "loss-adapter.csv", frame)
    (folder / "validation").mkdir()
    sheet = np.concatenate([paint(rng, RARE) for _ in range(6)], axis=1)
    for step in (200, 300):
        Image.fromarray(sheet).save(folder / "validation" / f"step-{step:05d}.png")


def _generate(folder: Path, records: pd.DataFrame, planned: int, paint: Draw) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    train = records[(records.split == "train") & (records.label == RARE)]
    rows = []
    for index in range(planned):
        method = ("text", "image")[index // 6 % 2]
        rows.append({
            "id": _identity("plan", index), "label": RARE, "method": method, "prompt": "a photo of a cracked cell",
            "negative": "", "attribute.type": ["mono", "poly"][index % 2],
            "attribute.brightness": ["dark", "medium", "bright"][index % 3],
            "source": train.id.iloc[index % len(train)] if method == "image" else "", "condition": "", "ground": "",
            "strength": 0.65 if method == "image" else float("nan"),
            "detail": 1.0 if method == "image" else float("nan"), "seed": index, "guidance": 3.0, "steps": 20,
        })  # fmt: skip
    plan = pd.DataFrame(rows)
    files.write_table(folder / "plan.parquet", plan)
    (folder / "images").mkdir()
    for row in rows:
        provenance = PngInfo()
        provenance.add_text("synthimg", json.dumps({"id": row["id"], "prompt": row["prompt"]}))
        Image.fromarray(paint(rng, RARE)).save(folder / "images" / f"{row['id']}.png", pnginfo=provenance)
    return plan


def _filter(folder: Path, records: pd.DataFrame, plan: pd.DataFrame, accepted: int) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    order = rng.permutation(len(plan))
    brightness = rng.normal(0.6, 0.12, len(plan))
    reason = np.array(["class", "copy", "duplicate", "attribute"])[np.arange(len(plan)) % 4]
    train = records[records.split == "train"]
    decisions = pd.DataFrame({
        "id": plan.id, "accepted": order < accepted, "reason": np.where(order < accepted, "", reason),
        "confidence": rng.uniform(0.3, 1, len(plan)), "nearest": rng.choice(train.id.to_numpy(), len(plan)),
        "distance": rng.uniform(0.1, 0.5, len(plan)), "measured.brightness": brightness,
        "measured.contrast": rng.normal(0.15, 0.03, len(plan)),
        "found.brightness": [_shade(value) for value in brightness],
    })  # fmt: skip
    files.write_table(folder / "decisions.parquet", decisions)
    files.write_json(folder / "relevance.json", fake_relevance())
    return decisions


def _classify(folder: Path, records: pd.DataFrame) -> None:
    judged = records[records.split.isin(["validation", "test"])]
    predictions = [
        {"arm": arm, "seed": seed, "id": row.id, "label": row.label, "split": row.split, "score": 0.5,
         "predicted": RARE}
        for arm in ARMS for seed in range(5) for row in judged.itertuples()
    ]  # fmt: skip
    files.write_table(folder / "predictions.parquet", pd.DataFrame(predictions))
    thresholds = [{"arm": arm, "seed": seed, "threshold": 0.5} for arm in ARMS for seed in range(5)]
    files.write_table(folder / "thresholds.parquet", pd.DataFrame(thresholds))


def _counts(records: pd.DataFrame, decisions: pd.DataFrame) -> dict[str, Any]:
    def size(split: str, rare: bool) -> int:
        return int(((records.split == split) & ((records.label == RARE) == rare)).sum())

    rejected = decisions[~decisions.accepted].reason.value_counts().sort_index()
    train, test = (records[(records.split == name) & (records.label == RARE)] for name in ("train", "test"))
    return {
        "parts": 1, "train_rare_groups": [int(train.group.nunique())],
        "train_rare": size("train", True), "train_other": size("train", False), "reserve_rare": size("reserve", True),
        "validation_rare": size("validation", True), "validation_other": size("validation", False),
        "test_rare": size("test", True), "test_other": size("test", False),
        "test_rare_groups": 40 * int(test.group.nunique()),  # the recall told here is of a larger test set, too
        "planned": len(decisions), "generated": len(decisions), "accepted": int(decisions.accepted.sum()),
        "rejected": {str(key): int(value) for key, value in rejected.items()},
    }  # fmt: skip


def fake_metrics(gain: float = 0.05, width: float = 0.04, n: dict[str, Any] | None = None) -> dict[str, Any]:
    """A plausible metrics.json: the best control has recall 0.61, the oracle 0.72."""
    n = n or {
        "parts": 1, "train_rare_groups": [55],
        "train_rare": 60, "train_other": 900, "reserve_rare": 200, "validation_rare": 70, "validation_other": 300,
        "test_rare": 180, "test_other": 500, "test_rare_groups": 175,
        "planned": 200, "generated": 200, "accepted": 130,
        "rejected": {"attribute": 20, "class": 30, "copy": 12, "duplicate": 8},
    }  # fmt: skip
    lead = {**CONTROLS, "synthetic": gain, "oracle": 0.11}
    return {
        "version": VERSION,
        "rare_class": RARE,
        "n": n,
        "quality": _quality(n),
        "compliance": {
            "brightness": {"text": {
                "n": 200, "share": 0.61, "ci95": [0.54, 0.67], "chance": 0.34, "p": 1e-12,
                "table": {"dark": {"dark": 40, "medium": 27, "bright": 0, "": 0},
                          "medium": {"dark": 0, "medium": 41, "bright": 25, "": 1},
                          "bright": {"dark": 0, "medium": 25, "bright": 41, "": 0}},
            }},
            "type": None,
        },
        "relevance": fake_relevance(),
        "recall": {
            "folds": 1, "draws": 1, "seeds": 5, "classifier": "head", "specificity": 0.95, "steps": None, "batch_size": None,
            "synthetic_weight": 0.2, "beside": "real", "choice": None,
            "arms": {arm: _arm(0.61 + lead[arm], n, arm) for arm in ARMS},
            "best_control": "oversampled",
            "gain": {"mean": gain, "ci95": [gain - width, gain + width], "p": 0.03},
            "oracle_gap_closed": gain / 0.11,
            "common": {"specificity_change": {"mean": -0.002, "ci95": [-0.01, 0.006]}},
            "matched": {
                "best_control": "weighted", "recall": {arm: 0.6 + lead[arm] for arm in ARMS},
                "gain": {"mean": gain - 0.01, "ci95": [gain - 0.01 - 0.7 * width, gain - 0.01 + 0.7 * width], "p": 0.2},
            },
            "curve": _curve(gain),
            "confusion": {
                arm: {RARE: {RARE: 120.0 + more, COMMON: 60.0 - more}, COMMON: {RARE: 30.5, COMMON: 469.5}}
                for arm, more in (("oversampled", 0), ("synthetic", 8))
            },
        },
        "subgroups": fake_subgroups(gain),
        "prevalence": fake_prevalence(gain, n["test_other"]),
        "portions": _portions(gain, width, n),
        "extra": {},
    }  # fmt: skip


def fake_relevance() -> dict[str, Any]:
    """Pictures by text are as good as real ones; of those by image to image nothing can be told."""
    found = {"auc": 0.83, "ci95": [0.71, 0.92], "n_rare": 8, "n_groups": 4, "n_pictures": 7, "parts": [0.83], "reason": None}
    other = {"auc": 0.58, "ci95": [0.44, 0.71], "n_pictures": 5, "parts": [0.58]}
    return {
        "real": {**found, "n_pictures": 8, "optimistic": False},
        "methods": {"text": {**found, "optimistic": True}, "image": {**found, **other, "optimistic": True}},
    }


def _curve(gain: float) -> dict[str, Any]:
    levels = [round(0.8 + 0.01 * step, 2) for step in range(20)]
    found = {}
    for arm, more in (("oversampled", 0.0), ("synthetic", gain), ("oracle", 0.11)):
        mean = [0.61 + more + 1.5 * (0.95 - level) for level in levels]
        found[arm] = {"mean": mean, "low": [value - 0.06 for value in mean], "high": [value + 0.05 for value in mean]}
    return {"specificity": levels, "arms": found}


def _portions(gain: float, width: float, n: dict[str, Any]) -> dict[str, Any]:
    def spread(mean: float) -> dict[str, Any]:
        return {"mean": mean, "ci95": [mean - width, mean + width], "p": 0.2}

    counts = [n["train_rare"] // 2, n["train_rare"], n["accepted"]]
    without = [
        ("method", "text", 0.02),
        ("method", "image", -0.01),
        ("brightness", "dark", 0.01),
        ("brightness", "bright", 0.0),
    ]
    return {
        "sizes": [
            {"ratio": count / n["train_rare"], "synthetic": count, "gain": spread(gain * part)}
            for count, part in zip(counts, (0.4, 0.9, 1.0), strict=True)
        ],
        "knee": 1.0 if gain > 0 else None,
        "without": [
            {"what": what, "value": value, "left_out": 10, "change": spread(change)} for what, value, change in without
        ],
    }  # fmt: skip


def _quality(n: dict[str, Any]) -> dict[str, Any]:
    marginals = {
        "brightness": {"ks": 0.21, "p": 0.04, "wasserstein": 0.031, "floor": {"ks": 0.12, "wasserstein": 0.018}},
        "contrast": {"ks": 0.09, "p": 0.6, "wasserstein": 0.007, "floor": {"ks": 0.11, "wasserstein": 0.009}},
    }
    return {
        "extractor": "efficientnet-lite0", "fid": 41.2, "kid": {"mean": 0.012, "std": 0.003},
        "n": {"synthetic": n["accepted"], "real": n["train_rare"] + n["reserve_rare"]},
        "floor": {"fid": 22.5, "kid": {"mean": 0.001, "std": 0.002}, "n": [130, 130]},
        "warning": "Fréchet distances are biased below 2048 images; compare with the floor only.",
        "marginals": marginals,
    }  # fmt: skip


def _arm(recall: float, n: dict[str, Any], arm: str) -> dict[str, Any]:
    def spread(mean: float, width: float) -> dict[str, Any]:
        return {"mean": mean, "ci95": [mean - width, mean + width]}

    jitter = [-0.03, 0.01, 0.0, 0.025, -0.005]
    rare = n["train_rare"] + (n["reserve_rare"] if arm == "oracle" else 0)
    return {
        "title": ARMS_OF_THE_PACKAGE[arm].title, "words": f"the arm {arm}", "control": arm in CONTROLS,
        "recall": spread(recall + 0.05, 0.05), "recall_at_specificity": spread(recall, 0.05),
        "specificity": spread(0.92, 0.02), "specificity_at_threshold": spread(0.945, 0.02), "auc": spread(0.88, 0.03),
        "per_seed": {
            "recall": [recall + 0.05 + j for j in jitter],
            "recall_at_specificity": [recall + j for j in jitter],
        },
        "n_train": {"rare": rare, "other": n["train_other"], "synthetic": n["accepted"] if arm == "synthetic" else 0},
        "other_recall": {COMMON: 0.93 if arm == "synthetic" else 0.935},
    }  # fmt: skip


def rewrite_metrics(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a run's metrics.json in place."""
    path = run / "evaluate" / "metrics.json"
    metrics = json.loads(path.read_text())
    change(metrics)
    files.write_json(path, metrics)


def read_config(run: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return tree
