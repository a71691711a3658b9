"""What becomes of objects when photographs become square, and when they are pasted: counted, refused, or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthimg.config import Config
from synthimg.data import cropped, images, masks, prepared
from synthimg.errors import UserError
from synthimg.methods import donors, pasting
from synthimg.reading import load_config, parse
from synthimg.stages.prepare import prepare_dataset
from synthimg.tools.init import write_config

SIDE = 64
Shape = NDArray[np.bool_]


# ---- objects that the square cuts away


@pytest.mark.parametrize(("columns", "crop"), [((0, 40), 0), ((90, 120), 2 / 3), ((70, 110), 1 / 4), ((120, 180), 1)])
def test_what_a_crop_leaves_of_an_object_is_worked_out_by_hand(columns: tuple[int, int], crop: float) -> None:
    present = np.zeros((100, 300), bool)
    present[40:50, slice(*columns)] = True
    mask = masks.Mask(present, "", (300, 100))
    how: images.Fit
    for how, wanted in (("crop", crop), ("pad", 1), ("stretch", 1)):
        assert cropped.kept(present, mask.square(50, how), how) == pytest.approx(wanted)
        assert cropped.kept(present.T, masks.Mask(present.T, "", (100, 300)).square(50, how), how) == pytest.approx(wanted)


def test_an_object_of_which_no_pixel_is_left_is_lost_whatever_the_fit() -> None:
    present = np.zeros((300, 300), bool)
    present[1, 1] = True
    assert cropped.kept(present, masks.Mask(present, "", (300, 100)).square(32, "pad"), "pad") == 0
    assert cropped.kept(~present & False, np.zeros((32, 32)), "crop") == 1


def tiles(folder: Path, suffix: str = "png") -> Path:
    """Magnetic tiles, small: 300 x 100 pixels, `x.jpg` beside its mask. Of 20 frays a crop to the centre loses 8 (an object
    in columns 0 to 40) and halves 3 (10 of 40 columns are left); 9 stay whole. 20 free tiles have black masks."""
    random = np.random.default_rng(0)
    places = [(0, 40)] * 8 + [(70, 110)] * 3 + [(120, 160)] * 9 + [(0, 0)] * 20
    for number, (left, right) in enumerate(places):
        path = folder / ("fray" if right else "free") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        texture = Image.fromarray(random.integers(90, 250, (8, 24), np.uint8)).resize((300, 100), Image.Resampling.BICUBIC)
        mask = Image.new("L", (300, 100))
        if right:
            ImageDraw.Draw(texture).rectangle((left, 40, right - 1, 79), fill=20)
            ImageDraw.Draw(mask).rectangle((left, 40, right - 1, 79), fill=255)
        texture.save(path)
        mask.save(path.with_suffix(f".{suffix}"))
    return folder


def run(folder: Path, **dataset: Any) -> Config:
    consent = {"licence": "CC0", "scope": ["research"]}
    return parse({"name": "run", "outputs": str(folder.parent / "out"), "resolution": 48, "folds": 1, "dataset": {
        "path": str(folder), "rare_class": "fray", "prompts": "generic", "consent": consent, **dataset}})  # fmt: skip


def told(config: Config) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((config.folder / "dataset" / "summary.json").read_text())
    return summary


def test_masks_beside_their_images_are_suspected_and_once_they_are_named_leave_the_images(tmp_path: Path) -> None:
    folder = tiles(tmp_path / "tiles")
    config = run(folder)
    prepare_dataset(config)
    (found,) = [one for one in told(config)["suspicions"] if one["kind"] == "masks as images"]
    assert found["text"].startswith("40 of 80 images") and "dataset.mask: '{stem}.png'" in found["text"]
    config = run(folder, mask="{stem}.png", fit="pad").model_copy(update={"name": "named"})
    prepare_dataset(config)
    frame = prepared.load(config).frame
    assert len(frame) == 40 and frame["path"].str.endswith(".jpg").all() and frame["mask"].all()
    kinds = {one["kind"]: one for one in told(config)["suspicions"]}
    assert not {"masks as images", "objects cut away"} & set(kinds)
    assert kinds["empty masks"]["severity"] == "note" and kinds["empty masks"]["text"].startswith(
        "20 of 20 images of 'free'"
    )


def test_a_crop_that_cuts_the_objects_away_is_refused_unless_it_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    folder = tiles(tmp_path / "tiles")
    with pytest.raises(UserError, match=r"8 of 20 objects of 'fray' are lost and 3 halved by dataset.fit: crop.*pad "
                                        r"and stretch keep them.*dataset.fit_loss: 0.55 \(now 0.1\)"):  # fmt: skip
        prepare_dataset(run(folder, mask="{stem}.png"))
    config = run(folder, mask="{stem}.png", fit_loss=0.55)
    prepare_dataset(config)
    objects = pd.DataFrame(told(config)["objects"])
    assert set(objects["label"]) == {"fray"}
    assert objects[["objects", "lost", "halved"]].sum().tolist() == [20, 8, 3]
    splits = prepared.load(config).frame.query("label == 'fray'")["split"].value_counts()
    assert objects.set_index("split")["objects"].to_dict() == splits.to_dict()
    said = capsys.readouterr().out
    assert "objects of 'fray' after dataset.fit: " in said and "warning: 8 of 20 objects" in said


def test_a_mask_that_cannot_be_used_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tiles(tmp_path / "tiles")
    (folder / "fray" / "3.png").write_bytes((folder / "fray" / "3.png").read_bytes()[:60])
    Image.new("L", (100, 300)).save(folder / "free" / "30.png")
    (folder / "free" / "31.png").unlink()
    config = run(folder, mask="{stem}.png", fit="stretch")
    prepare_dataset(config)
    left_out = pd.read_csv(config.folder / "dataset" / "excluded.csv").set_index("path")["reason"]
    assert set(left_out.index) == {"fray/3.png", "free/30.png"}
    assert left_out["free/30.png"] == "unusable mask (mask of 100 x 300 for an image of 300 x 100)"
    kinds = sorted((one["kind"], one["severity"]) for one in told(config)["suspicions"] if "masks" in one["kind"])
    assert kinds == [("empty masks", "note"), ("missing masks", "note")] + [("unusable masks", "warning")] * 2
    assert told(config)["excluded"] == {"unusable mask": 2}


def test_an_image_that_is_its_own_mask_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leads to no readable mask"):
        prepare_dataset(run(tiles(tmp_path / "tiles", "bmp"), mask="{file_name}"))


@pytest.mark.parametrize(("sizes", "left", "wanted"), [
    ([(100, 100)] * 8 + [(200, 100)] * 2, [], "pad"), ([(100, 100)] * 9 + [(100, 200)], [], "crop"),
    ([(140, 100)] * 9, [], "crop"), ([(300, 100)] * 9, [1.0] * 9, "crop"), ([(120, 100)] * 9, [1.0] * 8 + [0.4], "pad"),
    ([], [], "crop"),
])  # fmt: skip
def test_a_fit_is_proposed_by_the_objects_or_else_by_the_proportions(
    sizes: list[tuple[int, int]], left: list[float], wanted: str
) -> None:  # fmt: skip
    assert cropped.proposed_fit(sizes, left) == wanted


def test_init_proposes_masks_and_fit_and_counts_no_mask_as_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    tiles(tmp_path / "tiles")
    monkeypatch.chdir(tmp_path)
    made = load_config(write_config("tiles")).dataset
    assert (made.mask, made.fit) == ("{stem}.png", "pad")
    said = capsys.readouterr().out
    assert "40 masks among the images" in said and "tiles: 40 images, 2 classes" in said


# ---- transplants


def panorama(left: int, right: int) -> tuple[NDArray[np.uint8], Shape]:
    """A bright image of 96 x 48 pixels with a dark object in some of its columns, padded to a square; its mask."""
    image, mask = Image.new("RGB", (96, 48), (180, 180, 180)), Image.new("L", (96, 48))
    for drawn, colour in ((image, (90, 90, 90)), (mask, 255)):
        ImageDraw.Draw(drawn).rectangle((left, 0, right, 20), fill=colour)
    return images.square(image, SIDE, "pad"), images.fit(mask, SIDE, "pad", Image.Resampling.NEAREST, 0) > 0


@pytest.mark.parametrize("symmetry", range(8))
def test_the_bars_of_a_donor_are_not_pasted_and_those_of_the_recipient_stay(symmetry: int) -> None:
    image, mask = panorama(40, 60)
    ground = np.full((SIDE, SIDE, 3), 200, np.uint8)
    place = np.zeros((SIDE, SIDE), bool)
    place[28:36, 28:36] = True
    assert pasting.content(image) == (slice(16, 48), slice(0, SIDE))
    picture = pasting.transplanted(image, mask, ground, place, 1.0, symmetry)
    assert picture.min() > 60  # the object in the tone of the ground is at 100; a bar would be black
    padded, low = panorama(10, 30)
    framed = pasting.transplanted(ground, place, padded, low, 1.0, symmetry)
    assert not framed[:16].any() and not framed[48:].any() and framed[16:48].min() > 60


def test_an_object_at_the_border_of_a_padded_photograph_gives_nothing_nor_does_an_empty_or_a_full_mask() -> None:
    pixels, objects = zip(*[panorama(40, 60)] * 4, strict=True)
    inner = np.zeros((SIDE, SIDE), bool)
    inner[26:38, 20:40] = True
    shapes = np.stack([objects[0], inner, inner & False, inner | True])
    frame = pd.DataFrame({"id": list("abcd"), "label": "rare", "split": "train", "mask": True})
    found = prepared.Prepared(frame, np.stack(pixels), shapes.astype(np.uint8) * 255)
    described = donors.with_objects(found, None)
    assert described["gives"].tolist() == [False, True, False, False]  # d reaches all around
    pads = found._replace(pixels=np.full_like(found.pixels, 128))
    assert donors.with_objects(pads, None)["gives"].tolist() == [True, True, False, False]
    rows = described.assign(gives=False)
    with pytest.raises(
        UserError, match="of 4 there are 1 without an object in their mask, 2 with one that runs along the edge"
    ):
        donors.chooser(found._replace(frame=rows), None, "rare", 0)
