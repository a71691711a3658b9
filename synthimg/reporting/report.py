"""What the report shows, from the files of a finished run.

The page is a function of the run folder alone: no clock, no paths of this machine. A run killed and continued gives the
same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from ..config import Config
from ..core import files
from ..data import generated
from ..evaluation.arms import in_order
from ..evaluation.judged import Judged, first_draw, judged_parts
from ..evaluation.results import Counts, Portions, Recall, Results
from ..evaluation.results_file import read_results
from ..evaluation.results_quality import Compliance, KernelDistance, Quality
from ..methods.base import composed, find, ordered
from . import charts, gallery, subgroups
from .page import arm_dots, kind, picture
from .relevance import relevance_rows
from .wording import verdict_on

STAGES = ("dataset", "finetune", "generate", "filter", "classify", "evaluate")
"""The folders that a report is made from, in a run with one part."""
EXTRACTORS = {
    "inception": ("FID", "KID", "Inception-v3 features, comparable with published scores of the same image counts"),
    "efficientnet-lite0": (
        "Fréchet distance (EfficientNet-Lite0 features)",
        "Kernel distance (EfficientNet-Lite0 features)",
        "EfficientNet-Lite0 features; these are not Inception FID and KID and not comparable with published scores",
    ),
}
MEASURES = {
    "recall_at_specificity": "Recall at the threshold for specificity {specificity:g}",
    "recall": "Recall at the default threshold",
    "specificity_at_threshold": "Specificity on test at that threshold (dashed: wanted)",
    "specificity": "Specificity at the default threshold",
}
CONTACT_SHEET = 1280
MAX_EXCLUDED = 200
FOLLOWED = 0.8
"""Least share of matches for which the report says without reserve that an attribute follows the request."""


def describe(config: Config) -> dict[str, Any]:
    """Everything the template shows, from the files of a finished run. Single images are those of its first part."""
    run, parts = config.root, judged_parts(config)
    results, first = read_results(run), parts[0].config.folder
    recall, n = results.recall, results.n
    summary = json.loads((run / "dataset" / "summary.json").read_text())
    data, made = parts[0].data, generated.judged(first)
    text = (run / "config.yaml").read_text()
    settings, methods, started = yaml.safe_load(text), set(made["method"]), gallery.started(made)
    shown, total = gallery.cells(first, results.rare_class, data, made)
    return {
        "name": settings["name"], "rare": results.rare_class, "n": n, "verdict": verdict_on(results),
        "recall": recall, "arms": arms(recall), "arm_charts": arm_charts(recall),
        "others": other_classes(recall), "confusion": confusion(recall),
        "curve": curve(recall), "portions": portions(results.portions, recall),
        "subgroups": subgroups.tables(results), "field": subgroups.field(results),
        "cells": shown, "cells_total": total, "closest": gallery.closest(first, data, made),
        "turned": gallery.turned(parts, results.rare_class, recall.best_control),
        "followed": followed(results.compliance), "crossed": crossed(results.compliance),
        "reasons": gallery.reasons(n.rejected), "acceptance": gallery.acceptance(made),
        "started": {"pictures": len(started), "images": started.nunique()},
        "relevance": relevance_rows(results.relevance),
        "funnel": funnel(n), "quality": quality(results.quality), "extra": extra(results.extra),
        "shared": shared(results.quality.extractor, settings, methods),
        "methods": methods, "drawn": methods - composed(methods),
        "marginals": marginals(results, parts),
        "losses": loss_charts(first / "finetune"), "sheet": contact_sheet(first / "finetune" / "validation"),
        "summary": summary, "splits": list(next(iter(summary["classes"].values()))),
        "excluded": excluded(run / "dataset" / "excluded.csv"),
        "consent": settings["dataset"]["consent"], "settings": text, "provenance": provenance(config),
    }  # fmt: skip


def arms(recall: Recall) -> list[dict[str, Any]]:
    """The rows of the arms table."""
    return [
        {
            "name": name,
            "best": name == recall.best_control,
            "kind": kind(name, recall.arms[name], recall.best_control),
            "result": recall.arms[name],
        }
        for name in in_order(recall.arms)
    ]


def arm_charts(recall: Recall) -> list[tuple[str, Markup]]:
    """Four charts of the same arms; recall shares one axis and specificity another, so that they compare by eye."""
    found = []
    for measure, title in MEASURES.items():
        pair = [name for name in MEASURES if name.startswith("recall") == measure.startswith("recall")]
        rows = {name: arm_dots(recall, name) for name in pair}
        values = [value for part in rows.values() for row in part for value in (row.low, row.high, *row.points)]
        target = recall.specificity if measure == "specificity_at_threshold" else None
        values += [recall.specificity] if "specificity" in pair else []
        bounds = (max(0.0, min(values) - 0.01), min(1.0, max(values) + 0.01)) if values else None
        title = title.format(specificity=recall.specificity)
        found.append((title, charts.dots(rows[measure], title, bounds=bounds, mark=target)))
    return found


def other_classes(recall: Recall) -> list[dict[str, Any]]:
    """Recall of every other class in every arm, and what synthetic images changed against the best control."""
    names = in_order(recall.arms)
    labels = sorted({label for arm in recall.arms.values() for label in arm.other_recall})
    rows = []
    for label in labels:
        values = {name: recall.arms[name].other_recall.get(label) for name in names}
        after, before = values.get("synthetic"), values.get(recall.best_control or "")
        rows.append({"label": label, "values": values, "change": _difference(after, before)})
    return rows


def curve(recall: Recall) -> dict[str, Any] | None:
    """Recall against specificity on test; None where it was not measured."""
    found = recall.curve
    if not found:
        return None
    kinds = {name: kind(name, recall.arms[name], recall.best_control) for name in found.arms}
    lines = [
        charts.Band(found.specificity, line.mean, line.low, line.high, kinds[name]) for name, line in found.arms.items()
    ]
    title = "Recall (up) against specificity (right), both on test"
    keys = {name: kinds[name].split()[0] for name in found.arms}
    return {"title": title, "chart": charts.bands(lines, title, mark=recall.specificity), "arms": keys}


def confusion(recall: Recall) -> list[dict[str, Any]]:
    """One table each for the best control and the synthetic arm: true labels (rows) and what they are called."""
    return [
        {"arm": arm, "columns": list(next(iter(table.values()))), "rows": list(table.items())}
        for arm, table in (recall.confusion or {}).items()
    ]


def portions(found: Portions | None, recall: Recall) -> dict[str, Any] | None:
    """Gain by ratio, and what leaving out one kind of image changes."""
    if not found or (len(found.sizes) < 2 and not found.without):
        return None
    gains = [size.gain for size in found.sizes]
    mean, low, high = [gain.mean for gain in gains], [gain.ci95[0] for gain in gains], [gain.ci95[1] for gain in gains]
    line = charts.Band([size.ratio for size in found.sizes], mean, low, high, "synthetic")
    title = f"Gain over {recall.best_control} (up) by synthetic images per real rare one (right)"
    names = [f"{part.what.replace('_', ' ')} {part.value} ({part.left_out})" for part in found.without]
    rows = [charts.Dot.of(name, part.change, "synthetic") for name, part in zip(names, found.without, strict=True)]
    words = "Recall with all images minus recall without these"
    return {
        "title": title, "knee": found.knee,
        "chart": charts.bands([line], title, mark=found.knee, level=0.0) if gains else Markup(""),
        "without": charts.dots(rows, words, mark=0.0), "words": words, "few": len(found.sizes) < 2,
    }  # fmt: skip


def funnel(n: Counts) -> Markup:
    """What became of the images made, as one bar."""
    title = ", ".join([f"{n.accepted} accepted", *[f"{count} rejected: {name}" for name, count in n.rejected.items()]])
    parts = [("synthetic", n.accepted), *[(f"reason {name}", count) for name, count in n.rejected.items()]]
    return charts.bar(parts, title)


def followed(compliance: dict[str, dict[str, Compliance] | None]) -> list[dict[str, Any]]:
    """One row per varied attribute and method: how often what is measured is what was asked for."""
    rows: list[dict[str, Any]] = []
    for name, methods in compliance.items():
        if not methods:
            rows.append({"name": name, "method": "", "words": "not measured: no estimator", "found": None})
        for method, found in (methods or {}).items():
            rows.append({"name": name, "method": method, "words": _obedience(found), "found": found})
    return rows


def crossed(compliance: dict[str, dict[str, Compliance] | None]) -> list[dict[str, Any]]:
    """Per measured attribute, all methods together: asked for (rows) against measured (columns)."""
    tables = []
    for name, methods in compliance.items():
        frames = [pd.DataFrame.from_dict(found.table, orient="index") for found in (methods or {}).values()]
        if frames:
            total = reduce(lambda one, two: one.add(two, fill_value=0), frames).astype(int)
            categories = list(frames[0].index)
            total = total.loc[categories, [*categories, *total.columns.difference(categories)]]
            rows = [(asked, counts.tolist()) for asked, counts in total.iterrows()]
            tables.append({"name": name, "columns": list(total.columns), "rows": rows})
    return tables


def quality(found: Quality) -> dict[str, Any]:
    """The quality scores as table rows, each under the name its extractor entitles it to."""
    frechet, kernel, words = EXTRACTORS[found.extractor]
    return {
        "rows": [
            (frechet, _score(found.fid), _score(found.floor.fid)),
            (kernel, _score(found.kid), _score(found.floor.kid)),
        ],
        "words": words,
        "n": found.n,
        "floor_n": found.floor.n,
        "warning": found.warning,
    }


def extra(found: dict[str, float | dict[str, float] | None]) -> list[tuple[str, float | None]]:
    """The scores of installed packages as table rows."""
    return [
        (name if part is None else f"{name}: {part}", score)
        for name, value in found.items()
        for part, score in (value.items() if isinstance(value, dict) else [(None, value)])
    ]


def shared(extractor: str, settings: dict[str, Any], methods: set[str]) -> str:
    """What the quality scores have in common with the rest of the pipeline; empty where nothing."""
    found, drawn = [], methods - composed(methods)
    if extractor == "efficientnet-lite0":
        text = "These features, the filter's judge and the classifier share one backbone (EfficientNet-Lite0)"
        if drawn and settings["base"] == "embedded":
            text += ", and the embedded model's autoencoder was trained with a loss on its early layers"
        found.append(f"{text}, so the scores are no independent witness.")
        if drawn and settings["finetune"]["decoder_steps"]:
            found.append("The decoder was tuned with a loss on a relative of it (EfficientNet-Lite2).")
    if drawn and settings["generate"]["detail"]:
        found.append(
            "Pictures made from a real image carry that image's own fine detail (generate.detail), and the scores compare "
            "them with these very images among others: they flatter."
        )
    found += [caveat for name in ordered(methods) if (caveat := find(name).caveat)]
    return " ".join(found)


def marginals(results: Results, parts: Sequence[Judged]) -> list[dict[str, Any]]:
    """Real against accepted synthetic images, by each measured attribute; of the first draw of every fold."""
    first = first_draw(parts)
    real = pd.concat([part.rare("train", "reserve") for part in first]).drop_duplicates("id")
    made = pd.concat([part.accepted for part in first])
    rows = []
    for name, found in results.quality.marginals.items():
        title = f"{name}: {len(real)} real images, {len(made)} accepted synthetic images"
        ours, theirs = (part[f"measured.{name}"].tolist() for part in (real, made))
        within = as_close(found.ks, found.floor.ks, found.p)
        rows.append({"name": name, "chart": charts.histogram(ours, theirs, title), "within": within, "found": found})
    return rows


def loss_charts(folder: Path) -> list[tuple[str, Markup]]:
    """One curve per trained part (decoder, adapter, controlnet), from its loss table."""
    found = []
    for path in sorted(folder.glob("loss-*.csv")):
        part, rows = path.stem.removeprefix("loss-"), pd.read_csv(path)
        found.append((part, charts.curve(rows.step.tolist(), rows.loss.tolist(), f"Training loss of the {part} by step")))
    return found


def contact_sheet(folder: Path) -> dict[str, str] | None:
    """The last validation sheet, if one was drawn."""
    sheets = sorted(folder.glob("step-*.png"))
    if not sheets:
        return None
    step = sheets[-1].stem.removeprefix("step-").lstrip("0") or "0"
    return {"uri": picture(sheets[-1], CONTACT_SHEET), "step": step}


def excluded(path: Path) -> dict[str, Any]:
    """The images left out, the first of them by name."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return {"rows": rows.head(MAX_EXCLUDED).to_dict("records"), "total": len(rows)}


def folders(config: Config) -> list[Path]:
    """The folders of all stages whose work a report shows, in every part of the run."""
    each = [part.folder / name for part in config.parts for name in STAGES[1:-1]]
    return [config.root / STAGES[0], *each, config.root / STAGES[-1]]


def provenance(config: Config) -> dict[str, Any]:
    """Each stage's manifest by digest, and the versions of the libraries it ran with."""
    names = {folder.relative_to(config.root).as_posix(): folder / "manifest.json" for folder in folders(config)}
    manifests = {name: json.loads(file.read_text()) for name, file in names.items()}
    digests = {name: files.digest(file) for name, file in names.items()}
    versions: dict[str, list[str]] = {}
    for manifest in manifests.values():
        for package, version in manifest.get("versions", {}).items():
            versions.setdefault(package, [])
            versions[package] += [] if version in versions[package] else [version]
    return {"digests": digests, "versions": {package: ", ".join(found) for package, found in versions.items()}}


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def as_close(ks: float | None, floor: float | None, p: float | None) -> bool | None:
    """Whether floor and test agree that the values are as close as real ones (or are not); None where they do not.

    With few real images the floor is large by noise, so it decides nothing alone.
    """
    if ks is None or floor is None or p is None or (ks <= floor) != (p >= 0.05):
        return None
    return ks <= floor


def _obedience(found: Compliance) -> str:
    if found.p is None or found.p >= 0.05 or found.share is None:
        return "not shown to follow the request"
    return "follows the request" if found.share >= FOLLOWED else "follows the request in part"


def _score(value: float | KernelDistance | None) -> dict[str, float | None]:
    """A score with or without a standard deviation, in one shape."""
    if isinstance(value, KernelDistance):
        return {"mean": value.mean, "std": value.std}
    return {"mean": value, "std": None}
