"""The stage `prepare`: images and consent in, square pixels, splits, captions and measured attributes out."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
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
from ..data import (
    account,
    consent,
    content,
    cropped,
    decoding,
    duplicates,
    grouping,
    inspection,
    locate,
    records,
    splits,
    suspicions,
    twins,
)
from ..errors import UserError
from ..evaluation.subgroups import check_pairs


class Listed(NamedTuple):
    """A data set before any of its pictures is opened."""

    source: records.Source
    consent: consent.Consent
    prompts: captions.Prompts
    every: pd.DataFrame
    """All records."""
    usable: pd.DataFrame
    """Those that may be used, with their ids."""
    left_out: list[tuple[str, str]]
    """Path and reason of the others, and of files that are no records."""
    doubts: list[suspicions.Suspicion]


def prepare_dataset(config: Config) -> Path:
    """Write `<run>/dataset/` (see docs/architecture.md) and return it. A killed run goes on where it stopped.

    Raises:
        UserError: no consent, a missing column, splits on which nothing can be measured, a data set that has changed.
    """
    config, started = config.whole, time.monotonic()  # all parts share what is prepared
    stage.check(config)
    listed = _listed(config)
    stage.claim(config)
    folder, root, usable = config.root / "dataset", listed.source.root, listed.usable
    wanted = stage.key(config, "prepare", ["seed", "resolution", "folds", "draws", "dataset"])
    wanted["inputs"] = {
        "records": _digest(usable),
        "prompts": files.digest(captions.find(config.dataset.prompts)),
        **{name: files.digest(file) for name, file in estimators.code_from_outside(listed.prompts.measured).items()},
    }
    if (folder / "manifest.json").exists():
        _check_unchanged(folder, wanted, root, config)
        return _passed(folder, config)
    states = np.stack([content.states(root, list(usable[name])) for name in ("path", "mask")], 1)
    stage.enter(folder, wanted, also=[str(root.resolve()), sha256(states.tobytes()).hexdigest(), listed.left_out])
    if stage.is_done(folder, wanted):
        return _passed(folder, config)
    if listed.source.notice:
        tqdm.write(listed.source.notice)
    parts = decoding.decode_all(usable, states, root, config, folder / "checkpoints", wanted)
    files.write_table(folder / "content.parquet", content.table(usable, decoding.digests(parts), states))
    _write(folder, listed, parts, config)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return stage.finish(folder, wanted, started)


def _listed(config: Config) -> Listed:
    """The records of the data set, once the configuration is known to suit them."""
    dataset = config.dataset
    prompts = captions.load(dataset.prompts)
    captions.grid(prompts, config.generate.axes)  # refuses an unknown axis here, not after hours of fine-tuning
    check_pairs(config, [*prompts.attributes, *dataset.attribute_columns])
    source = records.open_source(dataset.path, dataset.table)
    entry = consent.effective(dataset.consent, source.consent)
    every, doubts = locate.respell(records.make_records(source, dataset, prompts.columns), source)
    doubts += records.doubts(source, every, dataset)
    usable, left_out = _usable(every, entry, config)
    left_out += source.tree.left_out.items() if source.tree else []
    _check_deployment(config, prompts)
    # what has too few groups now has no more once duplicates have joined them
    if all(f"attribute.{name}" in usable for name in dataset.deployment):
        dealt_out(usable, config)
    return Listed(source, entry, prompts, every, usable, left_out, doubts)


def _write(folder: Path, listed: Listed, parts: list[decoding.Part], config: Config) -> None:
    """Everything that is told of a data set once its pictures are decoded.

    Raises:
        UserError: objects of the rare class are cut away, no mask can be read, a split lacks images, or `dataset.strict`.
    """
    dataset, usable = config.dataset, listed.usable
    frame, pairs = _readable(usable, parts, dataset.duplicates)
    lost = [*(lost for part in parts for lost in part.lost), *inspection.masks_left_out(frame)]
    left_out = sorted([*listed.left_out, *lost])
    cropped.refuse_losses(frame, dataset.rare_class, dataset.fit, dataset.fit_loss)
    pixels = decoding.assemble(folder / "pixels.npy", [part.folder / "pixels.npy" for part in parts])
    suspected = [
        *listed.doubts,
        *suspicions.unreadable(list(usable["label"]), decoding.read(parts), list(usable["path"])),
        *_suspected(frame, pairs, pixels, listed.source.is_table, config),
    ]
    suspicions.tell(suspected)
    if dataset.strict:
        suspicions.refuse(suspected)
    if dataset.mask:
        decoding.assemble(folder / "masks.npy", [part.folder / "masks.npy" for part in parts])
        if not (frame["shows"] != "").any():
            example = listed.source.root / usable["mask"].iloc[0]
            raise UserError(f"dataset.mask: '{dataset.mask}' leads to no readable mask, e.g. {example}")
    described = dealt_out(_describe(frame, pixels, listed.prompts), config)
    placed = _placed(described)
    objects = cropped.losses(frame.assign(split=placed["split"]))
    known = account.take(listed.source, listed.every, frame["path"], (path for path, _ in left_out), bool(dataset.classes))
    for line in [*cropped.loss_lines(objects), grouping.group_table(placed), known.line]:
        tqdm.write(line)
    files.write_table(folder / "records.parquet", described)
    files.write_table(folder / "excluded.csv", pd.DataFrame(left_out, columns=["path", "reason"]))
    files.write_json(folder / "summary.json", _summary(placed, left_out, _licence(listed.consent), pairs) | {
        "files": known.summary(), "objects": objects.to_dict("records"),
        "suspicions": [one._asdict() for one in suspected],
    })  # fmt: skip


def _readable(usable: pd.DataFrame, parts: list[decoding.Part], least: float) -> tuple[pd.DataFrame, np.ndarray]:
    """The records whose pictures can be read, with the facts about them and groups joined across near duplicates; and
    these, as pairs of their rows.
    """
    facts = pd.concat([part.facts for part in parts], ignore_index=True)
    frame = pd.concat([usable[decoding.read(parts)].reset_index(drop=True), facts], axis=1)
    frame["plain"] = np.concatenate([part.plain for part in parts])
    whole = parts[0].folder.parent / "thumbnails.npy"
    pairs = duplicates.near(decoding.assemble(whole, [part.folder / whole.name for part in parts]), least)
    frame["group"] = splits.unite(list(frame["group"]), pairs)
    return frame, pairs


def _suspected(
    frame: pd.DataFrame, pairs: np.ndarray, pixels: np.ndarray, is_table: bool, config: Config
) -> list[suspicions.Suspicion]:  # fmt: skip
    """What is probably wrong with the pictures and masks that can be read."""
    masks = [] if not config.dataset.mask else [
        *inspection.suspect_masks(frame, config.dataset.rare_class), *cropped.suspect_losses(frame, config.dataset.fit),
    ]  # fmt: skip
    return [
        *suspicions.equal_pictures(frame),
        *suspicions.alike(frame, pairs),
        *suspicions.one_colour(frame, frame["plain"].to_numpy()),
        *suspicions.own_groups(frame),
        *inspection.suspect_pictures(frame, config.resolution),
        *twins.suspect_masks(frame, pixels, is_table),
        *masks,
    ]


def _check_unchanged(folder: Path, wanted: dict[str, Any], root: Path, config: Config) -> None:
    """Refuse a finished work whose records, pictures or masks are not what they were.

    Raises:
        UserError: names the first file whose content has changed.
    """
    mend = f"nothing was overwritten. Choose another name, e.g. name={config.name}-2"
    if not stage.is_done(folder, wanted):
        raise UserError(
            f"{folder}: the images, their table, consent or prompts have changed since this run was prepared; {mend}"
        )
    recorded = pd.read_parquet(folder / "content.parquet")
    changed = content.changed(root, recorded)
    if changed:
        raise UserError(
            f"{folder}: {len(changed)} of {len(recorded)} pictures and masks have changed since this run was prepared, "
            f"the first is {root / changed[0]}; {mend}"
        )


def _passed(folder: Path, config: Config) -> Path:
    """The folder of the finished work, once `dataset.strict` is content with what was suspected then."""
    if config.dataset.strict:
        found = json.loads((folder / "summary.json").read_text())["suspicions"]
        suspicions.refuse([suspicions.Suspicion(**one) for one in found])
    return folder


def identity(path: str) -> str:
    """A record's id, 16 hex digits, from its path in the data set."""
    return blake2b(path.encode(errors="surrogateescape"), digest_size=8).hexdigest()


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


def _digest(usable: pd.DataFrame) -> str:
    """Digest of every record, without its files' content, which is known only once they are read: `_check_unchanged`."""
    return sha256(usable.drop(columns="where").to_csv(index=False).encode(errors="surrogateescape")).hexdigest()


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
    out = frame[["id", "path", "label", "group", "digest"]].assign(mask=frame["shows"] != "")
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
