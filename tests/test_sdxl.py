"""SDXL's architecture through every door: folder, single file, LoRA, image to image, ControlNet, inpainting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import original_layout
import pandas as pd
import pytest
import tiny
import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline
from PIL import Image
from torch import nn

from synthimg.config import Config
from synthimg.diffusion import base, sample
from synthimg.reading import parse
from synthimg.stages.finetune import finetune_model
from synthimg.stages.generate import generate_images
from synthimg.stages.prepare import prepare_dataset

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
STRENGTHS = [0.5, 0.9]
METHODS = {"text": 1, "image": 1, "controlnet": 1, "inpaint": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.sdxl(tmp_path_factory.mktemp("sdxl") / "base")


@pytest.fixture(scope="module")
def generated(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A LoRA and a mask ControlNet of a few steps, then two images of each method."""
    place = tmp_path_factory.mktemp("run")
    tree = tiny.settings(tiny.photographs(place / "data", 16, 24), place / "outputs", folder)
    tree["finetune"] |= {"controlnet": "mask", "steps": 2, "controlnet_steps": 1}
    tree["generate"] = {"count": 8, "steps": 2, "batch_size": 2, "methods": METHODS, "strength": STRENGTHS}
    config = parse(tree)
    for stage in (prepare_dataset, finetune_model, generate_images):
        stage(config)
    return config


def networks(pipeline: object) -> dict[str, dict[str, torch.Tensor]]:
    components = pipeline.components.items()  # type: ignore[attr-defined]
    return {name: part.state_dict() for name, part in components if isinstance(part, nn.Module)}


@pytest.mark.parametrize("make", [tiny.sd15, tiny.sdxl])
def test_a_single_file_is_the_model_of_its_folder(make: object, tmp_path: Path) -> None:
    """The folder beside the file gives what the file does not hold: configurations and tokenizers."""
    whole = base.load(str(make(tmp_path / "model")), CPU)  # type: ignore[operator]
    single = base.load(str(original_layout.save(whole, tmp_path / "model.safetensors")), CPU)
    assert type(single) is type(whole)
    expected, found = networks(whole), networks(single)
    assert set(found) == set(expected) and len(expected) == (4 if make is tiny.sdxl else 3)
    for name, state in expected.items():
        torch.testing.assert_close(found[name], state, rtol=0, atol=0)
    for one, other in zip(*(base.encode_prompts(part, ["a dark panel"]) for part in (whole, single)), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_prompts_are_those_of_both_encoders_with_a_pooled_one(folder: Path) -> None:
    pipeline = base.load(str(folder), CPU)
    prompts = base.encode_prompts(pipeline, ["a dark panel", "a bright panel", ""], batch_size=2)
    assert prompts.hidden.shape == (3, 77, 32 + 48)
    assert prompts.pooled is not None and prompts.pooled.shape == (3, 40)
    assert not torch.equal(prompts.pooled[0], prompts.pooled[1])
    added = base.extra_conditions(64, prompts.pooled, 3)
    assert added is not None
    # height and width of the original, the crop's corner, height and width asked for
    assert added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 3
    assert added["text_embeds"] is prompts.pooled


@pytest.mark.parametrize("start", [False, True])
def test_a_picture_follows_its_prompt_and_seed_alone(folder: Path, start: bool) -> None:
    pipeline = base.load(str(folder), CPU)
    prompts = base.encode_prompts(pipeline, ["a dark panel", "", "something else"])
    picture = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)

    def images(rows: list[int], seeds: list[int]) -> np.ndarray:
        given = picture[: len(rows)] if start else None
        negative = prompts.rows([1] * len(rows))
        begun = None if given is None else sample.Start(given, 0.7)
        found = sample.sample_images(pipeline, prompts.rows(rows), negative, seeds, sample.Solver(3, 3.0, 64), begun)
        return found.astype(int)

    both = images([0, 0], [1, 2])
    assert both.shape == (2, 64, 64, 3)
    assert np.abs(both[:1] - images([0], [1])).max() <= 1
    assert np.abs(both[0] - both[1]).max() > 1
    # the same hidden states with another pooled prompt: the network reads it
    assert np.abs(images([2], [1]) - both[0]).max() > 1


def test_a_lora_of_a_few_steps_loads_with_plain_diffusers_and_changes_the_picture(generated: Config, folder: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    before = tiny.drawn(pipeline)
    pipeline.load_lora_weights(generated.folder / "finetune" / "adapter")
    assert np.abs(tiny.drawn(pipeline) - before).max() > 1e-4


def test_the_loss_of_every_step_is_written_and_validation_is_drawn(generated: Config) -> None:
    losses = pd.read_csv(generated.folder / "finetune" / "loss-adapter.csv")
    assert losses["step"].tolist() == [1, 2] and losses["loss"].between(0, 10).all()
    with Image.open(generated.folder / "finetune" / "validation" / "step-00002.png") as sheet:
        assert sheet.width == 4 * 64


def test_the_controlnet_has_learnt_beside_both_text_encoders(generated: Config) -> None:
    controlnet = ControlNetModel.from_pretrained(generated.folder / "finetune" / "controlnet")
    assert controlnet.config.addition_embed_type == "text_time"
    # its output convolutions start at zero: any other value comes from training
    assert any(block.weight.abs().max() > 0 for block in controlnet.controlnet_down_blocks)


def test_every_method_draws_every_image_planned(generated: Config) -> None:
    plan = pd.read_parquet(generated.folder / "generate" / "plan.parquet")
    assert plan["method"].value_counts().to_dict() == dict.fromkeys(METHODS, 2)
    pictures = set()
    for name in plan["id"]:
        with Image.open(generated.folder / "generate" / "images" / f"{name}.png") as image:
            assert image.size == (64, 64)
            pictures.add(image.tobytes())
    assert len(pictures) == len(plan)


def test_the_plan_cycles_through_all_strengths(generated: Config) -> None:
    plan = pd.read_parquet(generated.folder / "generate" / "plan.parquet")
    for method in ("image", "inpaint"):
        assert sorted(plan.loc[plan["method"] == method, "strength"]) == STRENGTHS
    assert plan.loc[plan["method"].isin(["text", "controlnet"]), "strength"].isna().all()
