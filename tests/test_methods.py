"""The table of methods, and which of them a configuration uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny

from synthimg.config import Config
from synthimg.data.prepared import Prepared
from synthimg.errors import UserError, did_you_mean
from synthimg.methods import base, starts
from synthimg.reading import parse


def config(tmp_path: Path, **generate: Any) -> Config:
    tree = tiny.settings(tmp_path, tmp_path, "embedded", generate=generate)
    tree["finetune"] |= {"controlnet": "edges", "edits": {"scenes": 1}}
    return parse(tree)


def test_what_is_not_named_is_not_used(tmp_path: Path) -> None:
    for methods, draws in (({"procedural": 1}, False), ({"transplant": 1, "procedural": 2}, False), ({"image": 1}, True)):
        found = config(tmp_path, methods=methods)
        assert found.generate.methods == methods and found.draws_with_model == draws
    assert config(tmp_path).generate.methods == {"text": 1.0}


def test_methods_that_mean_the_same_are_written_alike(tmp_path: Path) -> None:
    """Whatever the order in which they are given, and with those of weight 0 left out: files and digests hold them."""
    weights = dict.fromkeys(reversed(base.OWN), 1.0)
    assert list(config(tmp_path, methods=weights).generate.methods) == list(base.OWN)
    zero = config(tmp_path, methods={"text": 0, "procedural": 1})
    assert zero == config(tmp_path, methods={"procedural": 1.0}) and not zero.draws_with_model
    assert base.ordered(["zeta", "controlnet", "alpha", "text", "text"]) == ["text", "controlnet", "alpha", "zeta"]


@pytest.mark.parametrize(("methods", "message"), [
    ({"procedual": 1}, "key 'generate.methods': no method 'procedual' (did you mean 'procedural'?); there are: text, image"),
    ({"procedual": 0, "text": 1}, "no method 'procedual'"),
    ({"text": -1}, "key 'generate.methods.text': input should be greater than or equal to 0"),
    ({"text": 0}, "key 'generate.methods': at least one weight must be above 0"),
    ({}, "key 'generate.methods': at least one weight must be above 0"),
])  # fmt: skip
def test_methods_that_cannot_be_used_are_named(tmp_path: Path, methods: dict[str, float], message: str) -> None:
    with pytest.raises(UserError) as refused:
        config(tmp_path, methods=methods)
    assert message in str(refused.value)


@pytest.mark.parametrize("method", base.OWN)
def test_what_a_method_needs_is_asked_for_when_it_is_used(tmp_path: Path, method: str) -> None:
    tree = tiny.settings(tmp_path, tmp_path, "embedded", generate={"methods": {method: 1}})
    tree["dataset"]["mask"] = None
    needed = {"inpaint": "dataset.mask", "transplant": "dataset.mask", "controlnet": "finetune.controlnet"}
    needed |= dict.fromkeys(("edit", "edit_rare"), "finetune.edits")
    if method not in needed:
        assert parse(tree).generate.methods == {method: 1}
        return
    with pytest.raises(UserError, match=rf"generate\.methods\.{method} needs {needed[method]}"):
        parse(tree)
    tree["generate"]["methods"] = {method: 0, "text": 1}
    assert parse(tree).draws_with_model


def test_a_configuration_is_read_without_the_heavy_libraries() -> None:
    """torch and diffusers take seconds: a mistake in a configuration should be named at once."""
    code = "import sys; from synthimg.reading import load_config; config = load_config('configs/quickstart.yaml'); "
    code += "assert config.draws_with_model; print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert found.stdout.strip() == "[]"


def test_start_images_come_by_agreement_and_equals_in_turn() -> None:
    pool = pd.DataFrame({
        "id": list("abcdef"), "attribute.light": ["dark", "dark", "dark", "bright", "bright", "dark"],
        "attribute.size": ["small", "large", "small", "large", "small", "large"],
    })  # fmt: skip

    def order(seed: int, **cell: str) -> str:
        return "".join(starts.by_agreement(pool, base.Wish("image", 0, cell, seed)))

    # both: b f, one of them: a c d, none: e
    assert order(0, light="dark", size="large") == "bf" + "acd" + "e"
    assert order(1, light="dark", size="large") == "fb" + "cda" + "e"
    assert order(5, light="dark", size="large") == "fb" + "dac" + "e"
    assert order(4) == "efabcd"
    with pytest.raises(UserError, match=r"generate\.methods\.image: no training image to start from"):
        starts.nearest(pool[:0], base.Wish("image", 0, {}, 0))


def test_an_empty_mask_shows_no_object() -> None:
    frame = pd.DataFrame({"id": list("abc"), "mask": [True, True, False]})
    masks = np.zeros((3, 4, 4), np.uint8)
    masks[0, 0, 0] = masks[2, 0, 0] = 255
    prepared = Prepared(frame, np.zeros((3, 4, 4, 3), np.uint8), masks)
    assert list(starts.with_object(frame, prepared)["id"]) == ["a"]
    assert list(starts.with_object(frame[1:], prepared)["id"]) == []
    assert list(starts.with_object(frame, prepared._replace(masks=None))["id"]) == []


def test_the_nearest_word_is_suggested() -> None:
    assert did_you_mean("transplnt", base.OWN) == " (did you mean 'transplant'?)"
    assert did_you_mean("xyz", base.OWN) == ""
