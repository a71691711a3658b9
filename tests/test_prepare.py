import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthimg.attributes import estimators
from synthimg.config import Part
from synthimg.data import decoding, images, masks, prepared
from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.prepare import prepare_dataset

CONSENT = {"licence": "CC0", "scope": ["research"]}
HAM = Path(__file__).parents[2] / "shared" / "data" / "ham10000"


def picture(seed):
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8))
    return small.resize((48, 40), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """30 common and 12 rare images with masks and a table; the last two cannot be read."""
    root = tmp_path / "data"
    (root / "masks").mkdir(parents=True)
    rows = []
    for number in range(42):
        picture(number).save(root / f"{number:03}.png")
        Image.new("1", (48, 40), 1).save(root / "masks" / f"{number:03}_mask.png")
        rows.append({"image_id": f"{number:03}", "kind": "rare" if number % 3 == 0 and number < 36 else "common",
                     "patient": str(number // 2), "site": "arm", "uses": "research", "until": ""})  # fmt: skip
    (root / "041.png").write_text("no image")
    rows[4]["uses"], rows[5]["until"], rows[7]["until"] = "teaching", "2001-01-01", "next year"
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    return root


def settings(folder, **changes):
    dataset = {
        "path": str(folder), "image": "{image_id}.png", "mask": "masks/{image_id}_mask.png", "label_column": "kind",
               "group": "patient", "rare_class": "rare", "rare_budget": 3, "prompts": "generic",
               "attribute_columns": ["site"], "consent": {"scope_column": "uses", "expires_column": "until"},
    }  # fmt: skip
    dataset |= changes
    tree = {"name": "run", "outputs": str(folder.parent / "out"), "resolution": 32, "folds": 1, "dataset": dataset}
    return parse(tree)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "timing.json"}


def test_the_whole_stage(folder, capsys):
    run = settings(folder)
    out = prepare_dataset(run)
    frame, pixels, objects = prepared.load(run)
    assert pixels.shape == (38, 32, 32, 3) and objects.shape == (38, 32, 32) and set(np.unique(objects)) == {255}
    assert frame["mask"].all() and frame["id"].str.fullmatch("[0-9a-f]{16}").all()
    assert {"attribute.site", "attribute.lighting", "measured.texture", "caption"} <= set(frame)
    for row, path in enumerate(frame["path"]):
        assert (images.square(images.read(folder / path), 32, "crop") == pixels[row]).all()
    excluded = pd.read_csv(out / "excluded.csv")
    assert sorted(excluded["path"]) == ["004.png", "005.png", "007.png", "041.png"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["excluded"] == {"consent: does not cover research": 1, "consent: expired": 1,
                                   "consent: unreadable date": 1, "unreadable": 1}  # fmt: skip
    assert summary["classes"]["rare"]["train"] == 3 and summary["classes"]["rare"]["reserve"] > 0
    assert summary["groups"]["rare"]["all"] == frame[frame["label"] == "rare"]["group"].nunique()
    assert "images in groups" in capsys.readouterr().out
    assert not frame[frame["split"] == "test"]["group"].isin(frame[frame["split"] != "test"]["group"]).any()
    before = (out / "manifest.json").stat().st_mtime_ns
    assert prepare_dataset(run) == out and (out / "manifest.json").stat().st_mtime_ns == before

    (folder / "001.png").unlink()
    with pytest.raises(UserError, match="have changed since"):
        prepare_dataset(run)


def test_row_order_does_not_matter_and_a_killed_stage_continues(folder, monkeypatch):
    whole = contents(prepare_dataset(settings(folder)))
    shutil.rmtree(folder.parent / "out")
    table = pd.read_csv(folder / "metadata.csv", dtype=str, keep_default_na=False)
    monkeypatch.setattr(decoding, "PART", 10)
    calls = []

    def dying(*arguments, real=decoding._write_part):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(real(*arguments))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(decoding, "_write_part", dying)
        prepare_dataset(settings(folder))
    kept = list((folder.parent / "out").rglob("part.npz"))
    assert len(kept) == 2
    assert contents(prepare_dataset(settings(folder))) == whole

    shutil.rmtree(folder.parent / "out")
    table.sample(frac=1, random_state=1).to_csv(folder / "metadata.csv", index=False)
    again = contents(prepare_dataset(settings(folder)))
    assert again["records.parquet"] == whole["records.parquet"] and again["pixels.npy"] == whole["pixels.npy"]


def test_a_part_of_a_run_prepares_what_the_whole_run_does(folder):
    folds = settings(folder).model_copy(update={"folds": 3})
    part = folds.model_copy(update={"part": Part(fold=1)})
    out = prepare_dataset(part)
    frame = pd.read_parquet(out / "records.parquet")
    assert sorted(set(frame["fold"])) == [0, 1, 2] and "split" not in frame
    before = contents(out)
    assert prepare_dataset(folds) == out == folds.root / "dataset" and contents(out) == before
    assert set(prepared.load(part).frame["split"]) >= {"train", "validation", "test"}


def test_a_copy_of_a_training_image_never_lands_in_another_split(folder):
    for number in range(1, 30, 3):
        shutil.copy(folder / f"{number:03}.png", folder / f"{number + 1:03}.png")
    run = settings(folder, group=None, rare_budget=None)
    prepare_dataset(run)
    frame, pixels, _ = prepared.load(run)
    keys = [pixels[row].tobytes() for row in range(len(pixels))]
    assert frame.groupby(keys)["split"].nunique().max() == 1 and frame["group"].nunique() < len(frame)


@pytest.mark.parametrize(("changes", "message"), [
    ({"consent": {}}, "no consent entry"),
    ({"consent": CONSENT | {"use": "commercial"}}, "none of the 42 images may be used.*does not cover commercial"),
    ({"group": "person"}, "dataset.group: no column 'person' in metadata.csv; there are: image_id, kind"),
    ({"consent": {"scope_column": "x"}}, "consent.scope_column: no column 'x'"),
    ({"mask": "{nothing}.png"}, "dataset.mask: no column 'nothing'"),
    ({"image": "same.png"}, "names no {column}"),
    ({"rare_class": "odd"}, "no image is labelled 'odd'; the classes are: common, rare"),
    ({"classes": ["rare", "odd"]}, "no image is labelled odd"),
    ({"prompts": "nowhere"}, "no prompts file 'nowhere'.*generic"),
    ({"prompts": "solar-cell"}, "dataset.prompts: no column 'type'"),
    ({"classes": ["rare"]}, "dataset.classes: every image is 'rare'"),
])  # fmt: skip
def test_mistakes_are_named(folder, changes, message):
    with pytest.raises(UserError, match=message):
        prepare_dataset(settings(folder, **changes))
    assert not (folder.parent / "out" / "run" / "dataset").exists()


def test_splits_that_duplicates_have_emptied_are_refused_by_prepare_itself(folder):
    """All common images but one show the same thing: one group, one split."""
    for number in range(2, 42):
        if number % 3 or number >= 36:
            shutil.copy(folder / "001.png", folder / f"{number:03}.png")
    run = settings(folder, group=None)
    with pytest.raises(UserError, match="no images of other classes"):
        prepare_dataset(run)
    assert not (run.folder / "dataset" / "manifest.json").exists()


def test_elpv(tmp_path):
    pytest.importorskip("elpv_dataset")
    dataset = {"path": "pypi:elpv-dataset", "classes": ["functional", "defective"], "rare_class": "defective",
               "rare_budget": 8, "prompts": "solar-cell", "limit": 40, "group": "file_name"}  # fmt: skip
    run = parse({"name": "elpv", "outputs": str(tmp_path), "resolution": 32, "folds": 1, "dataset": dataset})
    summary = json.loads((prepare_dataset(run) / "summary.json").read_text())
    assert summary["licence"] == "CC BY-NC-SA 4.0"
    assert {label: sum(counts.values()) for label, counts in summary["classes"].items()} == {
        "defective": 40,
        "functional": 40,
    }
    assert summary["classes"]["defective"]["train"] == 8


def test_lesion_size_agrees_with_the_experts_masks():
    if not HAM.is_dir():
        pytest.skip("HAM10000 is not beside this repository (shared/data/ham10000)")
    names = [path.stem for path in sorted((HAM / "images").glob("*.jpg"))[::200]]
    pixels = np.stack([images.square(images.read(HAM / "images" / f"{name}.jpg"), 64, "crop") for name in names])
    drawn = [masks.load(HAM / "masks" / f"{name}_segmentation.png", (200, 150)).square(64, "crop") for name in names]
    size = estimators.measure(pixels, ["lesion_size"])["lesion_size"]
    assert np.corrcoef(size, [(mask > 0).mean() for mask in drawn])[0, 1] > 0.75
