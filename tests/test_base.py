"""The loader: every kind of base, and each way it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from synthimg.diffusion import base, cache
from synthimg.errors import UserError

CPU = torch.device("cpu")


def test_embedded_model_loads_with_plain_diffusers_and_is_small() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(base.EMBEDDED, safety_checker=None)
    assert pipeline.unet.config.sample_size * 8 == 128
    files = list(base.EMBEDDED.rglob("*.safetensors"))
    assert max(path.stat().st_size for path in files) < 16 * 2**20


def test_embedded_tokenizer_reads_any_text() -> None:
    pipeline = base.load("embedded", CPU)
    end = pipeline.tokenizer.eos_token_id
    ids = pipeline.tokenizer("a zyxwv ünknown 词 word").input_ids
    assert end not in ids[:-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder", "no such file"),
        ("/nowhere", "no such file"),
        ("{folder}", "model_index.json"),
        ("{file}", "cannot be loaded"),
    ],
)
def test_wrong_bases_are_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not a model")
    given = name.format(folder=tmp_path, file=tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match=message):
        base.load(given, CPU)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "base")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(UserError, match="base"):
        base.load(str(folder), CPU)


def test_latent_cache_is_keyed_by_content(tmp_path: Path) -> None:
    import numpy as np

    pipeline = base.load("embedded", CPU)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    first = cache.moments(pipeline, pixels, True, tmp_path)
    assert first.shape[:2] == (2, 2)
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(cache.moments(pipeline, pixels, True, tmp_path), first)
    cache.moments(pipeline, 255 - pixels, True, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
