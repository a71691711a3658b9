"""What a base's text encoder does not read of a caption is said before it is trained or drawn with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.attributes.captions import Prompts
from synthimg.diffusion import base, cache, limit
from synthimg.reading import parse

CONFIG = parse({"name": "t", "dataset": {"path": "d", "rare_class": "rare", "prompts": "generic"}})
LIGHT = {"source": "measured", "estimator": "brightness", "edges": [0.5], "values": {"dark": "dim", "bright": "bright"}}
LONG = " ".join(f"word{number}" for number in range(30))


@pytest.fixture(scope="module")
def pipeline():
    return base.load("embedded", torch.device("cpu"))


def prompts(*templates):
    return Prompts.model_validate({"captions": list(templates), "attributes": {"lighting": LIGHT}})


def test_the_words_that_are_cut_and_the_axis_without_effect_are_named_once(pipeline, capsys):
    told = prompts("a photo of {label} " + LONG + ", {lighting}")
    texts = [f"a photo of rare {LONG}, dim", f"a photo of rare {LONG}, bright", "a photo of rare"]
    limit.tell_cut(pipeline, CONFIG, told, texts)
    (line,) = capsys.readouterr().out.strip().split("\n")
    assert line.startswith("warning: 2 of 3 captions are longer than the 48 tokens that the base 'embedded' reads.")
    assert "word29, bright'" in line and "the axis lighting." in line


def test_nothing_is_said_of_captions_that_fit(pipeline, capsys):
    limit.tell_cut(pipeline, CONFIG, prompts("a photo of {label}, {lighting}"), ["a photo of rare, dim", ""])
    assert capsys.readouterr().out == ""


def test_what_is_left_is_what_the_encoder_tells_apart(pipeline):
    """The encoder takes two captions for the same where, and only where, their cut texts are the same."""
    text = f"a photo of rare {LONG}, dim"
    read = limit.reads(pipeline, text)
    assert limit.length(pipeline, read) <= limit.tokens(pipeline) == 48 and text.startswith(read + " ")
    words = text.split()
    inside, outside = len(read.split()) - 1, len(read.split()) + 1
    changed = [" ".join([*words[:place], "cat", *words[place + 1 :]]) for place in (inside, outside)]
    hidden = base.encode_prompts(pipeline, [text, *changed]).hidden
    assert not torch.equal(hidden[0], hidden[1]) and torch.equal(hidden[0], hidden[2])


def test_an_axis_is_lost_in_the_template_that_is_too_long_and_kept_at_its_head():
    head, tail = "{lighting} {label} " + LONG, "{label} " + LONG + ", {lighting}"
    read = lambda text: " ".join(text.split()[:5])  # noqa: E731
    assert limit.cut_axes(prompts(head), [], "rare", read) == []
    assert limit.cut_axes(prompts(head, tail), [], "rare", read) == ["lighting"]
    assert limit.cut_axes(prompts(tail), ["lighting"], "rare", read) == ["lighting"]
    assert limit.cut_axes(prompts("a {label}"), [], "rare", read) == []  # no caption says it, so none loses it


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["a", "crack", "electroluminescence", "x1y2z3"]), min_size=1, max_size=60))
def test_as_many_words_are_read_as_fit(pipeline, words):
    text = " ".join(words)
    count = len(limit.reads(pipeline, text).split())
    assert limit.length(pipeline, " ".join(words[:count])) <= 48
    assert count == len(words) or limit.length(pipeline, " ".join(words[: count + 1])) > 48


def test_embeddings_are_kept_by_the_tokenizer_as_well(pipeline, tmp_path):
    """Another limit, or another vocabulary, makes other embeddings of the same words with the same encoder."""
    cache.prompts(pipeline, [LONG], tmp_path)
    cache.prompts(pipeline, [LONG], tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    tokenizer = pipeline.tokenizer
    before = tokenizer.model_max_length
    try:
        tokenizer.model_max_length = 20
        assert cache.prompts(pipeline, [LONG], tmp_path).hidden.shape[1] == 20
    finally:
        tokenizer.model_max_length = before
    assert len(list(tmp_path.iterdir())) == 2
