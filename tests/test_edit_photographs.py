"""Pairs from a data set: exact, with its own words, and from the images alone that may be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml

from synthimg.config import Config
from synthimg.data.pairs import Pairs
from synthimg.data.prepared import Prepared, load, prompts_of
from synthimg.errors import UserError
from synthimg.methods import pairs
from synthimg.methods.base import Material
from synthimg.reading import parse
from synthimg.stages.prepare import prepare_dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Panels, of which every fifth has no consent; instructions beside the captions."""
    place = tmp_path_factory.mktemp("photographs")
    table = tiny.photographs(place / "data", rare=16, common=24) / "metadata.csv"
    frame = pd.read_csv(table)
    frame.assign(scope=["" if i % 5 == 0 else "research" for i in range(len(frame))]).to_csv(table, index=False)
    prompts = yaml.safe_load((Path(__file__).parent / "panel.yaml").read_text())
    prompts["attributes"]["brightness"]["edges"] = [0.42]
    prompts["edits"] = {"label.cracked": ["add cracks"], "label.intact": ["mend it"], "brightness": ["make it {brightness}"]}
    (place / "panel.yaml").write_text(yaml.safe_dump(prompts, sort_keys=False))
    return place


def prepared(place: Path, edits: dict[str, int], **changes: Any) -> tuple[Config, Material]:
    tree = tiny.settings(place / "data", place / "outputs", "embedded", **changes)
    tree["dataset"] |= {"prompts": str(place / "panel.yaml"), "consent": {"scope_column": "scope"}}
    tree["finetune"] |= {"edits": edits}
    tree["name"] = "-".join(["run", *(f"{kind}{count}" for kind, count in edits.items()), *map(str, changes)])
    config = parse(tree)
    prepare_dataset(config)
    return config, Material(config, prompts_of(config), load(config))


@pytest.fixture(scope="module")
def made(place: Path) -> tuple[Prepared, Pairs]:
    _, material = prepared(place, {"procedural": 16, "transplant": 12, "attributes": 20, "scenes": 5})
    return material.prepared, pairs.all_pairs(material)


def test_there_are_as_many_of_each_kind_as_asked_for(made: tuple[Prepared, Pairs]) -> None:
    _, found = made
    assert found.before.shape == found.after.shape == (53, 64, 64, 3) and found.before.dtype == np.uint8
    # in the order of their names: attributes, procedural, scenes, transplant
    assert [len(records) for records in found.records[36:41]] == [0] * 5
    assert {each.name for each in found.asked[:20]} == {"brightness"}
    assert {each.name for each in found.asked[20:36] + found.asked[41:]} == {"label"}


def test_outside_the_mask_nothing_changes_and_inside_something_does(made: tuple[Prepared, Pairs]) -> None:
    _, found = made
    changed = (found.before != found.after).any(3)
    assert not (changed & ~found.mask).any()
    assert changed.any((1, 2)).all()
    assert found.mask[20:36].mean() < 0.6


def test_one_side_of_a_pair_is_the_real_image(made: tuple[Prepared, Pairs]) -> None:
    data, found = made
    row_of, sides = data.row_of(), []
    for i, records in enumerate(found.records):
        if records:
            real = [data.pixels[row_of[name]] for name in records]
            before = any(np.array_equal(found.before[i], picture) for picture in real)
            after = any(np.array_equal(found.after[i], picture) for picture in real)
            assert before != after
            sides.append(before)
    assert 12 < sum(sides) < 36


def test_instructions_say_what_the_second_picture_is(made: tuple[Prepared, Pairs]) -> None:
    data, found = made
    row_of, words = data.row_of(), {"cracked": "add cracks", "intact": "mend it"}
    values = {"dark": "make it dark", "bright": "make it bright"}
    for i in [*range(36), *range(41, 53)]:
        name, value = found.asked[i]
        assert found.texts[i] == (words if name == "label" else values)[value]
        if name == "label":
            grounds = [data.pixels[row_of[record]] for record in found.records[i] if label_of(data, record) == "intact"]
            intact = found.before[i] if value == "cracked" else found.after[i]
            assert any(np.array_equal(intact, ground) for ground in grounds)
        else:
            light = [picture.mean() / 255 for picture in (found.before[i], found.after[i])]
            assert (light[1] > 0.42) == (value == "bright") and (light[0] > 0.42) == (value == "dark")


def label_of(data: Prepared, record: str) -> str:
    return str(data.frame.set_index("id").loc[record, "label"])


def test_pairs_show_images_of_the_training_split_with_consent_alone(made: tuple[Prepared, Pairs]) -> None:
    data, found = made
    frame = data.frame.set_index("id")
    shown = {record for records in found.records for record in records}
    assert len(shown) > 10 and set(frame.loc[sorted(shown), "split"]) == {"train"}
    assert len(frame) == 40 - 8  # those without consent are not even prepared


@pytest.mark.slow
def test_no_group_is_in_the_pairs_of_a_part_and_in_its_test(place: Path) -> None:
    config, _ = prepared(place, {"procedural": 6, "transplant": 6, "attributes": 4}, folds=3)
    tested = set()
    for part in config.parts[:3]:
        data = load(part)
        found = pairs.all_pairs(Material(part, prompts_of(config), data))
        frame = data.frame.set_index("id")
        groups = {frame.loc[record, "group"] for records in found.records for record in records}
        assert groups and not groups & set(frame.loc[frame["split"] != "train", "group"])
        tested |= set(frame.loc[frame["split"] == "test", "group"])
    assert tested == set(data.frame["group"])


@pytest.mark.slow
def test_pairs_are_those_of_their_seed(place: Path, made: tuple[Prepared, Pairs]) -> None:
    _, material = prepared(place, {"procedural": 16, "attributes": 20})
    again = pairs.all_pairs(material)
    assert again.texts == made[1].texts[:36] and np.array_equal(again.after, made[1].after[:36])
    other = material._replace(config=material.config.model_copy(update={"seed": 5}))
    assert not np.array_equal(pairs.all_pairs(other).after, again.after)


def test_what_cannot_be_made_is_refused_by_its_key(place: Path) -> None:
    config, material = prepared(place, {"attributes": 4})
    bare = material.prompts.model_copy(update={"edits": {}})
    with pytest.raises(UserError, match=r"finetune\.edits\.attributes: the prompts file has no attribute"):
        pairs.all_pairs(material._replace(prompts=bare))
    dark = material.prepared.frame.assign(**{"attribute.brightness": "dark"})
    with pytest.raises(UserError, match=r"finetune\.edits\.attributes: 4 pairs are asked for, and 0 could be made"):
        pairs.all_pairs(material._replace(prepared=material.prepared._replace(frame=dark)))
    tree = config.model_dump(mode="json")
    tree["dataset"]["mask"], tree["finetune"]["edits"] = None, {"transplant": 3}
    with pytest.raises(UserError, match=r"finetune\.edits\.transplant needs dataset\.mask"):
        parse(tree)
    tree["finetune"]["edits"] = {"drawings": 3}
    with pytest.raises(UserError, match=r"finetune\.edits\.drawings"):
        parse(tree)


def test_the_order_of_the_kinds_means_nothing(place: Path) -> None:
    tree = tiny.settings(place / "data", place / "outputs", "embedded")
    configs = []
    for edits in ({"scenes": 3, "attributes": 2}, {"attributes": 2, "scenes": 3}):
        configs.append(parse({**tree, "finetune": {"edits": edits}}))
    assert list(configs[0].finetune.edits) == list(configs[1].finetune.edits) == ["attributes", "scenes"]
