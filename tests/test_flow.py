"""The whole flow on a small data set and SD 1.5's architecture; what it writes is read back with other people's code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionPipeline
from PIL import Image

from synthimg.attributes import captions
from synthimg.config import Config
from synthimg.core.files import digest
from synthimg.errors import UserError
from synthimg.pipeline import run
from synthimg.reading import parse
from synthimg.tools.preview import MARGIN, preview_grid

pytestmark = pytest.mark.slow

METHODS = ["text", "image", "from_common", "controlnet", "inpaint", "transplant", "procedural"]
KINDS = {"transplant": "compositeCapture", "procedural": "compositeSynthetic"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("flow")
    return tiny.photographs(place / "data"), tiny.sd15(place / "base")


@pytest.fixture(scope="module")
def finished(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A tuned decoder, a LoRA with a mask ControlNet, every method of generation."""
    data, base = folders
    tree = tiny.settings(data, tmp_path_factory.mktemp("outputs"), base)
    tree["finetune"] |= {"controlnet": "mask", "min_snr_gamma": 5, "decoder_steps": 3}
    tree["generate"] |= {"count": 2 * len(METHODS), "detail": 0.5, "methods": dict.fromkeys(METHODS, 1)}
    config = parse(tree)
    run(config)
    return config


def test_run_ends_with_a_report_and_complete_metrics(finished: Config) -> None:
    assert "cracked" in (finished.folder / "report.html").read_text()
    metrics = json.loads((finished.folder / "evaluate" / "metrics.json").read_text())
    assert metrics["rare_class"] == "cracked"
    assert set(metrics["recall"]["arms"]) >= {"real", "oversampled", "oracle"}


def test_a_data_set_of_one_class_is_refused_before_anything_is_trained(folders: tuple[Path, Path], tmp_path: Path) -> None:
    data, base = folders
    tree = tiny.settings(data, tmp_path, base)
    tree["dataset"]["classes"] = ["cracked"]
    config = parse(tree)
    with pytest.raises(UserError, match="every image is 'cracked'"):
        run(config)
    assert not (config.folder / "finetune").exists()


def test_second_run_recomputes_nothing(finished: Config) -> None:
    files = {path: path.stat().st_mtime_ns for path in tiny.files(finished.folder)}
    assert len(files) > 20
    run(finished)
    assert files == {path: path.stat().st_mtime_ns for path in tiny.files(finished.folder)}


def test_plan_matches_its_images_and_they_say_they_are_synthetic(finished: Config) -> None:
    plan = pd.read_parquet(finished.folder / "generate" / "plan.parquet")
    assert sorted(plan["method"]) == sorted(METHODS * 2)
    assert {path.stem for path in (finished.folder / "generate" / "images").iterdir()} == set(plan["id"])
    for row in plan.to_dict("records"):
        with Image.open(finished.folder / "generate" / "images" / f"{row['id']}.png") as image:
            assert image.size == (64, 64)
            assert json.loads(image.info["synthimg"])["prompt"] == row["prompt"]
            kind = KINDS.get(row["method"], "trainedAlgorithmicMedia")
            assert f'digitalsourcetype/{kind}"' in image.info["XML:com.adobe.xmp"]


def test_where_no_model_draws_none_is_trained_or_even_looked_for(folders: tuple[Path, Path], tmp_path: Path) -> None:
    tree = tiny.settings(folders[0], tmp_path, tmp_path / "no-such-base")
    tree["generate"] |= {"methods": {"text": 0, "transplant": 1, "procedural": 1}, "defects": "surface"}
    config = parse(tree)
    run(config)
    assert {path.name for path in (config.folder / "finetune").iterdir()} == {"key.json", "manifest.json", "timing.json"}
    assert "Synthetic" in (config.folder / "report.html").read_text()
    made = pd.read_parquet(config.folder / "generate" / "plan.parquet")
    cells = captions.grid(captions.load(config.dataset.prompts), config.generate.axes)
    with Image.open(preview_grid(config)) as table:
        assert table.width == len(cells) * config.resolution  # a single axis: a line for each method
        grid = np.asarray(table)
    side, line = config.resolution, config.resolution + MARGIN
    for i, method in enumerate(["transplant", "procedural"]):
        for j, cell in enumerate(cells):  # what is shown is the first of its cell, as the job made it
            ((axis, name),) = cell.items()
            row = made[(made["method"] == method) & (made[f"attribute.{axis}"] == name)].iloc[0]
            with Image.open(config.folder / "generate" / "images" / f"{row['id']}.png") as image:
                top = MARGIN + i * line + MARGIN
                assert np.array_equal(np.asarray(image), grid[top : top + side, j * side : (j + 1) * side])
    assert "Nothing was trained" in (config.folder / "report.html").read_text()
    # the same run with a model's images would look for a model that is not there: it is another run
    with pytest.raises(UserError, match=r"generate\.methods\.text"):
        run(parse(tree | {"generate": {**tree["generate"], "methods": {"text": 1, "transplant": 1}}}))


def test_lora_loads_with_plain_diffusers_and_changes_the_picture(finished: Config, folders: tuple[Path, Path]) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folders[1], safety_checker=None)
    before = tiny.drawn(pipeline)
    pipeline.load_lora_weights(finished.folder / "finetune" / "adapter")
    assert np.abs(tiny.drawn(pipeline) - before).max() > 1e-4


def test_controlnet_loads_with_plain_diffusers_and_has_learnt(finished: Config) -> None:
    controlnet = ControlNetModel.from_pretrained(finished.folder / "finetune" / "controlnet")
    # its output convolutions start at zero: any other value comes from training
    assert any(block.weight.abs().max() > 0 for block in controlnet.controlnet_down_blocks)


def test_only_the_decoder_of_the_saved_autoencoder_has_changed(finished: Config, folders: tuple[Path, Path]) -> None:
    before = AutoencoderKL.from_pretrained(folders[1] / "vae").state_dict()
    after = AutoencoderKL.from_pretrained(finished.folder / "finetune" / "vae").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_models_do_not_name_the_folder_of_their_base(finished: Config, folders: tuple[Path, Path]) -> None:
    assert _naming(finished.folder / "finetune", folders[1]) == []


def _naming(folder: Path, base: Path) -> list[Path]:
    """Saved models that hold the base's place: their digest, and all that is drawn from it, would be this machine's own."""
    return [path for path in folder.rglob("config.json") if str(base) in path.read_text()]


def test_full_finetune_from_another_base_by_changing_base_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    tree = tiny.settings(folders[0], tmp_path, "embedded")
    tree["finetune"] |= {"method": "full", "steps": 2}
    tree["generate"] |= {"count": 3}
    run(parse(tree))
    other = parse({**tree, "base": str(folders[1]), "name": "other"})
    run(other)
    assert (other.folder / "finetune" / "adapter" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    assert _naming(other.folder / "finetune", folders[1]) == []


def test_preview_draws_the_whole_grid_beside_the_stages(finished: Config, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / finished.name)
    config, side = finished.model_copy(update={"outputs": str(tmp_path)}), finished.resolution
    before = {path: path.stat().st_mtime_ns for path in config.folder.rglob("*") if path.is_file()}
    path = preview_grid(config)
    cells = len(captions.grid(captions.load(config.dataset.prompts), config.generate.axes))
    with Image.open(path) as table:
        assert table.width == cells * side  # a single axis: one row
        pixels = np.asarray(table)[-side:]
    first, second = pixels[:, :side], pixels[:, side : 2 * side]
    assert (first != second).any()
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_same_seed_same_files(finished: Config, tmp_path: Path) -> None:
    again = finished.model_copy(update={"outputs": str(tmp_path)})
    run(again)

    def contents(config: Config) -> dict[str, str]:
        files = tiny.files(config.folder)
        volatile = {"timing.json", "checkpoints", "logs"}
        kept = [path for path in files if not volatile & set(path.relative_to(config.folder).parts)]
        return {path.relative_to(config.folder).as_posix(): digest(path) for path in kept}

    assert contents(again) == contents(finished)
