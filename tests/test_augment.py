"""The training folder: as measured, marked, whole or absent, and read by the libraries people use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_run import RESOLUTION, SPLITS, fake_run, read_config
from PIL import Image

from synthimg.data.prepared import load
from synthimg.errors import UserError
from synthimg.tools.augment import augment_dataset, folder_names


def test_folder(tmp_path: Path) -> None:
    run = fake_run(tmp_path).folder
    to = augment_dataset(run, tmp_path / "out")
    rows = [json.loads(line) for line in (to / "metadata.jsonl").read_text().splitlines()]
    assert sum(row["synthetic"] for row in rows) == 12
    assert len(rows) == 12 + 18
    assert len({tuple(row) for row in rows}) == 1
    drawn = {path.read_bytes() for path in run.glob("generate/images/*")}
    assert all((to / row["file_name"]).read_bytes() in drawn for row in rows if row["synthetic"])
    assert all((row["original"] == "") == row["synthetic"] for row in rows)
    assert all(row["group"].startswith("defective-train") for row in rows if row["source"])
    card = (to / "README.md").read_text()
    assert "12 of the 30 images are synthetic" in card
    assert "CC BY-NC-SA 4.0" in card and "What was measured: Synthetic images raised recall" in card
    assert not list(tmp_path.glob(".*part"))


def test_the_card_claims_no_gain_that_nobody_measured(tmp_path: Path) -> None:
    run = fake_run(tmp_path).folder
    (run / "evaluate" / "manifest.json").unlink()
    assert (
        "Whether these synthetic images raise recall was not measured."
        in (augment_dataset(run, tmp_path / "out") / "README.md").read_text()
    )


def test_what_is_made_on_a_real_image_joins_its_group(tmp_path: Path) -> None:
    run = (config := fake_run(tmp_path)).folder
    plan, train = pd.read_parquet(file := run / "generate" / "plan.parquet"), load(config).frame.query("split == 'train'")
    ground = train.iloc[-1]
    plan.assign(source="", condition="", ground=ground["id"], method="procedural", defects="panel").to_parquet(file)
    to = augment_dataset(run, tmp_path / "out")
    rows = [json.loads(line) for line in (to / "metadata.jsonl").read_text().splitlines()]
    made = [row for row in rows if row["synthetic"]]
    assert {row["group"] for row in made} == {ground["group"]} and {row["defects"] for row in made} == {"panel"}


def test_real_images_are_the_pixels_that_were_measured(tmp_path: Path) -> None:
    run = (config := fake_run(tmp_path)).folder
    for path in tmp_path.glob("cells/*/*.png"):
        Image.open(path).convert("L").resize((300, 200)).save(path)
    records = load(config)
    measured = dict(zip(records.frame.path, records.pixels, strict=True))
    to = augment_dataset(run, tmp_path / "out")
    rows = [json.loads(line) for line in (to / "metadata.jsonl").read_text().splitlines()]
    train = records.frame[records.frame.split == "train"]
    assert sorted(row["original"] for row in rows if not row["synthetic"]) == sorted(train.path)
    for row in rows:
        with Image.open(to / row["file_name"]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (RESOLUTION, RESOLUTION))
            assert row["synthetic"] or (np.asarray(image) == measured[row["original"]]).all()
    assert f"{RESOLUTION} x {RESOLUTION} pixels" in (to / "README.md").read_text()


def lapse(run: Path, **changes: str) -> None:
    """Change the consent entry that a run has recorded, as if time had passed."""
    tree = read_config(run)
    tree["dataset"]["consent"] |= changes
    (run / "config.yaml").write_text(yaml.safe_dump(tree))


def test_consent_that_has_ended(tmp_path: Path) -> None:
    run = fake_run(tmp_path).folder
    lapse(run, expires="2001-01-01")
    with pytest.raises(UserError, match=r"^dataset\.consent: 40 of the 40 images .*expired.*prepare under another name$"):
        augment_dataset(run, tmp_path / "out")
    lapse(run, expires="9999-12-31")
    (tmp_path / "cells" / "functional" / "test-3.png").unlink()  # withdrawn, and not from the training split
    with pytest.raises(UserError, match=r"1 of the 40 images .* functional/test-3\.png: no longer in cells;"):
        augment_dataset(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_consent_withdrawn_in_the_table(tmp_path: Path) -> None:
    """A record's own cell counts, read anew; so does a row that is gone."""
    run = (config := fake_run(tmp_path)).folder
    frame = load(config).frame
    table = pd.DataFrame({"file_name": frame.path, "label": frame.label, "uses": "research"})
    table.to_csv(tmp_path / "cells" / "metadata.csv", index=False)
    lapse(run, scope_column="uses")
    assert augment_dataset(run, tmp_path / "before").is_dir()
    table.loc[[3, 30], "uses"] = "", "teaching"
    table.drop(index=35).to_csv(tmp_path / "cells" / "metadata.csv", index=False)
    with pytest.raises(UserError, match=rf"3 of the 40 images .*{frame.path[3]}: consent: none \(metadata\.csv row 4\)"):
        augment_dataset(run, tmp_path / "out")


def test_refusals(tmp_path: Path) -> None:
    run = fake_run(tmp_path).folder
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        augment_dataset(run, full)
    with pytest.raises(UserError, match="lies inside the data set"):
        augment_dataset(run, tmp_path / "cells" / "more")
    for path in run.glob("generate/images/*"):
        path.unlink()
    with pytest.raises(UserError, match=r"\.png: this accepted image is missing"):
        augment_dataset(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (run / "filter" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"filter/manifest\.json"):
        augment_dataset(run, tmp_path / "out")


def test_nothing_accepted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no synthetic image was accepted"):
        augment_dataset(fake_run(tmp_path, accepted=0).folder, tmp_path / "out")


def test_labels_become_safe_and_distinct_folders() -> None:
    labels = ["ok", "a/b", "a_b", "..", "Crack", "crack", "test", "protest", "crash-test", "__x", "with space"]
    names = folder_names(labels)
    assert names["ok"] == "ok"
    assert names["protest"] == "protest"
    assert len({name.casefold() for name in names.values()}) == len(labels)
    assert not any(set("/\\ ") & set(name) or name.startswith((".", "_", "-")) for name in names.values())


def test_torchvision_reads_it(tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets").ImageFolder
    counts = {**SPLITS, "held out": {"train": 0, "reserve": 0, "validation": 1, "test": 1}}
    found = folder(str(augment_dataset(fake_run(tmp_path, counts=counts).folder, tmp_path / "out")))
    assert found.classes == ["defective", "functional"]
    assert len(found) == 30


def test_datasets_reads_it_as_one_split_with_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    to = augment_dataset(fake_run(tmp_path).folder, tmp_path / "out")
    found = datasets.load_dataset("imagefolder", data_dir=str(to), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    assert set(found["train"].unique("label")) == {"defective", "functional"}
    assert sum(found["train"]["synthetic"]) == 12
