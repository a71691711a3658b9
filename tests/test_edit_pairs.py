"""Pairs for edits: nothing but what is asked for changes, and the truth of both pictures is known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthimg import scenes
from synthimg.attributes import captions, estimators, photometry
from synthimg.data import pairs
from synthimg.errors import UserError

OF_STATE = {"panel": {"count", "area"}, "surface": {"mark", "count", "size", "border", "place"}}
"""What names a defect and its parts."""


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(scenes.EDITS))
def test_in_a_pair_of_scenes_the_asked_attribute_alone_is_another(seed: int, edit: tuple[str, str]) -> None:
    name, kind = edit
    both = scenes.pairs(6, torch.Generator().manual_seed(seed), name, kind)
    for before, after in zip(*map(scenes.attributes, both), strict=True):
        others = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert before["kind"] == after["kind"] == kind
        if name == "defect":
            assert others and others <= OF_STATE[kind]
            assert {scenes.state(before), scenes.state(after)} > {"intact"}
        else:
            assert others == {name}


def test_edits_of_scenes_go_both_ways_and_are_those_of_their_seed() -> None:
    before, after = scenes.pairs(40, torch.Generator().manual_seed(1), "defect", "surface")
    added = [scenes.state(truth) == "intact" for truth in scenes.attributes(before)]
    assert 8 < sum(added) < 32
    again, _ = scenes.pairs(40, torch.Generator().manual_seed(1), "defect", "surface")
    assert torch.equal(again.mark, before.mark) and not torch.equal(after.mark, before.mark)
    with pytest.raises(UserError, match="scene edit tone: a panel has none"):
        scenes.pairs(2, torch.Generator(), "tone", "panel")


@pytest.mark.parametrize("edit", [edit for edit in scenes.EDITS if edit[0] in ("defect", "size")], ids=str)
def test_a_scene_is_the_same_picture_away_from_the_mask(edit: tuple[str, str]) -> None:
    both = scenes.pairs(24, torch.Generator().manual_seed(3), *edit)
    sharp = (both[0].border == 0).numpy()
    (before, masks), (after, later) = (scenes.render(scene, 96) for scene in both)
    inside = ((masks + later)[:, 0] > 0).numpy()[sharp]
    near = np.stack([ndimage.binary_dilation(mask, iterations=12) for mask in inside])
    difference = (before - after).abs().amax(1).numpy()[sharp] * 255
    assert difference[~near].max(initial=0) < 1
    assert all(difference[row][mask].max() > 16 for row, mask in enumerate(inside))


def test_pairs_of_scenes_say_what_the_second_picture_is() -> None:
    found = pairs.of_scenes(60, 32, 5)
    assert found.before.shape == found.after.shape == (60, 32, 32, 3) and found.mask.shape == (60, 32, 32)
    assert {each.name for each in found.asked} == {"label", "size", "tone", "light", "texture"}
    assert (found.before != found.after).any((1, 2, 3)).all()
    prompts = captions.load("scenes")
    for text, (name, value) in zip(found.texts, found.asked, strict=True):
        known = {captions.instruction(prompts, number, name, value, {}) for number in range(20)}
        assert text in known and len(known) > 1
    assert (found.before == found.after).all(3)[~found.mask].all()
    parts = [mask.mean() for mask, each in zip(found.mask, found.asked, strict=True) if each.name in ("label", "size")]
    assert min(parts) > 0 and np.median(parts) < 0.5  # what is asked for everywhere may change everywhere
    again = pairs.of_scenes(60, 32, 5)
    assert again.texts == found.texts and np.array_equal(again.after, found.after)
    assert not np.array_equal(pairs.of_scenes(60, 32, 6).after, found.after)


def test_every_value_of_scenes_can_be_asked_for_in_several_wordings() -> None:
    prompts = captions.load("scenes")
    for name in ("light", "texture", "tone", "size"):
        assert tuple(prompts.attributes[name].values) == scenes.VALUES[name]
    asked = [("label", label) for label in prompts.labels]
    asked += [(name, value) for name, attribute in prompts.attributes.items() for value in attribute.values]
    texts = [{captions.instruction(prompts, n, *each, {}) for n in range(30)} for each in asked]
    assert all(len(each) >= 3 for each in texts)
    most = Counter(text for each in texts for text in each)
    assert most.most_common(1)[0][1] == 1  # no sentence asks for two things


@pytest.mark.parametrize("name", ["solar-cell", "dermatology", "generic", "scenes"])
def test_the_files_that_come_with_the_package_have_instructions(name: str) -> None:
    prompts = captions.load(name)
    assert len(captions.wordings(prompts, captions.LABEL, "any")) >= 2
    measured = [key for key, attribute in prompts.attributes.items() if attribute.source == "measured"]
    assert all(captions.wordings(prompts, key, value) for key in measured for value in prompts.attributes[key].values)


def test_an_instruction_names_what_is_asked_for_and_what_is_there() -> None:
    prompts = captions.Prompts.model_validate({
        "captions": ["a {label} cell"], "labels": {"bad": "a cracked"},
        "attributes": {"light": {"source": "column", "values": {"dim": "dimly lit", "bright": "brightly lit"}}},
        "edits": {
            "label": ["make it {label} cell, {light}"], "label.bad": ["add cracks"], "light": ["{light}, {label} cell"],
        },
    })  # fmt: skip
    told = [captions.instruction(prompts, n, "label", "bad", {"light": "dim"}) for n in range(3)]
    assert told == ["make it a cracked cell, dimly lit", "add cracks", "make it a cracked cell, dimly lit"]
    assert captions.instruction(prompts, 1, "label", "good", {}) == "make it good cell"
    assert captions.instruction(prompts, 0, "light", "bright", {"light": "dim"}, "bad") == "brightly lit, a cracked cell"
    bare = captions.Prompts.model_validate({"captions": ["a {label}"]})
    assert captions.instruction(bare, 7, "label", "rust", {}) == "turn it into rust"
    with pytest.raises(UserError, match=r"no instruction for light 'dim'; add one under edits\.light"):
        captions.instruction(bare, 0, "light", "dim", {})


@pytest.mark.parametrize(("edits", "message"), [
    ({"colour": ["make it {light}"]}, "edits 'colour': no attribute 'colour'"),
    ({"light.green": ["make it green"]}, "edits 'light.green': light has no value 'green'"),
    ({"light": ["make it nice"]}, "instruction 'make it nice': lacks {light}"),
    ({"label": ["make it {size}"]}, "instruction 'make it {size}': no attribute 'size'"),
    ({"light": ["make it {light"]}, "is not a template"),
    ({"light": []}, "edits.light"),
])  # fmt: skip
def test_instructions_that_cannot_be_filled_are_refused(tmp_path: Path, edits: dict[str, list[str]], message: str) -> None:
    tree = {
        "captions": ["a {label}"],
        "attributes": {"light": {"source": "column", "values": {"dim": "dim"}}},
        "edits": edits,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError) as refused:
        captions.load(str(tmp_path / "own.yaml"))
    assert message in str(refused.value)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["brightness", "contrast", "warmth", "saturation"]), st.floats(-0.25, 0.25))
def test_an_operator_brings_a_photograph_to_the_value_asked_for(seed: int, name: str, change: float) -> None:
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.random((24, 24, 3)), (2, 2, 0))
    picture = (90 + 300 * (smooth - smooth.mean()) + random.uniform(-10, 10, 3)).clip(40, 150).astype(np.uint8)
    estimate = estimators.ESTIMATORS[name]
    before = float(estimate(picture[None])[0])
    value = before + change if name == "warmth" else before * (1 + change)
    found = photometry.towards(picture, name, value)
    assert float(estimate(found[None])[0]) == pytest.approx(value, rel=0.02, abs=0.004)


def test_the_gain_of_a_grey_picture_is_that_of_its_light() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    for level in (50, 150):
        found = photometry.towards(grey, "brightness", level / 255)
        assert (found == found[0, 0, 0]).all() and abs(int(found[0, 0, 0]) - level) <= 1
    white = photometry.towards(np.full((8, 8, 3), 254, np.uint8), "brightness", 2.0)
    assert (white == 255).all()  # as near as it gets


def test_the_skin_gets_darker_and_browner_and_the_lesion_stays() -> None:
    scene = scenes.sample(3, torch.Generator().manual_seed(2), ("skin",), tone="light", light="even", size="medium")
    for picture in scenes.pixels(scene, 64):
        tone = float(estimators.skin_tone(picture[None])[0])
        found = photometry.towards(picture, "skin_tone", tone - 12)
        assert float(estimators.skin_tone(found[None])[0]) == pytest.approx(tone - 12, abs=3)
        ratio = found.reshape(-1, 3).mean(0) / picture.reshape(-1, 3).mean(0)
        assert 1 > ratio[0] > ratio[1] > ratio[2]
