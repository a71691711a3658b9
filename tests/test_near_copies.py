"""Near-copies of training images through the filter, judged by the real features: not only exact copies are refused."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from fake_run import RARE, fake_run
from PIL import Image

from synthimg import scenes
from synthimg.data.prepared import load
from synthimg.stages.filter import filter_images

Change = Callable[[np.ndarray], np.ndarray]


def panel(rng: np.random.Generator, _: str) -> np.ndarray:
    """A drawn solar panel, uint8 [128, 128, 3]: panels differ in their cells, tone, light and cracks."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**32)))
    return scenes.pixels(scenes.sample(1, generator, ("panel",)), 128)[0]


def moved(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """The picture moved by some pixels; what the edge uncovers repeats the border."""
    reach = max(abs(down), abs(right))
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    side = len(pixels)
    return padded[reach - down : reach - down + side, reach - right : reach - right + side]


def encoded_again(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


NEAR: dict[str, Change] = {
    "the same": lambda pixels: pixels,
    "4 grey levels lighter": lambda pixels: np.clip(pixels.astype(int) + 4, 0, 255).astype(np.uint8),
    "4 grey levels darker": lambda pixels: np.clip(pixels.astype(int) - 4, 0, 255).astype(np.uint8),
    "2 pixels to the right": lambda pixels: moved(pixels, 0, 2),
    "2 pixels up": lambda pixels: moved(pixels, -2, 0),
    "a JPEG of quality 90": lambda pixels: encoded_again(pixels, 90),
    "mirrored and a JPEG": lambda pixels: encoded_again(pixels[:, ::-1].copy(), 90),
}
OTHERS = 4


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, str]:
    """Decisions on near-copies of one training image, then on pictures of their own; and that image's id."""
    config = fake_run(
        tmp_path_factory.mktemp("near"), planned=len(NEAR) + OTHERS,
        paint=panel,
        overrides={"resolution": 128, "filter": {"confidence": 0.0, "attributes": False}},
        counts={
            RARE: {"train": 12, "reserve": 0, "validation": 10, "test": 1},
            "functional": {"train": 12, "reserve": 0, "validation": 10, "test": 1},
        },
    )  # fmt: skip
    frame, pixels, _ = load(config)
    original = int(np.flatnonzero((frame["split"] == "train") & (frame["label"] == RARE))[3])
    ids = list(pd.read_parquet(config.folder / "generate" / "plan.parquet")["id"])
    rng = np.random.default_rng(11)
    pictures = [change(pixels[original]) for change in NEAR.values()] + [panel(rng, RARE) for _ in range(OTHERS)]
    for name, picture in zip(ids, pictures, strict=True):
        Image.fromarray(picture).save(config.folder / "generate" / "images" / f"{name}.png")
    filter_images(config)
    decisions = pd.read_parquet(config.folder / "filter" / "decisions.parquet")
    return decisions.set_axis([*NEAR, *(f"other {number}" for number in range(OTHERS))]), frame["id"][original]


@pytest.mark.parametrize("change", NEAR)
def test_a_near_copy_is_refused_and_its_original_named(judged: tuple[pd.DataFrame, str], change: str) -> None:
    decisions, original = judged
    found = decisions.loc[change]
    assert (found["reason"], found["accepted"], found["nearest"]) == ("copy", False, original)


def test_pictures_of_their_own_are_no_copies(judged: tuple[pd.DataFrame, str]) -> None:
    decisions, _ = judged
    own = decisions.iloc[len(NEAR) :]
    assert own["accepted"].all()
    assert own["distance"].min() > 2 * decisions["distance"].iloc[: len(NEAR)].max()
