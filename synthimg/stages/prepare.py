"""The stage `prepare`: images and consent in, square pixels, splits, captions and measured attributes out."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..attributes import captions, estimators
from ..config import Config
from ..core import files, stage
from ..data import account, consent, duplicates, grouping, images, locate, records, splits
from ..errors import UserError
from ..evaluation.subgroups import check_pairs

PART = 256
"""Images decoded between two checkpoints."""


def prepare_dataset(config: Config) -> Path:
    """Write `<run>/dataset/` (see docs/architecture.md) and return it. A killed run goes on where it stopped.

    Raises:
        UserError: no consent, a missing column, splits on which nothing can be measured, a data set that has changed.
    """
    config, started = config.whole, time.monotonic()  # all parts share what is prepared
    stage.check(config)
    dataset = config.dataset
    prompts = captions.load(dataset.prompts)
    captions.grid(prompts, config.generate.axes)  # refuses an unknown axis here, not after hours of fine-tuning
    check_pairs(config, [*prompts.attributes, *dataset.attribute_columns])
    source = records.open_source(dataset.path, dataset.table)
    entry = consent.effective(dataset.consent, source.consent)
    found, doubts = locate.respell(records.make_records(source, dataset, prompts.columns), source)
    doubts += records.doubts(source, found, dataset)
    usable, left_out = _usable(found, entry, config)
    left_out += source.tree.left_out.items() if source.tree else []
    _check_deployment(config, prompts)
    # what has too few groups now has no more once duplicates have joined them
    if all(f"attribute.{name}" in usable for name in dataset.deployment):
        dealt_out(usable, config)

    stage.claim(config)
    folder = config.root / "dataset"
    wanted = stage.key(config, "prepare", ["seed", "resolution", "folds", "draws", "dataset"])
    wanted["inputs"] = {
        "records": _digest(usable, source.root),
        "prompts": files.digest(captions.find(dataset.prompts)),
        **{name: files.digest(file) for name, file in estimators.code_from_outside(prompts.measured).items()},
    }
    if (folder / "manifest.json").exists() and not stage.is_done(folder, wanted):
        raise UserError(
            f"{folder}: the images, their table, consent or prompts have changed since this run was prepared; "
            f"nothing was overwritten. Choose another name, e.g. name={config.name}-2"
        )
    stage.enter(folder, wanted, also=[str(source.root.resolve()), _times(usable, source.root), left_out])
    if stage.is_done(folder, wanted):
        return folder
    if source.notice:
        tqdm.write(source.notice)

    parts = _decode_all(usable, source.root, config, folder / "checkpoints", wanted)
    for doubt in doubts:
        tqdm.write(f"{doubt.severity}: {doubt.text}")
    left_out = sorted([*left_out, *(lost for part in parts for lost in part.lost)])
    read = np.concatenate([part.read for part in parts])
    frame = usable[read].reset_index(drop=True)
    pairs = duplicates.near(np.concatenate([part.thumbnails for part in parts]), dataset.duplicates)
    frame["group"] = splits.unite(list(frame["group"]), pairs)

    pixels = _assemble(folder / "pixels.npy", [part.folder / "pixels.npy" for part in parts])
    frame["mask"] = np.concatenate([part.masked for part in parts])
    if dataset.mask:
        _assemble(folder / "masks.npy", [part.folder / "masks.npy" for part in parts])
        if not frame["mask"].any():
            example = source.root / usable["mask"].iloc[0]
            raise UserError(f"dataset.mask: '{dataset.mask}' leads to no readable mask, e.g. {example}")
    described = dealt_out(_describe(frame, pixels, prompts), config)
    placed = _placed(described)
    tqdm.write(grouping.group_table(placed))
    files_of = account.take(source, found, frame["path"], (path for path, _ in left_out), bool(dataset.classes))
    tqdm.write(files_of.line)
    files.write_table(folder / "records.parquet", described)
    files.write_table(folder / "excluded.csv", pd.DataFrame(left_out, columns=["path", "reason"]))
    summary = _summary(placed, left_out, _licence(entry), pairs) | {"files": files_of.summary()}
    files.write_json(folder / "summary.json", summary | {"suspicions": [doubt._asdict() for doubt in doubts]})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return stage.finish(folder, wanted, started)


def identity(path: str) -> str:
    """A record's id, 16 hex digits, from its path in the data set."""
    return blake2b(path.encode(), digest_size=8).hexdigest()


def _usable(found: pd.DataFrame, entry: consent.Consent, config: Config) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The records that may be used, with their ids; path and reason of those that may not."""
    excluded = _exclude(found, entry)
    usable = found[[not reason for reason in excluded]]
    if not len(usable):
        raise UserError(f"dataset.consent: none of the {len(found)} images may be used; {_most_common(excluded)}")
    kept = splits.within_limit(list(usable["label"]), list(usable["group"]), config.dataset.limit, config.seed)
    usable = usable[kept].reset_index(drop=True)
    usable.insert(0, "id", [identity(path) for path in usable["path"]])
    return usable, [(path, reason) for path, reason in zip(found["path"], excluded, strict=True) if reason]


def _exclude(found: pd.DataFrame, entry: consent.Consent) -> list[str]:
    """Why each record is left out before any image is opened, "" where it is not."""
    why = consent.reasons(found, entry, date.today())
    for column, what in (("group", "group"), ("label", "label"), ("path", "image")):
        empty = (found[column] == "").tolist()
        where = found["where"].tolist()
        why = [f"no {what} ({where[row]})" if empty[row] else reason for row, reason in enumerate(why)]
    return why


def _most_common(reasons: list[str]) -> str:
    (kind, count), *_ = Counter(reason.split(" (")[0] for reason in reasons).most_common(1)
    return f"for {count} the reason is: {next(reason for reason in reasons if reason.startswith(kind))}"


def _times(usable: pd.DataFrame, root: Path) -> list[int]:
    """When each file was last changed (ns): another run's pixels serve only where nobody can have touched an image since."""
    found = [root / name for name in [*usable["path"], *usable["mask"]]]
    return [file.stat().st_mtime_ns if file.is_file() else -1 for file in found]


def _digest(usable: pd.DataFrame, root: Path) -> str:
    """What the result depends on: every record, and the size of its files. Not their times, which a copy changes."""
    facts = sha256(usable.drop(columns="where").to_csv(index=False).encode())
    for name in [*usable["path"], *usable["mask"]]:
        file = root / name
        facts.update(f"{file.stat().st_size if file.is_file() else -1},".encode())
    return facts.hexdigest()


class Part(NamedTuple):
    """What was decoded of a run of records; pixels and masks stay on disk, one row per readable image."""

    folder: Path
    read: np.ndarray
    """bool [PART]: which records are readable."""
    masked: np.ndarray
    """bool [n]"""
    thumbnails: np.ndarray
    """uint8 [n, 64, 64]"""
    lost: list[tuple[str, str]]


class Decoded(NamedTuple):
    pixels: np.ndarray
    mask: np.ndarray | None
    thumbnail: np.ndarray


def _decode_all(usable: pd.DataFrame, root: Path, config: Config, checkpoints: Path, wanted: Any) -> list[Part]:
    """Decode every record in parts; parts that an earlier, killed run finished are taken over."""
    mine = checkpoints / sha256(repr(wanted).encode()).hexdigest()[:16]
    for other in checkpoints.glob("*"):
        if other != mine:
            shutil.rmtree(other)
    jobs = list(usable[["path", "mask"]].itertuples(index=False, name=None))
    parts = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(jobs), desc="images", unit="image") as bar:
        for start in range(0, len(jobs), PART):
            some = jobs[start : start + PART]
            folder = mine / f"{start:07d}"
            if not (folder / "part.npz").exists():
                decoded = pool.map(lambda job: _decode(root, job[0], job[1], config), some)
                _write_part(folder, some, decoded, config, bar)
            else:
                bar.update(len(some))
            parts.append(_read_part(folder))
    return parts


def _decode(root: Path, path: str, mask: str, config: Config) -> Decoded | str:
    """One record's pixels, or why it cannot be read."""
    size, how = config.resolution, config.dataset.fit
    try:
        image = images.read(root / path)
        pixels, thumbnail = images.square(image, size, how), duplicates.fingerprint(image)
    except images.UnreadableError as error:
        return str(error)
    try:
        return Decoded(pixels, images.read_mask(root / mask, size, how, image.size) if mask else None, thumbnail)
    except images.UnreadableError:
        return Decoded(pixels, None, thumbnail)


def _write_part(
    folder: Path, jobs: list[tuple[str, str]], decoded: Iterator[Decoded | str], config: Config, bar: Any
) -> None:
    good: list[Decoded] = []
    lost: list[tuple[str, str]] = []
    read = []
    for (path, _), result in zip(jobs, decoded, strict=True):
        bar.update()
        read.append(isinstance(result, Decoded))
        if isinstance(result, Decoded):
            good.append(result)
        else:
            lost.append((path, f"unreadable ({result})"))
    folder.mkdir(parents=True, exist_ok=True)
    size, side = config.resolution, duplicates.SIDE
    blank = np.zeros((size, size), np.uint8)
    files.write_blocks(folder / "pixels.npy", (len(good), size, size, 3), (item.pixels for item in good))
    if config.dataset.mask:
        masks = (blank if item.mask is None else item.mask for item in good)
        files.write_blocks(folder / "masks.npy", (len(good), size, size), masks)
    facts: dict[str, Any] = {
        "read": np.array(read, bool),
        "masked": np.array([item.mask is not None for item in good], bool),
        "thumbnails": np.array([item.thumbnail for item in good], np.uint8).reshape(-1, side, side),
        "lost": np.array(lost, str).reshape(-1, 2),
    }
    with (folder / "part.tmp").open("wb") as file:
        np.savez(file, **facts)
    (folder / "part.tmp").replace(folder / "part.npz")  # last: marks the part as whole


def _read_part(folder: Path) -> Part:
    with np.load(folder / "part.npz") as facts:
        lost = [(str(path), str(why)) for path, why in facts["lost"]]
        return Part(folder, facts["read"], facts["masked"], facts["thumbnails"], lost)


def _assemble(path: Path, pieces: list[Path]) -> np.ndarray:
    """Join arrays on disk, one piece in memory at a time; returns a memory map of the whole."""
    shapes = [np.load(piece, mmap_mode="r").shape for piece in pieces]
    whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    files.write_blocks(path, whole, map(np.load, pieces))
    return np.load(path, mmap_mode="r")


def dealt_out(frame: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The records with their `fold`, or with their `split` where the run has one part alone.

    Raises:
        UserError: a fold or split lacks images.
    """
    dataset = config.dataset
    if config.folds > 1:
        folds = splits.fold_of(frame, dataset.rare_class, dataset.deployment, config.folds, config.seed)
        frame = frame.assign(fold=folds)
    for part in config.parts:
        split = splits.split_of(frame, part)
        splits.check_splits(frame.assign(split=split), dataset.rare_class, dataset.rare_budget)
    return frame.assign(split=split) if config.parts == [config] else frame


def _check_deployment(config: Config, prompts: captions.Prompts) -> None:
    known = {name: list(attribute.values) for name, attribute in prompts.attributes.items()}
    for name, categories in config.dataset.deployment.items():
        if name not in known and name not in config.dataset.attribute_columns:
            there = ", ".join([*known, *config.dataset.attribute_columns]) or "none"
            raise UserError(f"dataset.deployment: no attribute '{name}'; there are: {there}")
        wrong = [value for value in categories if name in known and value not in known[name]]
        if wrong:
            raise UserError(f"dataset.deployment.{name}: no category '{wrong[0]}'; there are: {', '.join(known[name])}")


def _describe(frame: pd.DataFrame, pixels: np.ndarray, prompts: captions.Prompts) -> pd.DataFrame:
    """The columns of records.parquet."""
    values = estimators.measure(pixels, prompts.measured)
    out = frame[["id", "path", "label", "group", "mask"]].copy()
    held = {name.removeprefix("attribute."): list(frame[name]) for name in frame if name.startswith("attribute.")}
    for name, estimator in prompts.estimators.items():
        held[name] = captions.categories(prompts.attributes[name], values[estimator])
    rows = [dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=True)] or [{}] * len(frame)
    out["caption"] = [captions.record_caption(prompts, identity, label, chosen)
                      for identity, label, chosen in zip(frame["id"], frame["label"], rows, strict=True)]  # fmt: skip
    for name, names in held.items():
        out[f"attribute.{name}"] = names
    for name, numbers in values.items():
        out[f"measured.{name}"] = numbers
    return out


def _licence(entry: consent.Consent) -> str:
    return entry.licence or f"per record, column {entry.scope_column}"


def _placed(frame: pd.DataFrame) -> pd.DataFrame:
    """The records with the `split` under which they are counted: that of the run, or their fold, counted from 1."""
    if "split" in frame:
        return frame
    return frame.assign(split="fold " + (frame["fold"] + 1).astype(str) if "fold" in frame else "any")


def _summary(frame: pd.DataFrame, left_out: list[tuple[str, str]], licence: str, pairs: np.ndarray) -> dict[str, Any]:
    counts, found = Counter(zip(frame["label"], frame["split"], strict=True)), sorted(set(frame["split"]))
    names = grouping.ORDER if "test" in found else found
    return {
        "classes": {label: {name: counts[label, name] for name in names} for label in sorted(set(frame["label"]))},
        "groups": grouping.group_counts(frame),
        "excluded": dict(sorted(Counter(reason.split(" (")[0] for _, reason in left_out).items())),
        "licence": licence,
        "duplicates": len(np.unique(pairs)),
    }
