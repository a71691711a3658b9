"""The training folder: bit for bit, marked, whole or absent, and read by the libraries people use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_run import fake_run

from synthimg.augment import augment, folder_names
from synthimg.errors import UserError


def test_folder(tmp_path: Path) -> None:
    run = fake_run(tmp_path).folder
    to = augment(run, tmp_path / "out")
    rows = [json.loads(line) for line in (to / "metadata.jsonl").read_text().splitlines()]
    assert sum(row["synthetic"] for row in rows) == 12
    assert len(rows) == 12 + 18
    assert len({tuple(row) for row in rows}) == 1
    originals = {path.read_bytes() for path in [*tmp_path.glob("cells/*/train-*.png"), *run.glob("generate/images/*")]}
    assert all((to / row["file_name"]).read_bytes() in originals for row in rows)
    assert all(row["group"].startswith("defective-train") for row in rows if row["source"])
    card = (to / "README.md").read_text()
    assert "12 of the 30 images are synthetic" in card
    assert "CC BY-NC-SA 4.0" in card
    assert not list(tmp_path.glob(".*part"))


def test_refusals(tmp_path: Path) -> None:
    run = fake_run(tmp_path).folder
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        augment(run, full)
    with pytest.raises(UserError, match="lies inside the data set"):
        augment(run, tmp_path / "cells" / "more")
    (tmp_path / "cells" / "defective" / "train-3.png").unlink()
    with pytest.raises(UserError, match=r"train-3\.png: this training image is missing"):
        augment(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (run / "filter" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"filter/manifest\.json"):
        augment(run, tmp_path / "out")


def test_nothing_accepted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no synthetic image was accepted"):
        augment(fake_run(tmp_path, accepted=0).folder, tmp_path / "out")


def test_labels_become_safe_and_distinct_folders() -> None:
    labels = ["ok", "a/b", "a_b", "..", "Crack", "crack", "test", "protest", "crash-test", "__x", "with space"]
    names = folder_names(labels)
    assert names["ok"] == "ok"
    assert names["protest"] == "protest"
    assert len({name.casefold() for name in names.values()}) == len(labels)
    assert not any(set("/\\ ") & set(name) or name.startswith((".", "_", "-")) for name in names.values())


def test_torchvision_reads_it(tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets").ImageFolder
    found = folder(str(augment(fake_run(tmp_path).folder, tmp_path / "out")))
    assert found.classes == ["defective", "functional"]
    assert len(found) == 30


def test_datasets_reads_it_as_one_split_with_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    to = augment(fake_run(tmp_path).folder, tmp_path / "out")
    found = datasets.load_dataset("imagefolder", data_dir=str(to), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    assert set(found["train"].unique("label")) == {"defective", "functional"}
    assert sum(found["train"]["synthetic"]) == 12
