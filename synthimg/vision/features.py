"""Frozen feature extractors: pictures in, one vector per picture out.

The networks are those of backbone.py. Scores of `efficientnet-lite0` are never called Inception's.

    extract(pixels uint8 [N, H, W, 3]) -> float32 [N, D]        D = 1280 (Lite0) or 2048 (Inception)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..config import Evaluate
from ..core.device import CPU
from ..core.stage import kept
from .backbone import inception_file, inception_weights, lite, normalise, resize

Extractor = Literal["efficientnet-lite0", "inception"]
Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]

LITE0_SIDE = 160
"""Pixels to which pictures are resized for frozen Lite0 features."""


def choose(settings: Evaluate) -> Extractor:
    """The extractor of FID and KID: the one asked for; `auto` takes Inception only where its weights already lie here.

    Raises:
        UserError: Inception is asked for, or a weight file named, and the file is missing, broken or another one.
    """
    if settings.extractor == "efficientnet-lite0":
        return "efficientnet-lite0"
    if settings.extractor == "auto" and settings.inception_weights is None and not inception_file().exists():
        return "efficientnet-lite0"
    inception_weights(settings.inception_weights)
    return "inception"


def extract(
    pixels: Pixels,
    extractor: Extractor = "efficientnet-lite0",
    batch: int = 32,
    device: torch.device = CPU,
    weights: str | None = None,
) -> Features:
    """Features of every picture, in order. Independent of `batch` but for float rounding.

    Args:
        pixels: uint8 [N, H, W, 3] RGB; a memory map is read batch by batch.
        weights: Inception weights, default torch hub's cache.

    Returns:
        float32 [N, D].
    """
    network, width = _network(extractor, device, weights)
    found = np.empty((len(pixels), width), np.float32)
    # On a GPU, TF32 and a choice of kernels by timing would make features depend on the batch and the run.
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        for start in tqdm(range(0, len(pixels), batch), desc=f"features ({extractor})", unit="batch", disable=None):
            images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])).permute(0, 3, 1, 2)
            found[start : start + batch] = network(images.to(device)).float().cpu().numpy()
    return found


@lru_cache(maxsize=2)
def _network(extractor: Extractor, device: torch.device, weights: str | None) -> tuple[Callable[[Tensor], Tensor], int]:
    """A function uint8 [N, 3, H, W] -> features [N, D], and D."""
    if extractor == "inception":
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        inception: Any = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception_weights(weights))
        ).to(device)
        return lambda images: inception(images.contiguous())[0], 2048
    model = lite().eval().to(device)
    return lambda images: model(normalise(resize(images, LITE0_SIDE))), 1280


def chunks(pixels: Pixels, rows: NDArray[np.int64], size: int = 512) -> Iterator[Pixels]:
    """The pictures `pixels[rows]`, a few at a time; an empty chunk where there are no rows."""
    for start in range(0, max(len(rows), 1), size):
        yield pixels[rows[start : start + size]]


def cached(
    parts: Iterable[Pixels],
    folder: Path,
    extractor: Extractor = "efficientnet-lite0",
    device: torch.device = CPU,
    weights: str | None = None,
) -> Features:
    """`extract` over parts of a large set, each kept in a file of its own, so that a killed run loses one part at most.

    The files are named by all that the features follow from: extractor, pictures, kind of device, and torch's version. Of
    several processes, say those of a run's parts, one extracts what all need.

    Args:
        parts: at least one uint8 [N, H, W, 3], such as `chunks` gives.
    """
    facts = f"{device.type}, {torch.__version__}"

    def found(pixels: Pixels) -> Features:
        pixels = np.ascontiguousarray(pixels)
        content = hashlib.sha256(f"{facts}, {pixels.shape}".encode() + pixels.tobytes()).hexdigest()
        file = folder / f"{extractor}-{content[:24]}.npy"
        return np.asarray(kept(file, lambda: extract(pixels, extractor, device=device, weights=weights)), np.float32)

    return np.concatenate([found(part) for part in parts])
