"""Plan and sampler: balanced, seeded by name, independent of batch size."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from synthimg import scenes
from synthimg.attributes import captions, estimators
from synthimg.config import Defects
from synthimg.data import conditions
from synthimg.data.prepared import Prepared
from synthimg.data.provenance import encode_png
from synthimg.diffusion import base, sample
from synthimg.errors import UserError
from synthimg.methods import donors, pasting
from synthimg.methods.procedural import damaged
from synthimg.reading import parse
from synthimg.stages.generate import able, draw, plan, share_out


@given(st.dictionaries(st.sampled_from(["text", "image", "edit"]), st.floats(0.01, 10), min_size=1), st.integers(1, 500))
def test_share_out_adds_up_and_is_fair(weights: dict[str, float], count: int) -> None:
    parts = share_out(weights, count)
    assert sum(parts.values()) == count
    total = sum(weights.values())
    assert all(abs(parts[name] - count * weight / total) < 1 for name, weight in weights.items())


def records() -> Prepared:
    frame = pd.DataFrame({
        "id": [f"{i:016x}" for i in range(12)], "label": ["cracked", "intact"] * 6, "split": ["train"] * 8 + ["test"] * 4,
        "mask": True, "attribute.brightness": ["dark", "dark", "bright", "bright"] * 3,
    })  # fmt: skip
    return Prepared(frame, np.zeros((12, 8, 8, 3), np.uint8), None)


def planned(tmp_path: Path, prepared: Prepared | None = None, **generate: object) -> pd.DataFrame:
    tree = tiny.settings(tmp_path, tmp_path, "embedded")
    tree["generate"] = generate
    config = parse(tree)
    return plan(config, captions.load(config.dataset.prompts), prepared or records(), "model")


def test_plan_is_balanced_and_starts_from_training_images_alone(tmp_path: Path) -> None:
    masked = records()._replace(masks=np.full((12, 8, 8), 255, np.uint8))
    rows = planned(tmp_path, masked, count=16, methods={"text": 1, "image": 1, "from_common": 1, "inpaint": 1})
    assert rows["method"].value_counts().to_dict() == {"text": 4, "image": 4, "from_common": 4, "inpaint": 4}
    assert rows["id"].is_unique
    assert rows["seed"].is_unique
    assert (rows.groupby("method")["attribute.brightness"].value_counts(normalize=True) == 0.5).all()
    sources = records().frame.set_index("id").loc[rows["source"][rows["source"] != ""]]
    assert (sources["split"] == "train").all()
    # a start image that already has the attribute asked for is preferred
    asked = rows["attribute.brightness"][rows["source"] != ""].to_numpy()
    assert (sources["attribute.brightness"].to_numpy() == asked).all()
    common = rows["method"].isin(["from_common", "inpaint"])
    assert set(sources["label"][common[rows["source"] != ""].to_numpy()]) == {"intact"}
    assert set(sources["label"][~common[rows["source"] != ""].to_numpy()]) == {"cracked"}


def test_the_plan_aims_at_where_the_classifier_will_be_used(tmp_path: Path) -> None:
    """Only the deployment's categories are asked for, on grounds from there; donors are the rare images from elsewhere."""
    masked = records()._replace(masks=np.full((12, 8, 8), 255, np.uint8))
    tree = tiny.settings(tmp_path, tmp_path, "embedded")
    tree["dataset"]["deployment"] = {"brightness": ["dark"]}
    tree["generate"] = {"count": 8, "methods": {"text": 1, "image": 1, "from_common": 1}}
    config = parse(tree)
    prompts = captions.load(config.dataset.prompts)
    rows = plan(config, prompts, masked, "model")
    assert set(rows["attribute.brightness"]) == {"dark"}
    frame = masked.frame.set_index("id")
    assert set(frame.loc[rows["source"][rows["method"] == "from_common"], "attribute.brightness"]) == {"dark"}
    assert captions.grid(prompts, [], {"brightness": ["bright"]}) == [{"brightness": "bright"}]
    assert captions.grid(prompts, [], {"site": ["here"]}) == captions.grid(prompts, [])
    # where no ground is from there, those from elsewhere have to do
    bright = masked._replace(frame=masked.frame.assign(**{"attribute.brightness": "bright"}))
    rows = plan(config, prompts, bright, "model")
    assert set(rows["attribute.brightness"]) == {"dark"} and (rows["source"][rows["method"] == "from_common"] != "").all()


def test_without_rare_training_images_methods_that_need_them_stand_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = lit()
    rare = (prepared.frame["label"] == "cracked") & (prepared.frame["split"] == "train")
    none = prepared.frame.assign(split=prepared.frame["split"].mask(rare, "reserve"))
    methods = {"image": 1, "procedural": 2, "text": 1}
    assert able(methods, prepared.frame, "cracked") == methods
    assert able(methods, none, "cracked") == {"procedural": 2, "text": 1}
    assert "no real rare training image, so image stand aside" in capsys.readouterr().out
    rows = planned(tmp_path, prepared._replace(frame=none), count=9, methods=methods)
    assert rows["method"].value_counts().to_dict() == {"procedural": 6, "text": 3}
    with pytest.raises(UserError, match=r"generate\.methods: image, transplant need a real rare training image"):
        able({"image": 1, "transplant": 1}, none, "cracked")


def test_a_transplant_is_planned_with_a_donor_and_a_recipient_of_the_same_size(tmp_path: Path) -> None:
    prepared = records()
    masks = np.zeros((12, 8, 8), np.uint8)
    for i, mask in enumerate(masks):
        mask[1 : [3, 3, 7, 6][i % 4], 2:6] = 255  # 12, 12, 38 and 31 % of the image; even rows are rare
    masks[4] = 0  # a rare image without an object has none to give
    rows = planned(tmp_path, prepared._replace(masks=masks), count=48, methods={"transplant": 1})
    frame = prepared.frame.set_index("id")
    assert set(rows["source"]) == {frame.index[0], frame.index[2], frame.index[6]}
    assert (frame.loc[rows["ground"], ["label", "split"]] == ["intact", "train"]).all(axis=None)
    # tone and light are the recipient's, so it is chosen by what is asked for; the donor by its size
    asked = rows["attribute.brightness"].to_numpy()
    assert (frame.loc[rows["ground"], "attribute.brightness"].to_numpy() == asked).all()
    area = pd.Series((masks > 0).mean((1, 2)), frame.index)
    wanted, own = area[rows["ground"]].to_numpy(), area[rows["source"]].to_numpy()
    assert rows["scale"].between(*pasting.LIMITS).all()
    assert np.allclose(own * rows["scale"] ** 2, wanted)  # among three donors there is one of which that can be made
    # sizes as measured go first: seen half as large, the same object is enlarged twice as much in area
    halved = prepared._replace(masks=masks, frame=prepared.frame.assign(**{"measured.lesion_size": area.to_numpy() / 2}))
    halved.frame.loc[1::2, "measured.lesion_size"] *= 2
    again = planned(tmp_path, halved, count=16, methods={"transplant": 1})
    wanted, own = area[again["ground"]].to_numpy(), area[again["source"]].to_numpy()
    most = np.sqrt(pasting.COVER[1] / own)
    assert np.allclose(again["scale"], np.clip(np.sqrt(2 * wanted / own), pasting.LIMITS[0], np.minimum(1.6, most)))
    assert (own * again["scale"] ** 2 <= pasting.COVER[1] + 1e-9).all()


def test_the_size_of_a_transplant_keeps_away_from_the_edges_of_its_category(tmp_path: Path) -> None:
    prepared, masks = records(), np.zeros((12, 10, 10), np.uint8)
    masks[:, 2:6, 2:6] = 255  # 16 % of the image, as is measured
    masks[1::2, 2:8, 2:8] = 255  # recipients: 36 %, just below the edge of large
    frame = prepared.frame.assign(**{"measured.lesion_size": (masks > 0).mean((1, 2)), "attribute.lesion_size": "medium"})
    prepared = Prepared(frame, np.zeros((12, 10, 10, 3), np.uint8), masks)
    tree = tiny.settings(tmp_path, tmp_path, "embedded")
    tree["generate"] = {"count": 8, "methods": {"transplant": 1}, "axes": ["lesion_size"]}
    prompts = captions.load("dermatology")
    rows = plan(parse(tree), prompts, prepared, "model")
    edge = prompts.attributes["lesion_size"].edges[1]
    assert np.allclose(0.16 * rows["scale"] ** 2, 0.75 * edge)


def photographs(side: int = 64) -> Prepared:
    """Dark spots on skin; every other donor is pale but for its core, so that less is seen of it than its mask shows."""
    far = np.hypot(*(np.indices((side, side)) - (side - 1) / 2)) / side
    pixels, masks = np.full((12, side, side, 3), (210, 165, 145), np.uint8), np.zeros((12, side, side), np.uint8)
    for i in range(12):
        radius = 0.3 if i % 2 == 0 else [0.2, 0.3, 0.4][i // 2 % 3]  # donors: 28 %; recipients: 13, 28 and 50 %
        masks[i][far < radius] = 255
        pixels[i][far < (0.15 if i % 4 == 0 else radius)] = (90, 50, 40)
    frame = records().frame
    found = estimators.lesion_size(pixels)
    sizes = captions.load("dermatology").attributes["lesion_size"]
    # as on the donor's own photograph, where an estimator may well see what a mask shows
    found[::4] = (masks > 0).mean((1, 2))[::4]
    kinds = captions.categories(sizes, found)
    described = {"measured.lesion_size": found, "attribute.lesion_size": kinds, "attribute.skin_tone": "medium"}
    return Prepared(frame.assign(**described), pixels, masks)


def test_an_object_goes_where_it_is_seen_at_the_size_asked_for(tmp_path: Path) -> None:
    prepared, prompts = photographs(), captions.load("dermatology")
    tree = tiny.settings(tmp_path, tmp_path, "embedded")

    def given(prepared: Prepared, axes: list[str]) -> dict[str, set[str]]:
        tree["generate"] = {"count": 48, "methods": {"transplant": 1}, "axes": axes}
        rows = plan(parse(tree), prompts, prepared, "model")
        size = prepared.frame.set_index("id")["attribute.lesion_size"]
        return {name: set(part["source"]) for name, part in rows.groupby(rows["ground"].map(size))}

    by_size, pale = given(prepared, ["lesion_size"]), set(prepared.frame["id"][::4])
    assert by_size["small"] & pale and by_size["small"] - pale
    assert by_size["medium"] and not by_size["medium"] & pale
    assert by_size["large"] and not by_size["large"] & pale
    # where there are only such, or no size is asked for, they go anywhere
    alone = prepared._replace(frame=prepared.frame.assign(label=["cracked", "intact", "none", "intact"] * 3))
    assert all(found <= pale for found in given(alone, ["lesion_size"]).values())
    assert all(found & pale for found in given(prepared, ["skin_tone"]).values())


def test_the_donor_of_a_recipient_does_not_depend_on_the_recipients_before(tmp_path: Path) -> None:
    prepared = photographs()
    assert prepared.masks is not None
    sizes = donors.sizes_of(captions.load("dermatology"), ["lesion_size"])
    prepared = prepared._replace(frame=donors.with_objects(prepared, sizes))
    places = [(name, seed) for name in prepared.frame["id"][1::2] for seed in range(3)]
    forwards, backwards = (donors.chooser(prepared, sizes, "cracked", 0) for _ in range(2))
    there = [forwards(*place) for place in places]
    assert there == [backwards(*place) for place in reversed(places)][::-1]
    assert len({name for name, _ in there}) > 1


def test_a_recipient_without_an_object_asks_for_no_size_in_particular(tmp_path: Path) -> None:
    prepared, prompts = photographs(), captions.load("dermatology")
    assert prepared.masks is not None
    prepared.masks[1::2] = 0  # healthy skin
    sizes = donors.sizes_of(prompts, [])
    described = donors.with_objects(prepared, sizes)
    assert set(described["asks"][1::2]) == {""} and set(described["asks"][::2]) == {"medium"}
    choose = donors.chooser(prepared._replace(frame=described), sizes, "cracked", 0)
    found = [choose(prepared.frame["id"][1], seed) for seed in range(48)]
    assert {name for name, _ in found} == set(prepared.frame["id"][:8:2])  # those for training, pale and dark
    assert {scale for _, scale in found} == {1.0}


@given(
    st.lists(st.floats(0.01, 10), max_size=4, unique=True).map(sorted), st.lists(st.floats(0, 20), min_size=1),
    st.floats(0, 0.5),
)  # fmt: skip
def test_what_is_well_inside_is_in_the_same_category(edges: list[float], values: list[float], margin: float) -> None:
    words = {str(i): "" for i in range(len(edges) + 1)}
    attribute = captions.Attribute(source="measured", edges=edges, values=words)
    held = np.array(values)
    moved = captions.well_inside(attribute, held, margin)
    assert captions.categories(attribute, moved) == captions.categories(attribute, held)
    bins = np.searchsorted(edges, moved, side="right")
    low, high = np.append(0, edges)[bins], np.append(edges, np.inf)[bins]
    clear = (moved >= low * (1 + margin) - 1e-9) & (moved <= high * (1 - margin) + 1e-9)
    assert (clear | np.isclose(moved, (low + high) / 2)).all()
    assert np.array_equal(captions.well_inside(attribute, held, 0), held)


def lit(level: int = 128) -> Prepared:
    """Grey images of 32 pixels, bright enough for defects to show."""
    return records()._replace(pixels=np.full((12, 32, 32, 3), level, np.uint8))


def test_procedural_defects_are_planned_on_common_images_with_the_attributes_asked_for(tmp_path: Path) -> None:
    prepared = lit()
    rows = planned(tmp_path, prepared, count=16, methods={"procedural": 1})
    grounds = prepared.frame.set_index("id").loc[rows["ground"]]
    assert (grounds[["label", "split"]] == ["intact", "train"]).all(axis=None)
    assert (grounds["attribute.brightness"].to_numpy() == rows["attribute.brightness"].to_numpy()).all()
    assert (rows["source"] == "").all() and rows["scale"].isna().all() and (rows["defects"] == "panel").all()
    assert (rows["passed_over"] == 0).all()
    others = planned(tmp_path, prepared, count=16, methods={"procedural": 1}, defects="surface")
    assert not set(others["id"]) & set(rows["id"])  # another picture, another name


def test_a_ground_on_which_no_defect_shows_is_passed_over_and_counted(tmp_path: Path) -> None:
    prepared = lit()
    whole = planned(tmp_path, prepared, count=16, methods={"procedural": 1})
    train = prepared.frame[(prepared.frame["label"] == "intact") & (prepared.frame["split"] == "train")]
    black, _, other, _ = train.index  # in order: dark, bright, dark, bright
    prepared.pixels[black] = 0
    rows = planned(tmp_path, prepared, count=16, methods={"procedural": 1})
    name = prepared.frame["id"]
    met = whole["ground"] == name[black]
    assert 0 < met.sum() < (whole["attribute.brightness"] == "dark").sum()
    # the other one with the attribute asked for takes its place; all other rows stay as they were
    assert (rows["ground"][met] == name[other]).all() and (rows["passed_over"] == met).all()
    assert rows[~met].equals(whole[~met])
    folder = tmp_path / "images"
    draw(parse(tiny.settings(tmp_path, tmp_path, "embedded")), prepared, rows, tmp_path, folder)
    assert {path.stem for path in folder.iterdir()} == set(rows["id"])
    # where no dark one is left, a bright one; where none at all is left, there is nothing to do
    prepared.pixels[other] = 0
    rows = planned(tmp_path, prepared, count=16, methods={"procedural": 1})
    dark = rows["attribute.brightness"] == "dark"
    assert set(rows["passed_over"][dark]) == {2} and set(rows["passed_over"][~dark]) == {0}
    assert not set(rows["ground"]) & {name[black], name[other]}
    prepared.pixels[:] = 0
    named = prepared._replace(frame=prepared.frame.assign(path="cells/a.png"))
    with pytest.raises(UserError, match=r"no defect shows on any of the 4 .*cells/a\.png"):
        planned(tmp_path, named, count=16, methods={"procedural": 1})


@pytest.mark.parametrize("level", [0, 15, 16, 40])
@pytest.mark.parametrize("kind", ["panel", "surface"])
def test_what_is_nearly_black_is_given_up_without_trying(level: int, kind: Defects) -> None:
    picture = damaged(np.full((32, 32, 3), level, np.uint8), kind, 0)
    assert (picture is None) == (level < 40)  # at 16, only a defect that is wholly black could show, and there is none


def test_each_process_draws_its_share_and_together_they_draw_all(tmp_path: Path) -> None:
    prepared, config = lit(), parse(tiny.settings(tmp_path, tmp_path, "embedded"))
    rows = planned(tmp_path, prepared, count=15, methods={"procedural": 1})
    shares = {"one": (0, 1), "first": (0, 3), "second": (1, 3), "third": (2, 3)}
    for name, share in shares.items():
        draw(config, prepared, rows, tmp_path, tmp_path / name, share)
    one, *parts = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in shares)
    assert [len(part) for part in parts] == [6, 5, 4]  # of eight batches of two, the last half full
    assert {name: image for part in parts for name, image in part.items()} == one


def test_what_cannot_be_transplanted_is_left_out_or_named(tmp_path: Path) -> None:
    prepared, masks = records(), np.zeros((12, 8, 8), np.uint8)
    masks[:, 2:5, 2:5] = 255
    ask = {"count": 8, "methods": {"transplant": 1}}
    # without a mask of its own, where others of its class have one, a recipient's object would stay
    frame = prepared.frame.assign(mask=[i not in (1, 3) for i in range(12)])
    rows = planned(tmp_path, prepared._replace(frame=frame, masks=masks), **ask)
    assert not set(rows["ground"]) & set(frame["id"][[1, 3]])
    # where nobody has, there is none to remove
    bare = masks.copy()
    bare[1::2] = 0
    assert len(set(planned(tmp_path, prepared._replace(masks=bare), **ask)["ground"])) > 2
    for spoilt in (np.full_like(masks, 255), np.where(np.arange(8) < 4, 255, 0).astype(np.uint8) * np.ones_like(masks)):
        with pytest.raises(UserError, match="no rare training image whose mask covers"):
            planned(tmp_path, prepared._replace(masks=np.where(np.arange(12)[:, None, None] % 2, masks, spoilt)), **ask)


def test_a_longer_plan_begins_with_the_same_images(tmp_path: Path) -> None:
    short, long = planned(tmp_path, count=5), planned(tmp_path, count=9)
    assert short["id"].tolist() == long["id"].tolist()[:5]


def test_unknown_axis_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="colour"):
        planned(tmp_path, count=4, axes=["colour"])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> object:
    return base.load(str(tiny.sd15(tmp_path_factory.mktemp("base") / "sd")), torch.device("cpu"))


@pytest.mark.parametrize("start", [False, True])
def test_a_picture_does_not_depend_on_its_batch(pipeline: object, start: bool) -> None:
    prompts = base.encode_prompts(pipeline, ["a dark panel", "a bright panel", "", ""])
    picture = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)

    def images(rows: list[int]) -> np.ndarray:
        return sample.sample_images(
            pipeline, prompts.rows([row % 2 for row in rows]), prompts.rows([2] * len(rows)), [100 + row for row in rows],
            sample.Solver(4, 3.0, 64), sample.Start(picture[rows], 0.5) if start else None,
        )  # fmt: skip

    together = images([0, 1, 2, 3]).astype(int)
    alone = np.concatenate([images([row]) for row in range(4)]).astype(int)
    assert np.abs(together - alone).max() <= 1
    assert np.abs(together[0] - together[2]).max() > 1  # same prompt, another seed


def test_detail_added_back_to_a_mere_reconstruction_gives_the_start_image(pipeline: object) -> None:
    start = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    again = base.reconstruct(pipeline, start)
    assert np.abs(again.astype(int) - start).mean() > 10  # random weights: nearly all is lost
    assert (sample.add_detail(pipeline, again, start, 1.0) == start).all()
    assert (sample.add_detail(pipeline, again, start, 0.0) == again).all()
    half = sample.add_detail(pipeline, again, start, 0.5).astype(float)
    assert np.abs(half - (again.astype(float) + start) / 2).max() <= 0.5


def test_inpainting_keeps_what_lies_outside_the_region_and_paints_within() -> None:
    pipeline = base.load("embedded", torch.device("cpu"))
    start = scenes.pixels(scenes.sample(2, torch.Generator().manual_seed(0), ("skin",)), 128)
    masks = np.zeros((3, 128, 128), np.uint8)
    masks[1, 40:60, 40:60] = masks[2, 80:100, 20:80] = 255
    region = conditions.regions(masks, [1, 2])
    assert region[0, 50, 50] and region[0, 36, 50] and not region[0, 20, 20]
    prompts = base.encode_prompts(pipeline, ["a blue lesion", ""])
    both = prompts.rows([0, 0]), prompts.rows([1, 1]), [3, 4], sample.Solver(4, 3.0, 128)
    again = base.reconstruct(pipeline, start).astype(int)
    far = ~ndimage.binary_dilation(region, np.ones((1, 25, 25), bool))
    drawn = sample.sample_images(pipeline, *both, sample.Start(start, 1.0, region))
    free = sample.sample_images(pipeline, *both, sample.Start(start, 1.0))
    # the decoder's group norms see the whole picture, so what is put back as latents comes back nearly, not wholly
    assert np.abs(drawn - again)[far].mean() < np.abs(free - again)[far].mean() / 4
    assert np.abs(drawn - again)[region].mean() > 4 * np.abs(drawn - again)[far].mean()
    whole = sample.keep_outside(drawn, start, region)
    assert (whole[~region] == start[~region]).all()
    deep = ndimage.binary_erosion(region, np.ones((1, 13, 13), bool))
    assert deep.any()
    assert (whole[deep] == drawn[deep]).all()


def test_png_carries_its_row() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    row = {"id": "x", "method": "text", "strength": float("nan"), "prompt": "é"}
    with Image.open(io.BytesIO(encode_png(picture, row, "compositeCapture"))) as image:
        assert json.loads(image.info["synthimg"]) == {**row, "strength": None}
        assert 'newscodes/digitalsourcetype/compositeCapture"' in image.info["XML:com.adobe.xmp"]
        assert (np.asarray(image) == picture).all()
