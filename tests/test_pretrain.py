"""The recipe of the embedded model, at toy size: it ends with a folder plain diffusers loads, and resumes exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from synthimg.cli import main
from synthimg.core.files import digest
from synthimg.diffusion import base, edits
from synthimg.tools.edit import Strength, edit_images

pytestmark = pytest.mark.slow

QUICK = Strength(steps=1)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    corpus = folder / "corpus"
    corpus.mkdir()
    lines = []
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(corpus / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": "a photo of noise, evenly lit"}))
    (corpus / "metadata.jsonl").write_text("\n".join(lines))
    settings = {
        "corpus": str(corpus), "work": str(folder / "work"), "resolution": 32, "scenes": 60, "vae_channels": [8, 8, 8, 8],
        "latent_channels": 4, "vae_steps": 3, "vae_batch": 4, "tokens": 32, "text_width": 32, "text_layers": 1,
        "unet_channels": [16, 32, 32], "unet_steps": 4, "unet_batch": 4, "checkpoint_every": 2, "device": "cpu",
        "edit": {"pairs": 12, "steps": 2, "batch": 2, "rank": 2},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    main(["pretrain", str(path)])
    return path


def test_the_model_draws_with_plain_diffusers(recipe: Path) -> None:
    model = recipe.parent / "work" / "model"
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    image = pipeline("a cracked panel, unknown words", num_inference_steps=2, height=32, width=32).images[0]
    assert image.size == (32, 32)
    assert str(recipe.parent) not in "".join(file.read_text() for file in model.rglob("*.json"))


def test_training_resumes_where_it_was(recipe: Path) -> None:
    work = recipe.parent / "work"
    unet, model = work / "unet", work / "model"
    before = {file.relative_to(model): digest(file) for file in model.rglob("*.safetensors")}
    (unet / "finished.safetensors").unlink()
    (unet / "step-0000004.safetensors").unlink()
    shutil.rmtree(model)
    main(["pretrain", str(recipe)])
    assert {file.relative_to(model): digest(file) for file in model.rglob("*.safetensors")} == before


def test_the_model_can_edit_and_still_draws_from_noise(recipe: Path) -> None:
    model = recipe.parent / "work" / "model"
    assert sorted(path.name for path in (model / "edit").iterdir()) == [
        "conv_in.safetensors",
        "pytorch_lora_weights.safetensors",
    ]
    for path in (model / "edit").iterdir():
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    pipe = base.load(str(model), torch.device("cpu"))
    assert pipe.unet.config.in_channels == 4
    before = pipe.unet.state_dict()["conv_in.weight"].clone()
    edits.begin(pipe, str(model))
    assert pipe.unet.conv_in.weight.shape[1] == 8 and pipe.unet.conv_in.weight[:, 4:].abs().max() > 0
    torch.testing.assert_close(pipe.unet.conv_in.weight[:, :4], before, rtol=0, atol=0.05)
    picture = edit_images(str(model), recipe.parent / "corpus" / "0.png", "add a crack", recipe.parent / "edited.png", QUICK)
    with Image.open(picture) as image:
        assert image.size == (32, 32)


def test_a_finished_model_is_kept_and_gets_its_edit_adapter(recipe: Path, tmp_path: Path) -> None:
    model = shutil.copytree(recipe.parent / "work" / "model", tmp_path / "model")
    again = {path.name: digest(path) for path in (model / "edit").iterdir()}
    shutil.rmtree(model / "edit")
    before = {file: digest(file) for file in model.rglob("*.*") if file.is_file()}
    (recipe.parent / "work" / "edit" / "checkpoints" / "step-0000002.safetensors").unlink()  # it is trained once more
    main(["pretrain", str(recipe), "--to", str(model)])
    assert {file: digest(file) for file in before} == before
    assert {path.name: digest(path) for path in (model / "edit").iterdir()} == again


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_training_goes_the_same_way(recipe: Path) -> None:
    work = recipe.parent / "work"
    compiled = yaml.safe_load(recipe.read_text()) | {"compile": True, "work": str(recipe.parent / "compiled")}
    path = recipe.with_name("compiled.yaml")
    path.write_text(yaml.safe_dump(compiled))
    main(["pretrain", str(path)])
    one, two = (load_file(place / "unet" / "finished.safetensors") for place in (work, recipe.parent / "compiled"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=5e-3)


def test_a_kept_autoencoder_that_is_not_there_is_named(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = yaml.safe_load(recipe.read_text()) | {"autoencoder": "nowhere/vae", "work": str(recipe.parent / "other")}
    path = recipe.with_name("other.yaml")
    path.write_text(yaml.safe_dump(changed))
    with pytest.raises(SystemExit, match="2"):
        main(["pretrain", str(path)])
    assert "nowhere/vae" in capsys.readouterr().err


def test_scenes_alone_and_noise_as_the_target(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = yaml.safe_load(recipe.read_text()) | {"corpus": None, "prediction": "epsilon", "work": str(tmp_path / "work")}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings | {"autoencoder": str(recipe.parent / "work" / "model" / "vae")}))
    main(["pretrain", str(path)])
    scheduler = json.loads((tmp_path / "work" / "model" / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "epsilon" and not scheduler["rescale_betas_zero_snr"]
    assert len(np.load(tmp_path / "work" / "pixels.npy", mmap_mode="r")) == 60
    path.write_text(yaml.safe_dump(settings | {"scenes": 0, "work": str(tmp_path / "none")}))
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", str(path)])
    assert ended.value.code == 2
    assert "some scenes are needed" in capsys.readouterr().err
