"""Stage `report`: one self-contained HTML page that answers whether synthetic images helped, and shows all it rests on.

The page is a function of the run folder alone: no clock, no paths of this machine. A run killed and continued gives the
same bytes.
"""

from __future__ import annotations

import json
import time
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from ..config import COMPOSED, Config
from ..core import stage
from ..data import consent
from ..data.prepared import load
from ..errors import UserError
from ..reporting import charts, gallery
from ..reporting.page import ARMS, arm_dots, in_order, kind, picture, render
from ..reporting.verdict import judge

STAGES = ("dataset", "finetune", "generate", "filter", "evaluate")
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


def write_report(config: Config) -> Path:
    """Write `<run>/report.html`, and `<run>/report/manifest.json` when it is complete.

    Raises:
        UserError: naming the stage that has not finished, or consent to an image has ended.
    """
    started = time.monotonic()
    run, folder, page = config.folder, config.folder / "report", config.folder / "report.html"
    folders = [run / name for name in STAGES]
    for missing in (path for path in folders if not (path / "manifest.json").exists()):
        raise UserError(f"{missing}: this stage has not finished; the report needs all of {', '.join(STAGES)}")
    sections = [name for name in config.model_dump() if name != "outputs"]
    consent.recheck(config.dataset, load(run).frame["path"])
    wanted = stage.key(config, "report", sections, folders)
    if stage.is_done(folder, wanted) and page.exists():
        return folder
    stage.write_bytes(page, render("report.html.j2", **describe(run)))
    return stage.finish(folder, wanted, started, extra={"page": {"report.html": stage.digest(page)}})


def describe(run: Path) -> dict[str, Any]:
    """Everything the template shows, from the files of a finished run."""
    metrics = read_metrics(run)
    summary = json.loads((run / "dataset" / "summary.json").read_text())
    records = pd.read_parquet(run / "dataset" / "records.parquet")
    decisions = pd.read_parquet(run / "filter" / "decisions.parquet")
    made = pd.read_parquet(run / "generate" / "plan.parquet").merge(decisions, on="id", how="inner", validate="1:1")
    text = (run / "config.yaml").read_text()
    settings, compliance = yaml.safe_load(text), metrics.get("compliance") or {}  # runs of older versions have none
    methods = set(made["method"])
    started = gallery.started(made)
    shown, total = gallery.cells(run, metrics["rare_class"], records, made)
    return {
        "name": settings["name"], "metrics": metrics, "n": metrics["n"], "verdict": judge(metrics),
        "recall": metrics["recall"], "arms": arms(metrics), "arm_charts": arm_charts(metrics["recall"]),
        "others": other_classes(metrics["recall"]), "confusion": confusion(metrics["recall"]),
        "curve": curve(metrics["recall"]), "portions": portions(metrics.get("portions"), metrics["recall"]),
        "cells": shown, "cells_total": total, "closest": gallery.closest(run, records, made),
        "turned": gallery.turned(run, records, metrics["rare_class"], metrics["recall"].get("best_control")),
        "followed": followed(compliance), "crossed": crossed(compliance),
        "reasons": gallery.reasons(metrics["n"]["rejected"]), "acceptance": gallery.acceptance(made),
        "started": {"pictures": len(started), "images": started.nunique()},
        "funnel": funnel(metrics["n"]), "quality": quality(metrics["quality"]),
        "shared": shared(metrics["quality"]["extractor"], settings, methods),
        "methods": methods, "drawn": methods - set(COMPOSED),
        "marginals": marginals(metrics, records, made),
        "losses": loss_charts(run / "finetune"), "sheet": contact_sheet(run / "finetune" / "validation"),
        "summary": summary, "splits": ("train", "reserve", "validation", "test"),
        "excluded": excluded(run / "dataset" / "excluded.csv"),
        "consent": settings["dataset"]["consent"], "settings": text, "provenance": provenance(run),
    }  # fmt: skip


def read_metrics(run: Path) -> dict[str, Any]:
    """A run's metrics.json.

    Raises:
        UserError: naming the file that is missing.
    """
    path = run / "evaluate" / "metrics.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: no such file; {run} is not a run that has been evaluated") from error
    return found


def arms(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the arms table."""
    recall = metrics["recall"]
    best, words = recall.get("best_control"), dict(ARMS)
    if "beside" in recall:  # runs of older versions had another synthetic arm
        share = f"{recall['synthetic_weight']:g} of a real one"
        words["oracle"] = (
            f"the set of {recall['beside']}, and the rare images held in reserve: what more real images would bring"
        )
        words["synthetic"] = f"the set of {recall['beside']}, and accepted synthetic images, each counting {share}"
    return [
        {"name": arm, "words": words.get(arm, ""), "best": arm == best, "kind": kind(arm, best), **recall["arms"][arm]}
        for arm in in_order(recall["arms"])
    ]


def arm_charts(recall: dict[str, Any]) -> list[tuple[str, Markup]]:
    """Four charts of the same arms; recall shares one axis and specificity another, so that they compare by eye."""
    found = []
    for measure, title in MEASURES.items():
        pair = [name for name in MEASURES if name.startswith("recall") == measure.startswith("recall")]
        rows = {name: arm_dots(recall, name) for name in pair}
        values = [value for part in rows.values() for row in part for value in (row.low, row.high, *row.points)]
        target = recall["specificity"] if measure == "specificity_at_threshold" else None
        values += [recall["specificity"]] if "specificity" in pair else []
        bounds = (max(0.0, min(values) - 0.01), min(1.0, max(values) + 0.01)) if values else None
        title = title.format(specificity=recall["specificity"])
        found.append((title, charts.dots(rows[measure], title, bounds=bounds, mark=target)))
    return found


def other_classes(recall: dict[str, Any]) -> list[dict[str, Any]]:
    """Recall of every other class in every arm, and what synthetic images changed against the best control."""
    names = in_order(recall["arms"])
    labels = sorted({label for arm in names for label in recall["arms"][arm].get("other_recall", {})})
    rows = []
    for label in labels:
        values = {arm: recall["arms"][arm].get("other_recall", {}).get(label) for arm in names}
        after, before = values.get("synthetic"), values.get(recall.get("best_control") or "")
        rows.append({"label": label, "values": values, "change": _difference(after, before)})
    return rows


def curve(recall: dict[str, Any]) -> dict[str, Any] | None:
    """Recall against specificity on test; None in runs of older versions, and where nothing was measured."""
    found = recall.get("curve")
    if not found:
        return None
    best = recall["best_control"]
    lines = [
        charts.Band(found["specificity"], line["mean"], line["low"], line["high"], kind(arm, best))
        for arm, line in found["arms"].items()
    ]
    title = "Recall (up) against specificity (right), both on test"
    return {"title": title, "chart": charts.bands(lines, title, mark=recall["specificity"]), "arms": list(found["arms"])}


def confusion(recall: dict[str, Any]) -> list[dict[str, Any]]:
    """One table each for the best control and the synthetic arm: true labels (rows) and what they are called."""
    return [
        {"arm": arm, "columns": list(next(iter(table.values()))), "rows": list(table.items())}
        for arm, table in (recall.get("confusion") or {}).items()
    ]


def portions(found: dict[str, Any] | None, recall: dict[str, Any]) -> dict[str, Any] | None:
    """Gain by ratio, and what leaving out one kind of image changes."""
    if not found:
        return None
    sizes = found["sizes"]
    spreads = [(size["gain"]["mean"], *size["gain"]["ci95"]) for size in sizes]
    mean, low, high = (list(values) for values in zip(*spreads, strict=True))
    line = charts.Band([size["ratio"] for size in sizes], mean, low, high, "synthetic")
    title = f"Gain over {recall['best_control']} (up) by synthetic images per real rare one (right)"
    names = [f"{part['what'].replace('_', ' ')} {part['value']} ({part['left_out']})" for part in found["without"]]
    rows = [charts.Dot.of(name, part["change"], "synthetic") for name, part in zip(names, found["without"], strict=True)]
    if len(sizes) < 2 and not rows:
        return None
    words = "Recall with all images minus recall without these"
    return {
        "title": title, "chart": charts.bands([line], title, mark=found["knee"], level=0.0), "knee": found["knee"],
        "without": charts.dots(rows, words, mark=0.0), "words": words, "few": len(sizes) < 2,
    }  # fmt: skip


def funnel(n: dict[str, Any]) -> Markup:
    """What became of the images made, as one bar."""
    rejected = [f"{count} rejected: {name}" for name, count in n["rejected"].items()]
    title = ", ".join([f"{n['accepted']} accepted", *rejected])
    parts = [("synthetic", n["accepted"]), *[(f"reason {name}", count) for name, count in n["rejected"].items()]]
    return charts.bar(parts, title)


def followed(compliance: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per varied attribute and method: how often what is measured is what was asked for."""
    rows: list[dict[str, Any]] = []
    for name, methods in compliance.items():
        if not methods:
            rows.append({"name": name, "method": "", "words": "not measured: no estimator", "found": None})
        for method, found in (methods or {}).items():
            rows.append({"name": name, "method": method, "words": _obedience(found), "found": found})
    return rows


def crossed(compliance: dict[str, Any]) -> list[dict[str, Any]]:
    """Per measured attribute, all methods together: asked for (rows) against measured (columns)."""
    tables = []
    for name, methods in compliance.items():
        frames = [pd.DataFrame.from_dict(found["table"], orient="index") for found in (methods or {}).values()]
        if frames:
            total = reduce(lambda one, two: one.add(two, fill_value=0), frames).astype(int)
            categories = list(frames[0].index)
            total = total.loc[categories, [*categories, *total.columns.difference(categories)]]
            rows = [(asked, counts.tolist()) for asked, counts in total.iterrows()]
            tables.append({"name": name, "columns": list(total.columns), "rows": rows})
    return tables


def quality(found: dict[str, Any]) -> dict[str, Any]:
    """The quality scores as table rows, each under the name its extractor entitles it to."""
    extractor = found["extractor"]
    frechet, kernel, words = EXTRACTORS.get(
        extractor, (f"Fréchet distance ({extractor})", f"Kernel distance ({extractor})", f"{extractor} features")
    )
    floor = found.get("floor") or {}
    names = {"fid": frechet, "kid": kernel}
    return {
        "rows": [(name, _spread(found.get(key)), _spread(floor.get(key))) for key, name in names.items()],
        "words": words,
        "n": found.get("n") or {},
        "floor_n": floor.get("n"),
        "warning": found.get("warning"),
    }


def shared(extractor: str, settings: dict[str, Any], methods: set[str]) -> str:
    """What the quality scores have in common with the rest of the pipeline; empty where nothing."""
    found, drawn = [], methods - set(COMPOSED)
    if extractor == "efficientnet-lite0":
        text = "These features, the filter's judge and the classifier share one backbone (EfficientNet-Lite0)"
        if drawn and settings["base"] == "embedded":
            text += ", and the embedded model's autoencoder was trained with a loss on its early layers"
        found.append(f"{text}, so the scores are no independent witness.")
        if drawn and settings["finetune"].get("decoder_steps"):
            found.append("The decoder was tuned with a loss on a relative of it (EfficientNet-Lite2).")
    if drawn and settings["generate"].get("detail"):
        found.append(
            "Pictures made from a real image carry that image's own fine detail (generate.detail), and the scores compare "
            "them with these very images among others: they flatter."
        )
    if "transplant" in methods:
        found.append("Transplants show the objects of these very real images, so the scores flatter them.")
    if "procedural" in methods:
        found.append("Procedural defects lie on real images of other classes: what the scores find is mostly these.")
    return " ".join(found)


def marginals(metrics: dict[str, Any], records: pd.DataFrame, made: pd.DataFrame) -> list[dict[str, Any]]:
    """Real against accepted synthetic images, by each measured attribute."""
    real = records[(records.label == metrics["rare_class"]) & records.split.isin(["train", "reserve"])]
    rows = []
    for name, found in (metrics["quality"].get("marginals") or {}).items():
        column, chart = f"measured.{name}", Markup()
        if column in records and column in made:
            title = f"{name}: {len(real)} real images, {int(made.accepted.sum())} accepted synthetic images"
            chart = charts.histogram(real[column].tolist(), made[made.accepted][column].tolist(), title)
        ks, floor = found.get("ks"), (found.get("floor") or {}).get("ks")
        within = _as_close(ks, floor, found.get("p"))
        rows.append({"name": name, "chart": chart, "within": within, "floor": {}, **found})
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


def provenance(run: Path) -> dict[str, Any]:
    """Each stage's manifest by digest, and the versions of the libraries it ran with."""
    manifests = {name: json.loads((run / name / "manifest.json").read_text()) for name in STAGES}
    digests = {name: stage.digest(run / name / "manifest.json") for name in STAGES}
    versions: dict[str, list[str]] = {}
    for manifest in manifests.values():
        for package, version in manifest.get("versions", {}).items():
            versions.setdefault(package, [])
            versions[package] += [] if version in versions[package] else [version]
    return {"digests": digests, "versions": {package: ", ".join(found) for package, found in versions.items()}}


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _as_close(ks: float | None, floor: float | None, p: float | None) -> bool | None:
    """Whether floor and test agree that the values are as close as real ones (or are not); None where they do not.

    With few real images the floor is large by noise, so it decides nothing alone.
    """
    if ks is None or floor is None or p is None or (ks <= floor) != (p >= 0.05):
        return None
    return ks <= floor


def _obedience(found: dict[str, Any]) -> str:
    if found["p"] is None or found["p"] >= 0.05:
        return "not shown to follow the request"
    return "follows the request" if found["share"] >= FOLLOWED else "follows the request in part"


def _spread(value: Any) -> dict[str, Any]:
    """A score with or without a standard deviation, in one shape."""
    return {"std": None, **value} if isinstance(value, dict) else {"mean": value, "std": None}
