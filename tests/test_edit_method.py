"""The methods that edit: what they start from, what they ask for, and where pictures change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from synthimg.config import Config
from synthimg.data import conditions
from synthimg.data.prepared import Prepared, load, prompts_of
from synthimg.diffusion import base, edits, sample
from synthimg.errors import UserError
from synthimg.methods import procedural
from synthimg.methods.base import Material, Wish, find
from synthimg.methods.starts import records
from synthimg.methods.studio import Studio
from synthimg.reading import parse
from synthimg.stages import generate
from synthimg.stages.finetune import finetune_model
from synthimg.stages.prepare import prepare_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("edit-method")
    tiny.photographs(place / "data", rare=16, common=20)
    tiny.sd15(place / "base")
    prompts = yaml.safe_load((Path(__file__).parent / "panel.yaml").read_text())
    prompts["attributes"]["brightness"]["edges"] = [0.42]
    prompts["edits"] = {
        "label.cracked": ["add cracks", "crack the {brightness} panel"], "brightness": ["make it {brightness}"],
    }  # fmt: skip
    prompts["negative"] = "blurred"
    (place / "panel.yaml").write_text(yaml.safe_dump(prompts, sort_keys=False))
    return place


def configured(place: Path, outputs: Path, **own: Any) -> Config:
    tree = tiny.settings(place / "data", outputs, place / "base")
    tree["dataset"]["prompts"] = str(place / "panel.yaml")
    tree["finetune"] |= {"steps": 1, "edit_steps": 2, "precision": "fp32", "edits": {"scenes": 4}}
    tree["generate"] |= {"count": 8, "steps": 2, "methods": {"edit": 1, "edit_rare": 1}, "image_guidance": 1.7, **own}
    return parse(tree)


@pytest.fixture(scope="module")
def tuned(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = configured(place, tmp_path_factory.mktemp("outputs"))
    prepare_dataset(config)
    finetune_model(config)
    return config


def planned(config: Config) -> tuple[pd.DataFrame, Prepared]:
    prepared = load(config)
    return generate.plan(config, prompts_of(config), prepared, "model"), prepared


def test_the_plan_starts_from_the_right_class_and_says_what_is_asked_for(tuned: Config) -> None:
    rows, prepared = planned(tuned)
    frame = prepared.frame.set_index("id")
    sources = frame.loc[rows["source"]].reset_index()
    assert (sources["split"] == "train").all()
    edit = rows["method"].to_numpy() == "edit"
    assert set(sources["label"][edit]) == {"intact"} and set(sources["label"][~edit]) == {"cracked"}
    asked = rows["attribute.brightness"].to_numpy()
    assert (sources["attribute.brightness"].to_numpy()[edit] == asked[edit]).all()
    assert set(rows["prompt"][edit]) == {"add cracks", "crack the dark panel", "crack the bright panel"} & set(
        rows["prompt"]
    )
    # a rare image is asked for the value that it has not
    assert (sources["attribute.brightness"].to_numpy()[~edit] != asked[~edit]).all()
    assert list(rows["prompt"][~edit]) == [f"make it {value}" for value in asked[~edit]]
    # both guidances are in the row; the negative words are not: edits were trained against the empty text
    assert set(rows["image_guidance"]) == {1.7} and set(rows["guidance"]) == {3.0} and set(rows["negative"]) == {""}
    assert set(rows["region"]) == {""} and rows["strength"].isna().all()


def test_where_images_lack_more_the_plan_tells_what_they_have(tuned: Config) -> None:
    _, prepared = planned(tuned)
    prompts = prompts_of(tuned)
    size = {"source": "column", "values": {"small": "small", "large": "large"}}
    wider = prompts.model_validate(
        {**prompts.model_dump(), "attributes": {**prompts.model_dump()["attributes"], "size": size}}
    )
    frame = prepared.frame.assign(**{"attribute.size": "large", "attribute.brightness": "dark"})
    material = Material(tuned, wider, prepared._replace(frame=frame))
    method = find("edit_rare")
    wish = Wish("edit_rare", 0, {"size": "small", "brightness": "bright"}, 0)
    (columns,) = method.plan([wish], records(method, material), material)
    assert (columns["attribute.size"], columns["attribute.brightness"]) == ("large", "bright")
    assert columns["prompt"] == "make it bright"
    impossible = Wish("edit_rare", 0, {"size": "small", "brightness": "dark"}, 0)
    with pytest.raises(UserError, match=r"generate\.methods\.edit_rare: no rare training image"):
        method.plan([impossible], records(method, material), material)


def test_pictures_are_those_of_diffusers_own_pipeline(tuned: Config, place: Path) -> None:
    rows, prepared = planned(tuned)
    batch = rows[rows["method"] == "edit"][:2]
    studio = Studio(tuned, prepared, rows, tuned.folder / "finetune")
    found = find("edit").draw(batch, studio)
    editor = base.load(tuned.base, CPU)
    edits.adapt(editor, tuned.base, tuned.folder / "finetune")
    plain = StableDiffusionInstructPix2PixPipeline.from_pretrained(place / "base", unet=editor.unet, safety_checker=None)
    plain.set_progress_bar_config(disable=True)
    for row, picture in zip(batch.to_dict("records"), found, strict=True):
        start = prepared.pixels[prepared.row_of()[row["source"]]]
        expected = plain(
            row["prompt"], image=Image.fromarray(start), num_inference_steps=2, guidance_scale=3.0, image_guidance_scale=1.7,
            generator=torch.Generator().manual_seed(row["seed"]), output_type="np",
        ).images[0]  # fmt: skip
        assert np.abs(picture - expected * 255).max() < 2
    assert np.abs(found[0].astype(int) - find("edit").draw(batch.assign(image_guidance=4.0), studio)[0]).max() > 0


@pytest.mark.parametrize("kind", ["mask", "drawn"])
def test_outside_its_region_a_picture_is_the_real_image(tuned: Config, kind: str) -> None:
    limited = tuned.generate.model_copy(update={"region": kind, "methods": {"edit": 1.0}, "count": 3})
    config, prepared = tuned.model_copy(update={"generate": limited}), load(tuned)
    if kind == "mask":  # intact panels have no object: give each one in a corner
        masks = np.zeros(prepared.pixels.shape[:3], np.uint8)
        masks[:, 8:20, 8:20] = 255
        prepared = prepared._replace(masks=masks, frame=prepared.frame.assign(mask=True))
    rows = generate.plan(config, prompts_of(config), prepared, "model")
    studio = Studio(config, prepared, rows, config.folder / "finetune")
    found, start = find("edit").draw(rows, studio), studio.pixels(rows["source"])
    if kind == "mask":
        inside = conditions.regions(studio.masks(rows["source"]), range(3))
    else:
        assert (rows["ground"] == rows["source"]).all() and set(rows["defects"]) == {"panel"}
        inside = conditions.regions((procedural.draw(rows, studio) != start).any(3), range(3))
    assert (found == start)[~inside].all()
    assert all((found != start).any(3)[i][inside[i]].any() for i in range(3))


@pytest.mark.slow
def test_a_run_edits_from_start_to_end(tuned: Config) -> None:
    generate.generate_images(tuned)
    rows = pd.read_parquet(tuned.folder / "generate" / "plan.parquet")
    assert rows["method"].value_counts().to_dict() == {"edit": 4, "edit_rare": 4}
    for name in rows["id"]:
        with Image.open(tuned.folder / "generate" / "images" / f"{name}.png") as image:
            assert image.size == (64, 64) and "image_guidance" in image.text["synthimg"]


def test_a_picture_depends_on_its_own_row_alone(place: Path) -> None:
    pipe = base.load(str(place / "base"), CPU)
    edits.begin(pipe, str(place / "base"))
    prompts = base.encode_prompts(pipe, ["add cracks", ""])
    starts = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)

    def drawn(rows: list[int]) -> np.ndarray:
        edit, seeds = sample.Edit(starts[rows], 1.5), [10 + row for row in rows]
        many = len(rows)
        solver = sample.Solver(2, 3.0, 64)
        found = sample.sample_images(pipe, prompts.rows([0] * many), prompts.rows([1] * many), seeds, solver, edit)
        return found.astype(int)

    both = drawn([0, 1])
    assert np.abs(both[1] - drawn([1])[0]).max() <= 1 and np.abs(both[0] - both[1]).max() > 1


def test_a_region_of_masks_needs_masks(place: Path, tmp_path: Path) -> None:
    tree = configured(place, tmp_path).model_dump(mode="json")
    tree["dataset"]["mask"], tree["generate"]["region"] = None, "mask"
    with pytest.raises(UserError, match=r"generate\.region: mask needs dataset\.mask"):
        parse(tree)
