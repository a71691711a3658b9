import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthimg.attributes import captions, estimators
from synthimg.config import Dataset
from synthimg.data import elpv, records
from synthimg.errors import UserError


def dataset(path, **keys):
    return Dataset.model_validate({"path": str(path), "rare_class": "b", "prompts": "generic"} | keys)


def read(path, **keys):
    made = dataset(path, **keys)
    return records.make_records(records.open_source(made.path, made.table), made)


def test_image_folder(tmp_path):
    for name in ("a/1.png", "a/deep/2.JPG", "b/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "notes.txt").touch()
    frame = read(tmp_path)
    assert list(zip(frame["path"], frame["label"], strict=True)) == [
        ("a/1.png", "a"),
        ("a/deep/2.JPG", "a"),
        ("b/3.png", "b"),
    ]
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="class folder without images: c"):
        read(tmp_path)
    assert len(read(tmp_path, classes=["a", "b"])) == 3
    with pytest.raises(UserError, match="image folder has no others"):
        read(tmp_path, group="patient")


PATTERN = "^([^_]+)_"


def groups(path, **keys):
    frame = read(path, **keys)
    return dict(zip(frame["path"], frame["group"], strict=True))


def test_the_group_is_a_column_or_what_a_pattern_finds_in_the_path(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,label,part\nP1_x.png,a, u \nP2_x.png,b,v\nP1_y.png,b,u\n")
    assert groups(table) == {"P1_x.png": "P1_x.png", "P1_y.png": "P1_y.png", "P2_x.png": "P2_x.png"}
    assert groups(table, group="part") == {"P1_x.png": "u", "P1_y.png": "u", "P2_x.png": "v"}
    assert groups(table, group=PATTERN) == {"P1_x.png": "P1", "P1_y.png": "P1", "P2_x.png": "P2"}
    assert groups(table, group=r"_(.)\.png$") == {"P1_x.png": "x", "P1_y.png": "y", "P2_x.png": "x"}
    # what dataset.classes leaves out need not match, and its rows take no other row's group
    table.write_text("path,label,part\nodd.png,c,w\nP2_x.png,b,v\nP1_y.png,a,u\n")
    assert groups(table, group=PATTERN, classes=["a", "b"]) == {"P1_y.png": "P1", "P2_x.png": "P2"}
    assert groups(table, group="part", classes=["a", "b"]) == {"P1_y.png": "u", "P2_x.png": "v"}


def test_a_column_goes_before_a_pattern_of_the_same_spelling(tmp_path):
    (tmp_path / "t.csv").write_text(f"path,label,{PATTERN}\nP1_x.png,a,u\nP1_y.png,b,v\n")
    assert groups(tmp_path / "t.csv", group=PATTERN) == {"P1_x.png": "u", "P1_y.png": "v"}


def test_one_patient_in_two_class_folders_is_one_group(tmp_path):
    for name in ("a/P1_x.png", "b/P1_y.png", "b/more/P2_z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert groups(tmp_path, group=r"(P\d)_") == {"a/P1_x.png": "P1", "b/P1_y.png": "P1", "b/more/P2_z.png": "P2"}
    assert groups(tmp_path, group=PATTERN)["a/P1_x.png"] == groups(tmp_path, group=PATTERN)["b/P1_y.png"] == "P1"


@pytest.mark.parametrize(("group", "message"), [
    ("person", r"dataset\.group: no column 'person' in t\.csv; there are: path, label\. .* exactly one group in"),
    ("(.)(.)", "exactly one group"),
    ("(", "exactly one group"),
    ("P(1)_", r"dataset\.group: the regular expression 'P\(1\)_' finds no group in 2 of 3 images; the first is P2_x\.png"),
    ("P1_|(P2)", r"finds no group in 2 of 3 images; the first is P1_x\.png"),
    ("(_*)P", "finds no group in 3 of 3"),
])  # fmt: skip
def test_a_group_that_cannot_be_told_is_named(tmp_path, group, message):
    (tmp_path / "t.csv").write_text("path,label\nP1_x.png,a\nP2_x.png,b\nP3_y.png,b\n")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "t.csv", group=group)


def test_modules_are_runs_of_one_kind_of_at_most_sixty_cells():
    kinds = ["mono"] * 61 + ["poly"] * 3 + ["mono"] * 120 + ["poly"]
    assert elpv.blocks(kinds) == [0] * 60 + [1] + [2] * 3 + [3] * 60 + [4] * 60 + [5]
    assert elpv.blocks([]) == []


def test_the_cells_of_elpv_are_grouped_by_module_unless_something_else_is_asked_for():
    pytest.importorskip("elpv_dataset")
    asked = {"rare_class": "defective", "classes": ["functional", "defective"]}
    frame = read(elpv.NAME, **asked)
    assert frame["group"].nunique() == 45 and frame["group"].value_counts().max() <= 60
    assert frame[frame["label"] == "defective"]["group"].nunique() == 41 and (frame["label"] == "defective").sum() == 715
    assert (read(elpv.NAME, group="file_name", **asked)["group"].value_counts() == 1).all()


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
@pytest.mark.parametrize("column", ["file_name", "path", "image"])
def test_tables_are_read_alike(tmp_path, ending, column):
    frame = pd.DataFrame({column: ["007.png", "001.png"], "label": ["a", "b"], "age": ["08", None]})
    file = tmp_path / f"t.{ending}"
    if ending == "parquet":
        frame.to_parquet(file)
    elif ending == "jsonl":
        file.write_text(
            "\n".join(json.dumps(row) for row in frame.astype(object).where(frame.notna(), None).to_dict("records"))
        )
    else:
        frame.to_csv(file, index=False, sep="\t" if ending == "tsv" else ",")
    found = read(file, attribute_columns=["age"])
    assert found["path"].tolist() == ["001.png", "007.png"] and found["attribute.age"].tolist() == ["", "08"]
    assert found["where"].tolist() == [f"t.{ending} row 2", f"t.{ending} row 1"]


def test_mistakes_in_tables(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"label": "b"}\n{oops\n')
    with pytest.raises(UserError, match="line 2: not valid JSON"):
        read(tmp_path / "t.jsonl")
    (tmp_path / "t.csv").write_text("path,label\nx.png,b\nx.png,b\n")
    with pytest.raises(UserError, match=r"row 2: lists x\.png a second time"):
        read(tmp_path / "t.csv")
    for name, content in (("empty.csv", ""), ("head.csv", "a,b\n"), ("no.parquet", "x")):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)
    for path in (tmp_path / "absent", "pypi:other"):
        with pytest.raises(UserError, match=r"dataset\.path"):
            read(path)


def test_captions_drop_what_is_missing():
    template = "a photo of {label}, {size} lesion, {tone} skin, {light}"
    assert captions.caption(template, "a nevus", {"tone": "light"}) == "a photo of a nevus, light skin"
    assert captions.caption("{label} {type} cell", "a", {}) == "a cell"


def test_shipped_prompts_load_and_their_grid_is_complete():
    solar = captions.load("solar-cell")
    assert len(captions.grid(solar, [])) == 6 and captions.grid(solar, ["type"]) == [{"type": "mono"}, {"type": "poly"}]
    with pytest.raises(UserError, match=r"generate\.axes: no attribute 'size'"):
        captions.grid(solar, ["size"])
    text = captions.record_caption(solar, "0" * 16, "odd", {"type": "mono", "brightness": ""})
    assert text.endswith("of odd monocrystalline solar cell")
    assert captions.categories(solar.attributes["brightness"], np.array([0.1, 0.6, 0.9, np.nan])) == [
        "dark",
        "medium",
        "bright",
        "",
    ]
    assert captions.load("dermatology").measured[-1] == "lesion_size" and captions.load("generic").labels == {}


@pytest.mark.parametrize(("text", "message"), [
    ("captions: ['{label}']\nwords: 1", "key 'words'"),
    ("captions: ['{label} {size}']", "no attribute 'size'"),
    ("captions: ['{label']", "is not a template"),
    ("captions: [a]\nmeasure: [beauty]", "no estimator 'beauty'"),
    ("captions: [a]\nattributes: {brightness: {source: measured, values: {x: x, y: y}}}", "2 values need 1 edges"),
    ("- a", "prompts"),
    ("a: [", "cannot be read as YAML"),
])  # fmt: skip
def test_mistakes_in_prompts(tmp_path, text, message):
    (tmp_path / "prompts.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        captions.load(str(tmp_path / "prompts.yaml"))


def spot(radius, skin=(220, 180, 160), colour=(90, 50, 40)):
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    return np.where((x**2 + y**2 < radius**2)[..., None], colour, skin).astype(np.uint8)


def test_attributes_of_known_images():
    pixels = np.stack([spot(0.3), spot(0.6), spot(0.6, skin=(120, 80, 60), colour=(40, 20, 15))])
    found = estimators.measure(pixels, list(estimators.ESTIMATORS))
    assert found["lesion_size"][:2] == pytest.approx([np.pi * 0.09 / 4, np.pi * 0.36 / 4], rel=0.25)
    assert found["skin_tone"][0] == pytest.approx(found["skin_tone"][1], abs=1) and found["skin_tone"][2] < 0
    assert found["brightness"][0] > found["brightness"][1] > found["brightness"][2]
    grey = estimators.measure(np.full((1, 32, 32, 3), 51, np.uint8), list(estimators.ESTIMATORS))
    assert grey["brightness"][0] == pytest.approx(0.2) and grey["warmth"][0] == 0 == grey["saturation"][0]
    assert grey["contrast"][0] == pytest.approx(0, abs=1e-6) and grey["texture"][0] == pytest.approx(0, abs=1e-6)
    assert estimators.measure(np.zeros((2, 32, 32, 3), np.uint8), ["skin_tone", "lesion_size"])["lesion_size"].tolist() == [
        0,
        0,
    ]


@given(st.integers(0, 180), st.integers(24, 96))
def test_orientation_is_the_angle_of_stripes_and_noise_has_none(degrees, side):
    y, x = np.mgrid[:side, :side]
    across = x * np.sin(np.radians(degrees)) + y * np.cos(np.radians(degrees))
    stripes = (127 + 100 * np.sin(0.8 * across)).astype(np.uint8)[None, ..., None].repeat(3, axis=3)
    found = estimators.measure(np.concatenate([stripes, stripes[:, :, ::-1]]), ["orientation"])["orientation"]
    assert found == pytest.approx(min(degrees, 180 - degrees), abs=4)
    noise = np.random.default_rng(degrees).integers(0, 255, (1, 64, 64, 3), np.uint8)
    assert np.isnan(estimators.measure(noise, ["orientation"])["orientation"]).all()


def test_lab_of_white_black_and_red():
    values = estimators.lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8))
    assert values == pytest.approx(np.array([[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2]]), abs=0.1)
