"""Methods and estimators of other packages: the very code of docs/extending.md, installed from outside."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from PIL import Image

from synthimg.attributes import captions, estimators
from synthimg.core import extensions
from synthimg.data.prepared import Prepared, load
from synthimg.errors import UserError
from synthimg.methods import base
from synthimg.reading import parse
from synthimg.stages.filter import filter_images
from synthimg.stages.finetune import finetune_model
from synthimg.stages.generate import draw, generate_images, plan
from synthimg.stages.prepare import prepare_dataset

GUIDE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


def blocks(title: str, language: str) -> list[str]:
    """The code blocks of one language in the sections of the guide whose titles begin so; "" is what stands before them."""
    parts = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    chosen = parts[:1] if not title else [part for part in parts if part.startswith(title)]
    return [code for part in chosen for code in re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)]


def install(place: Path, name: str, code: str, points: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of one module, as pip would leave it in a folder of its own."""
    place.mkdir(exist_ok=True)
    (place / f"{name}.py").write_text(code)
    information = place / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in found.items()) for group, found in points.items()
    ]
    (information / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the guide's package leaves, and the prompts file that it shows."""
    (declared,) = blocks("", "toml")
    code = "\n".join([*blocks("A method", "python"), *blocks("An estimator", "python")])
    points = tomllib.loads(declared)["project"]["entry-points"]
    chosen = {group: points[group] for group in (base.GROUP, estimators.GROUP)}
    install(tmp_path / "site", "my_methods", code, chosen, monkeypatch)
    (prompts,) = blocks("An estimator", "yaml")
    (tmp_path / "sharpness.yaml").write_text(prompts)
    return tmp_path


@pytest.mark.slow
def test_the_guides_method_and_estimator_work_from_another_package(guide: Path) -> None:
    tree = tiny.settings(tiny.photographs(guide / "data"), guide / "outputs", "embedded")
    tree["dataset"]["prompts"] = str(guide / "sharpness.yaml")
    (shown,) = blocks("A method", "yaml")
    tree["generate"] = yaml.safe_load(shown)["generate"] | {"count": 12}
    config = parse(tree)
    assert not config.draws_with_model
    for stage in (prepare_dataset, finetune_model, generate_images, filter_images):
        stage(config)
    prepared = load(config)
    assert set(prepared.frame["attribute.sharpness"]) == {"soft", "sharp"}
    assert prepared.frame["measured.sharpness"].equals(
        pd.Series(np.abs(np.diff(prepared.pixels.mean(3), axis=2)).mean((1, 2)), name="measured.sharpness")
    )
    rows = pd.read_parquet(config.folder / "generate" / "plan.parquet")
    # those of other packages come after synthimg's own
    assert list(rows["method"]) == ["procedural"] * 6 + ["mirrored"] * 6
    row_of, mirrored = prepared.row_of(), rows[rows["method"] == "mirrored"]
    sources = prepared.frame.set_index("id").loc[mirrored["source"]]
    assert (sources[["label", "split"]] == ["cracked", "train"]).all(axis=None)
    assert (sources["attribute.sharpness"].to_numpy() == mirrored["attribute.sharpness"].to_numpy()).all()
    for row in mirrored.to_dict("records"):
        with Image.open(config.folder / "generate" / "images" / f"{row['id']}.png") as image:
            assert np.array_equal(np.asarray(image)[:, ::-1], prepared.pixels[row_of[row["source"]]])
            assert json.loads(image.info["synthimg"])["method"] == "mirrored"
            assert 'digitalsourcetype/algorithmicallyEnhanced"' in image.info["XML:com.adobe.xmp"]
    decisions = pd.read_parquet(config.folder / "filter" / "decisions.parquet")
    assert "found.sharpness" in decisions and "class" not in set(decisions["reason"])
    generate_images(config)
    with (guide / "site" / "my_methods.py").open("a") as file:
        file.write("# other code, other images\n")
    with pytest.raises(UserError, match="holds work from other inputs"):
        generate_images(config)
    with pytest.raises(UserError, match="have changed since this run was prepared"):  # the estimator is in that file, too
        prepare_dataset(config)


def test_each_of_the_guides_examples_has_ten_lines_at_most() -> None:
    for title in ("A method", "An estimator"):
        (code,) = blocks(title, "python")
        assert len([line for line in code.splitlines() if line.strip()]) <= 10


GREY = """
import numpy as np
from synthimg.methods.base import Method

def plan(wishes, pool, material):
    assert pool.empty
    return [{"grey": wish.number % 3} for wish in wishes]

def draw(batch, studio):
    side = studio.config.resolution
    return np.stack([np.full((side, side, 3), 60 * grey, np.uint8) for grey in batch["grey"]])

METHOD = Method(plan, draw, composed=True)
"""


def test_a_method_of_another_package_may_have_columns_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "grey_method", GREY, {base.GROUP: {"grey": "grey_method:METHOD"}}, monkeypatch)
    tree = tiny.settings(tmp_path, tmp_path, "embedded", resolution=32)
    tree["generate"]["methods"] = {"grey": 1, "procedural": 1}
    config = parse(tree)
    frame = pd.DataFrame({"id": ["a"], "label": "intact", "split": "train", "attribute.brightness": "dark"})
    prepared = Prepared(frame, np.full((1, 32, 32, 3), 128, np.uint8), None)
    rows = plan(config, captions.load(config.dataset.prompts), prepared, "model")
    made = rows[rows["method"] == "grey"]
    assert list(made["grey"]) == [0, 1, 2] and made["id"].is_unique and rows["grey"].isna().sum() == 3
    draw(config, prepared, rows, tmp_path, tmp_path / "images")
    for row in made.to_dict("records"):
        with Image.open(tmp_path / "images" / f"{row['id']}.png") as image:
            assert (np.asarray(image) == 60 * row["grey"]).all() and image.size == (32, 32)


def test_the_names_of_other_packages_are_among_those_suggested(guide: Path) -> None:
    tree = tiny.settings(guide, guide, "embedded", generate={"methods": {"mirored": 1}})
    with pytest.raises(UserError, match=r"key 'generate\.methods': no method 'mirored' \(did you mean 'mirrored'\?\)"):
        parse(tree)
    prompts = yaml.safe_load((guide / "sharpness.yaml").read_text())
    prompts["measure"] = ["sharpnes"]
    (guide / "typo.yaml").write_text(yaml.safe_dump(prompts))
    with pytest.raises(UserError, match=r"typo\.yaml: .*no estimator 'sharpnes' \(did you mean 'sharpness'\?\); there are"):
        captions.load(str(guide / "typo.yaml"))


def test_entry_points_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"broken": "first_package:NOWHERE", "number": "first_package:NUMBER", "both": "first_package:NUMBER"}
    install(tmp_path / "one", "first_package", "NUMBER = 1", {base.GROUP: points}, monkeypatch)
    with pytest.raises(UserError, match=r"'broken' of synthimg\.methods: 'first_package:NOWHERE' cannot be imported"):
        base.find("broken")
    with pytest.raises(UserError, match=r"'number' of synthimg\.methods: expected a .*Method, found 1"):
        base.find("number")
    install(tmp_path / "two", "second_package", "", {base.GROUP: {"both": "second_package:METHOD"}}, monkeypatch)
    with pytest.raises(UserError, match=r"two packages use this name \(first_package:NUMBER, second_package:METHOD\)"):
        base.find("both")
    # nothing of them is imported where it is not used, and what is synthimg's own cannot be replaced
    install(
        tmp_path / "three", "third_package", "raise RuntimeError", {base.GROUP: {"text": "third_package:X"}}, monkeypatch
    )
    assert base.find("text").starts_from == "nothing"
    assert {"broken", "number", "both"} <= set(extensions.names(base.GROUP)) and "third_package" not in sys.modules


WRONG = """
import numpy as np
from synthimg.methods.base import Method

def plan(wishes, pool, material):
    return [{} for _ in wishes]

def smaller(batch, studio):
    return np.zeros((len(batch), 16, 16, 3), np.uint8)

def fewer(batch, studio):
    return np.zeros((len(batch) - 1, 32, 32, 3), np.uint8)

def floats(batch, studio):
    return np.zeros((len(batch), 32, 32, 3))

SHORT = Method(lambda wishes, pool, material: [{}], smaller)
SMALLER, FEWER, FLOATS = (Method(plan, draw, composed=True) for draw in (smaller, fewer, floats))
"""


def test_what_a_method_of_another_package_makes_wrong_is_told_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {name: f"wrong_method:{name.upper()}" for name in ("short", "smaller", "fewer", "floats")}
    install(tmp_path / "site", "wrong_method", WRONG, {base.GROUP: points}, monkeypatch)
    frame = pd.DataFrame({"id": ["a"], "label": "intact", "split": "train", "attribute.brightness": "dark"})
    prepared = Prepared(frame, np.full((1, 32, 32, 3), 128, np.uint8), None)
    for name, told in (
        ("short", r"plan returned 1 rows, expected 3"),
        ("smaller", r"draw returned an array of uint8 \[2, 16, 16, 3\], expected uint8 \[2, 32, 32, 3\]"),
        ("fewer", r"draw returned an array of uint8 \[1, 32, 32, 3\], expected uint8 \[2, 32, 32, 3\]"),
        ("floats", r"draw returned an array of float64 \[2, 32, 32, 3\], expected uint8 \[2, 32, 32, 3\]"),
    ):
        tree = tiny.settings(tmp_path, tmp_path, "embedded", resolution=32)
        tree["generate"] |= {"methods": {name: 1}, "count": 3, "batch_size": 2}
        config = parse(tree)
        prompts = captions.load(config.dataset.prompts)
        with pytest.raises(UserError, match=rf"generate\.methods\.{name}: {told}"):
            draw(config, prepared, plan(config, prompts, prepared, "model"), tmp_path, tmp_path / "i")
        assert not list(tmp_path.glob("i/*.png"))
