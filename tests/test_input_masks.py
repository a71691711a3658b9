"""What is object in a mask, which files are masks, and what becomes of objects: counted, or said."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthimg.core import templates
from synthimg.data import images, inspection, masks, twins

SIDE = 64
Shape = NDArray[np.bool_]


def ellipse() -> Shape:
    """448 of 4096 pixels: 10.9 %."""
    drawn = Image.new("1", (SIDE, SIDE))
    ImageDraw.Draw(drawn).ellipse((20, 20, 43, 43), fill=1)
    return np.asarray(drawn)


def crack() -> Shape:
    drawn = Image.new("1", (SIDE, SIDE))
    ImageDraw.Draw(drawn).line((0, 3, 32, 32, 64, 50), fill=1)
    return np.asarray(drawn)


def grey(shape: Shape, back: int = 0, front: int = 255) -> Image.Image:
    return Image.fromarray(np.where(shape, front, back).astype(np.uint8))


def seen(image: Image.Image, folder: Path, form: str = "PNG", **how: Any) -> Shape:
    """What is object in an image that is saved as a mask, always under the name `m.png`."""
    image.save(folder / "m.png", form, **how)
    return masks.load(folder / "m.png", image.size).present


# ---- what is object


@pytest.mark.parametrize("shape", [ellipse(), crack()], ids=["ellipse", "crack"])
@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_noise_of_compression_is_no_object_whatever_the_suffix(
    shape: Shape, form: str, quality: int, tmp_path: Path
) -> None:  # fmt: skip
    picture = grey(shape) if form == "JPEG" else grey(shape).convert("RGB")
    assert (seen(picture, tmp_path, form, quality=quality) != shape).sum() <= 0.05 * shape.sum()
    file = BytesIO()
    picture.save(file, form, quality=quality)
    again = Image.open(file).convert("L")  # and saved once more without loss, as converters do
    assert (seen(again, tmp_path) != shape).sum() <= 0.05 * shape.sum()


@pytest.mark.parametrize(("back", "front"), [(0, 1), (0, 255), (1, 255), (1, 2), (3, 200), (40, 90), (0, 7)])
def test_two_levels_are_background_and_object_whatever_they_are(back: int, front: int, tmp_path: Path) -> None:
    assert (seen(grey(ellipse(), back, front), tmp_path) == ellipse()).all()


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "one", "RGB", "P", "1", "red"])
def test_the_depth_and_the_colours_of_a_mask_do_not_matter(mode: str, tmp_path: Path) -> None:
    shape = ellipse()
    pictures = {
        "I;16": Image.fromarray(shape.astype(np.uint16) * 65535), "I": Image.fromarray(shape.astype(np.int32) * 3),
        "F": Image.fromarray(shape.astype(np.float32) * 0.5), "one": Image.fromarray(shape.astype(np.uint16)),
        "RGB": grey(shape).convert("RGB"), "P": grey(shape, 0, 1).convert("P"), "1": grey(shape).convert("1"),
        "red": Image.merge("RGB", [grey(~shape * False), grey(~shape * False), grey(shape, 0, 128)]),
    }  # fmt: skip
    assert (seen(pictures[mode], tmp_path, "TIFF") == shape).all()


def test_the_shape_may_lie_in_alpha_alone(tmp_path: Path) -> None:
    shape = ellipse()
    alpha = grey(shape)
    cut_out = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8))
    for colours in (Image.new("RGB", (SIDE, SIDE)), Image.new("RGB", (SIDE, SIDE), "white"), cut_out):
        layer = colours.copy()
        layer.putalpha(alpha)
        assert (seen(layer, tmp_path) == shape).all()
    opaque = grey(shape).convert("RGB")
    opaque.putalpha(255)
    assert (seen(opaque, tmp_path) == shape).all()
    black = Image.new("LA", (SIDE, SIDE))
    black.putalpha(alpha)
    assert (seen(black, tmp_path) == shape).all()


def test_every_class_of_a_mask_of_labels_is_object(tmp_path: Path) -> None:
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[8:24, 8:24], labels[30:50, 30:40], labels[30:50, 40:60] = 1, 2, 5
    wanted = labels > 0  # 16 * 16 + 20 * 10 + 20 * 20 = 856 pixels
    assert wanted.sum() == 856
    assert (seen(Image.fromarray(labels), tmp_path) == wanted).all()
    for level in (50, 85):  # classes as grey levels that can be told apart by eye
        assert (seen(Image.fromarray(np.minimum(labels, 3) * np.uint8(level)), tmp_path) == wanted).all()
    noisy = seen(Image.fromarray(np.minimum(labels, 3) * np.uint8(85)), tmp_path, "JPEG", quality=90)
    assert (noisy != wanted).mean() < 0.02
    void = labels.copy()  # as in PASCAL VOC: a border of 255 around an object of class 1
    void[7:25, 7:25][labels[7:25, 7:25] == 0] = 255
    assert seen(Image.fromarray(void), tmp_path).sum() == 856 + 18 * 18 - 16 * 16
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 192, 128, 0])
    assert (seen(palette, tmp_path) == wanted).all()
    instances = np.kron(np.arange(64).reshape(8, 8), np.ones((8, 8), int)).astype(np.uint8)
    assert seen(Image.fromarray(instances * 3), tmp_path).sum() == SIDE * SIDE - 64  # all but the background, 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(90, 255), st.floats(4, 24), st.floats(20, 44), st.floats(20, 44))
def test_smooth_edges_are_cut_where_they_are_half(back: int, front: int, radius: float, x: float, y: float) -> None:
    fine = np.hypot(*(np.mgrid[: 8 * SIDE, : 8 * SIDE] / 8 - np.array([y, x])[:, None, None])) <= radius
    share = fine.reshape(SIDE, 8, SIDE, 8).mean((1, 3))
    mask = images.Decoded(Image.fromarray((back + share * (front - back)).round().astype(np.uint8)), frozenset(), False, "")
    assert abs(masks.object_of(mask).sum() - np.pi * radius**2) <= 0.08 * np.pi * radius**2 + 4


def test_masks_that_show_nothing_everything_or_the_background() -> None:
    def shows(values: NDArray[Any], lossy: bool = False) -> str:
        decoded = images.Decoded(Image.fromarray(values.astype(np.uint8)), frozenset(), lossy, "")
        return masks.Mask(masks.object_of(decoded), "", (SIDE, SIDE)).shows

    flat = np.ones((SIDE, SIDE), int)
    assert [shows(flat * level) for level in (0, 1, 255)] == ["nothing", "everything", "everything"]
    assert [shows(flat * level, True) for level in (0, 3, 250)] == ["nothing", "nothing", "everything"]
    assert shows(flat + np.arange(SIDE) % 3, True) == "nothing"  # what compression makes of black
    assert shows(255 * ~ellipse()) == "inverted" and shows(255 * ellipse()) == shows(255 * crack()) == "an object"


def test_a_mask_of_other_proportions_is_refused_and_a_turned_image_is_named(tmp_path: Path) -> None:
    grey(ellipse()).resize((40, 20)).save(tmp_path / "m.png")
    assert masks.load(tmp_path / "m.png", (400, 200)).present.shape == (20, 40)
    with pytest.raises(images.UnreadableError, match=r"mask of 40 x 20 for an image of 20 x 40$"):
        masks.load(tmp_path / "m.png", (20, 40))
    with pytest.raises(images.UnreadableError, match="20 x 40, which its EXIF orientation turned"):
        masks.load(tmp_path / "m.png", (20, 40), turned=True)


def test_what_is_said_of_masks_by_class() -> None:
    rows = [("rare", "", "an object")] * 3 + [("rare", "", "nothing"), ("rare", "broken", ""), ("rare", "no such file", "")]
    rows += [("common", "", "nothing")] * 4 + [("common", "", "everything"), ("common", "no such file", "")]
    frame = pd.DataFrame(rows, columns=["label", "mask_fault", "shows"])
    frame = frame.assign(path=[f"{row}.png" for row in frame.index], mask="m", remarks="", mask_resized=False)
    found = {(one.kind, one.text.split("'")[1]): one for one in inspection.suspect_masks(frame, "rare")}
    assert {name: (one.severity, one.text.split(" images")[0]) for name, one in found.items()} == {
        ("unusable masks", "rare"): ("warning", "1 of 6"), ("missing masks", "rare"): ("warning", "1 of 6"),
        ("empty masks", "rare"): ("warning", "1 of 6"), ("missing masks", "common"): ("note", "1 of 6"),
        ("empty masks", "common"): ("note", "4 of 6"), ("full masks", "common"): ("warning", "1 of 6"),
    }  # fmt: skip
    assert inspection.masks_left_out(frame) == [("m", "unusable mask (broken)")]
    turned = frame.assign(shows="inverted", remarks="several frames,turned", mask_resized=True)
    kinds = {one.kind: one.text for one in inspection.suspect_masks(turned, "rare")}
    assert kinds["inverted masks"].startswith("12 of 12 masks are bright all around")
    assert {"turned images with masks", "resized masks"} <= set(kinds)
    frame.loc[:2, "shows"] = ["inverted", "an object", "an object"]  # one alone may reach all around
    assert "inverted masks" not in {one.kind for one in inspection.suspect_masks(frame, "rare")}


def test_of_a_huge_mask_fewer_pixels_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "MOST", 1000)  # 4096 pixels: every third row and column
    grey(ellipse()).save(tmp_path / "m.png")
    found = masks.load(tmp_path / "m.png", (SIDE, SIDE))
    assert found.present.shape == (21, 21) and found.size == (SIDE, SIDE)
    assert found.present.mean() == pytest.approx(ellipse().mean(), abs=0.02)


# ---- which files are masks


def test_the_mask_of_another_record_is_no_image() -> None:
    frame = pd.DataFrame({
        "path": ["a/x.jpg", "a/x.png", "b/./y.png", "b/y_mask.png", "c/z.png", ""],
        "mask": ["a/x.png", "a/x.png", "b/y_mask.png", "b/y_mask_mask.png", "c/z.png", ""],
    })  # fmt: skip
    assert twins.masks_of_others(frame).tolist() == [False, True, False, True, False, False]


def pictures(*like_masks: bool) -> NDArray[np.uint8]:
    """Pictures [N, 64, 64, 3], some of two levels, the others noise."""
    photograph, mask = np.random.default_rng(0).integers(60, 220, (SIDE, SIDE, 3), np.uint8), grey(crack()).convert("RGB")
    return np.stack([np.asarray(mask) if one else photograph for one in like_masks])


@pytest.mark.parametrize(("image", "mask", "template"), [
    ("fray/x.jpg", "fray/x.png", "{stem}.png"), ("fray/x.png", "fray/x_mask.png", "{stem}_mask.png"),
    ("fray/X.PNG", "fray/X_segmentation.tif", "{stem}_segmentation.tif"),
    ("fray/x.png", "fray/x_seg_gt.png", "{stem}_seg_gt.png"),
    ("fray/x.png", "masks/fray/x.png", "masks/{stem}.png"), ("fray/images/x.png", "fray/masks/x.png", None),
    ("fray/x.png", "fray/ground_truth/x.png", None),
])  # fmt: skip
def test_masks_among_the_images_are_suspected_and_their_template_named(image: str, mask: str, template: str | None) -> None:
    frame, pixels = pd.DataFrame({"path": [image, mask, "fray/y.png"], "label": "fray"}), pictures(False, True, True)
    (found,) = twins.suspect_masks(frame, pixels, is_table=False)
    assert found.severity == "warning" and found.kind == "masks as images" and f"{mask} that of {image}" in found.text
    assert (f"dataset.mask: '{template}'" if template else "metadata.csv") in found.text
    assert "1 of 3 images" in found.text and "{stem}" not in twins.suspect_masks(frame, pixels, is_table=True)[0].text


def test_pictures_of_two_levels_and_twins_alone_are_no_masks() -> None:
    frame = pd.DataFrame({"path": ["a/x.jpg", "a/x.png", "a/y.png"], "label": "a"})
    assert (
        twins.suspect_masks(frame, pictures(False, False, True), is_table=False) == []
    )  # one picture in two formats; a black one


@pytest.mark.parametrize("label", ["masks", "Labels", "annotations", "ground_truth", "x_mask", "SegmentationClass"])
def test_a_class_named_for_masks_is_suspected_if_its_pictures_look_like_them(label: str) -> None:
    frame = pd.DataFrame({"path": ["a/1.png", "m/2.png", "m/3.png"], "label": ["a", label, label]})
    (found,) = twins.suspect_masks(frame, pictures(False, True, False), is_table=False)
    assert f"'{label}' is named for masks, and 1 of its 2" in found.text and "m/2.png" in found.text
    assert not twins.suspect_masks(frame, pictures(False, False, False), is_table=False)


def test_two_levels_are_told_by_the_pixels() -> None:
    def rgb(values: NDArray[Any]) -> NDArray[np.uint8]:
        return np.repeat(np.asarray(values, np.uint8)[..., None], 3, -1)

    photograph = np.clip(np.random.default_rng(0).normal(120, 40, (SIDE, SIDE)), 0, 255)
    assert [masks.has_two_levels(rgb(one)) for one in (255 * ellipse(), 255 * crack(), 0 * ellipse(), photograph)] == [
        True, True, True, False]  # fmt: skip
    assert not masks.has_two_levels(rgb(np.full((SIDE, SIDE), 128))) and not masks.has_two_levels(rgb(photograph / 3))


def test_braces_in_a_folders_name_are_no_field_of_the_template():
    assert twins.template("a/x.jpg", "m{1}/a/x.png") == "m{{1}}/{stem}.png"
    assert templates.fill("m{{1}}/{stem}.png", {"stem": "a/x"}) == "m{1}/a/x.png"
    assert twins.template("a/x.jpg", "a/x2.png") is None is twins.template("a/x.jpg", "b/y.png")
