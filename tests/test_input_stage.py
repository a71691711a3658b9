"""The whole stage over a folder with odd names: what it prints and keeps, and under which paths it finds things."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image

from synthimg.attributes import captions
from synthimg.core import files
from synthimg.data import walk
from synthimg.diffusion import base
from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.prepare import prepare_dataset
from synthimg.vision import backbone


def picture(file, seed):
    values = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    Image.fromarray(values).resize((48, 48)).save(file)


@pytest.fixture
def photographs(tmp_path):
    """30 common and 12 rare pictures, one of them under a name that is not UTF-8."""
    for number in range(42):
        folder = tmp_path / "d" / ("rare" if number < 12 else "common")
        folder.mkdir(parents=True, exist_ok=True)
        picture(folder / f"{number:03}.png", number)
    os.rename(os.fsencode(tmp_path / "d/common/020.png"), os.fsencode(tmp_path / "d/common") + b"/caf\xe9.png")
    return tmp_path / "d"


def run(folder, **keys):
    consent = {"licence": "CC0", "scope": ["research"]}
    tree = {"path": str(folder), "rare_class": "rare", "prompts": "generic", "consent": consent} | keys
    return parse({"name": "run", "outputs": str(folder.parent / "out"), "resolution": 32, "folds": 1, "dataset": tree})


def test_prepare_prints_and_keeps_the_account(photographs, capsys):
    tiny.touch(photographs, "rare/Thumbs.db", "rare/notes.txt", "common/.hidden.png")
    (photographs / "rare" / "broken.png").write_text("no picture")
    (photographs / "rare" / "all").symlink_to("..")
    out = prepare_dataset(run(photographs))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["files"] | {"rules": None} == {"on_disk": 47, "used": 41, "mask": 0, "left_out": 2, "ignored": 4,
                                                  "rules": None, "absent": 0}  # fmt: skip
    assert sum(summary["files"]["rules"].values()) == 4 and tiny.count_files(photographs) == 47
    assert "files on disk: 47 = 41 used + 0 masks + 2 left out + 4 ignored" in capsys.readouterr().out
    excluded = pd.read_csv(out / "excluded.csv").set_index("path")["reason"]
    assert excluded["common/caf\\xe9.png"] == "name is not UTF-8 (rename the file or its folder)"
    assert excluded["rare/broken.png"].startswith("unreadable") and len(excluded) == 2
    assert summary["suspicions"][0]["kind"] == "name is not UTF-8"
    assert len(pd.read_parquet(out / "records.parquet")) == 41


def test_a_class_whose_folder_is_not_utf8_is_named(photographs):
    os.rename(os.fsencode(photographs / "common"), os.fsencode(photographs) + b"/s\xe9rie")
    with pytest.raises(UserError, match=r"without images: s\\xe9rie \(its 30 files: name is not UTF-8"):
        prepare_dataset(run(photographs))


def test_a_data_set_below_a_folder_that_is_not_utf8_is_prepared(photographs, monkeypatch):
    odd = os.fsencode(photographs.parent) + b"/m\xe9dical"
    os.rename(os.fsencode(photographs), odd)
    monkeypatch.chdir(odd)
    config = run(Path("../d")).model_copy(update={"outputs": "out"})
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"path": "."})})
    assert len(pd.read_parquet(prepare_dataset(config) / "records.parquet")) == 41


def test_consent_is_asked_by_the_table_for_files_under_another_spelling(photographs):
    from synthimg.data import consent

    names = [name.replace("/", "\\") for name in walk.tree(photographs).pictures]
    rows = pd.DataFrame({"file_name": names, "label": [name.partition("\\")[0] for name in names], "uses": "research"})
    rows.to_csv(photographs / "metadata.csv", index=False)
    config = run(photographs, consent={"scope_column": "uses"})
    paths = pd.read_parquet(prepare_dataset(config) / "records.parquet")["path"]
    assert len(paths) == 41 and all("/" in path for path in paths)
    consent.recheck(config.dataset, paths)
    rows.loc[3, "uses"] = ""
    rows.to_csv(photographs / "metadata.csv", index=False)
    with pytest.raises(UserError, match=r"1 of the 41 images .* consent: none \(metadata\.csv row 4\)"):
        consent.recheck(config.dataset, paths)


def test_every_path_of_a_configuration_knows_the_home_folder(photographs, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(captions.find("generic"), tmp_path / "words.yaml")
    config = run(photographs, path="~/d", prompts="~/words.yaml").model_copy(update={"outputs": "~/here"})
    assert prepare_dataset(config) == tmp_path / "here" / "run" / "dataset"
    tiny.sd15(tmp_path / "model")
    assert base.find("~/model") == tmp_path / "model"
    with pytest.raises(UserError, match=f"{tmp_path}/weights.pth does not exist"):
        backbone.inception_weights("~/weights.pth")
    assert files.expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
