"""`synthimg edit`: one picture or a folder, by a run's model or a base that can edit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from synthimg import cli
from synthimg.config import Finetune
from synthimg.diffusion import base, edits
from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.finetune import finetune_model
from synthimg.stages.prepare import prepare_dataset
from synthimg.tools.edit import Strength, edit_images, scaled

QUICK = Strength(steps=1)


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with an editing model beside it."""
    folder = tiny.sd15(tmp_path_factory.mktemp("able") / "base")
    pipe, settings = base.load(str(folder), torch.device("cpu")), Finetune(method="lora", rank=4)
    edits.begin(pipe, str(folder))
    edits.attach(pipe, settings)
    with torch.no_grad():
        pipe.unet.conv_in.weight[:, 4:] = 0.1
    edits.save(pipe, settings, folder / "edit")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in (("wide.jpg", (160, 80)), ("high.png", (50, 75)), ("grey.tif", (64, 64))):
        image = Image.fromarray(random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
        (image.convert("L") if name == "grey.tif" else image).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.slow
def test_a_picture_is_edited_at_the_models_scale_and_says_how(able: Path, pictures: Path, tmp_path: Path) -> None:
    to = edit_images(str(able), pictures / "wide.jpg", "add a crack", tmp_path / "out.png", QUICK)
    with Image.open(to) as image:
        assert image.size == (128, 64)  # the base draws 64 pixels
        told = json.loads(image.text["synthimg"])
        assert "trainedAlgorithmicMedia" in image.text["XML:com.adobe.xmp"]
    assert told["prompt"] == "add a crack" and told["source"] == "wide.jpg" and told["image_guidance"] == 1.5
    again = edit_images(str(able), pictures / "wide.jpg", "add a crack", tmp_path / "again.png", QUICK)
    assert again.read_bytes() == to.read_bytes()
    other = edit_images(str(able), pictures / "wide.jpg", "add a crack", tmp_path / "other.png", QUICK._replace(seed=1))
    assert other.read_bytes() != to.read_bytes()


def test_a_folder_is_edited_picture_by_picture(able: Path, pictures: Path, tmp_path: Path) -> None:
    to = edit_images(str(able), pictures, "dim the light", tmp_path / "out", QUICK)
    assert sorted(path.name for path in to.iterdir()) == ["grey.png", "high.png", "wide.png"]
    alone = edit_images(str(able), pictures / "high.png", "dim the light", tmp_path / "one.png", QUICK)
    assert alone.read_bytes() == (to / "high.png").read_bytes()


@pytest.mark.slow
def test_the_verb_edits_by_a_run(able: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tiny.settings(tiny.photographs(tmp_path / "data", 12, 16), tmp_path / "outputs", able)
    tree["finetune"] |= {"steps": 1, "edit_steps": 1, "edits": {"scenes": 2}}
    config = parse(tree)
    prepare_dataset(config)
    run, picture, to = config.root, pictures / "high.png", tmp_path / "cracked.png"
    words = ["edit", str(run), str(picture), "add a crack", "--to", str(to), "--steps", "1"]
    with pytest.raises(SystemExit):
        cli.main(words)
    assert "has no model that edits; set finetune.edits" in capsys.readouterr().err
    finetune_model(config)
    cli.main(words)
    assert f"done: {to}" in capsys.readouterr().out
    with Image.open(to) as image:
        assert image.size == (64, 96)


@pytest.mark.parametrize(("source", "to", "message"), [
    ("nowhere.png", "a.png", "nowhere.png: no such file or folder"),
    ("notes.txt", "a.png", "notes.txt: no picture"),
    ("high.png", "a.jpg", "a.jpg: expected a name that ends in .png"),
    ("high.png", "wide.jpg", "wide.jpg: exists already"),
    ("empty", "new", "empty: holds no image"),
    ("twins", "new", "would come out as a.png"),
])  # fmt: skip
def test_what_cannot_be_edited_is_named_before_the_model_is_loaded(
    pictures: Path, source: str, to: str, message: str
) -> None:
    (pictures / "empty").mkdir()
    (pictures / "twins").mkdir()
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(pictures / "twins" / name)
    before = sorted(path.name for path in pictures.iterdir())
    with pytest.raises(UserError, match=message):
        edit_images("there is no such model", pictures / source, "add a crack", pictures / to)
    assert sorted(path.name for path in pictures.iterdir()) == before


def test_a_base_without_an_editor_is_refused(tmp_path: Path, pictures: Path) -> None:
    folder = tiny.sd15(tmp_path / "plain")
    with pytest.raises(UserError, match="plain': has no model that edits"):
        edit_images(str(folder), pictures / "high.png", "add a crack", tmp_path / "a.png")
    with pytest.raises(UserError, match="the instruction is empty"):
        edit_images(str(folder), pictures / "high.png", "  ", tmp_path / "a.png")


@pytest.mark.parametrize(("option", "value"), [("--steps", "0"), ("--guidance", "x"), ("--image-guidance", "nan")])
def test_numbers_out_of_range_are_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["edit", "embedded", "a.png", "add a crack", "--to", "b.png", option, value])
    assert f"argument {option}: expected a number from 1 on, found '{value}'" in capsys.readouterr().err


def test_pictures_keep_their_proportions() -> None:
    assert scaled(Image.new("RGB", (1000, 500)), 64).shape == (64, 128, 3)
    assert scaled(Image.new("RGB", (33, 100)), 128).shape == (384, 128, 3)  # 387.9 is nearest to 384 and 392
    assert scaled(Image.new("L", (10, 10)).convert("RGB"), 64).shape == (64, 64, 3)
