"""Features of the parts of a picture, as PatchCore takes them (Roth et al., 2022, "Towards total recall in industrial
anomaly detection"): a defect that is small beside its picture hardly moves the features of the whole.

The network is backbone.py's EfficientNet-Lite0, cut after two of its middle stages.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..core.device import CPU
from .backbone import lite, normalise, resize
from .features import LITE0_SIDE, Pixels

STAGES = (2, 4)
"""Of Lite0's seven: 40 maps of 20 x 20 and 112 maps of 10 x 10 for pictures of `LITE0_SIDE` pixels. The paper likewise takes
those whose stride is 8 and 16."""
PATCHES, WIDTH = 400, 152
"""Of each picture, and features of each patch."""
Patches = NDArray[np.float32]


def patch_features(pixels: Pixels, device: torch.device = CPU) -> Patches:
    """Features of 20 x 20 overlapping patches of each picture. All pictures go through the network at once.

    Each stage's maps are averaged over 3 x 3 neighbours, so that a patch knows what is around it. The coarser maps are
    brought to the finer ones' size, and both are joined. Features are signed square roots, as a head sees those of the
    whole picture (Perronnin et al., 2010). PatchCore has no roots; with them the score was better on solar cells
    (docs/experiments/one-class.md).

    Args:
        pixels: uint8 [N, H, W, 3] RGB.

    Returns:
        [N, PATCHES, WIDTH], patches in the order of rows.
    """
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).to(device)
    # as in `extract`: on a GPU, features must not depend on the run
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        found = [_averaged(maps) for maps in _maps(normalise(resize(images, LITE0_SIDE)), device)]
        same = [F.interpolate(maps, found[0].shape[-2:], mode="bilinear", align_corners=False) for maps in found]
        joined = torch.cat(same, dim=1).flatten(2).transpose(1, 2)
        return (joined.sign() * joined.abs().sqrt()).contiguous().cpu().numpy()


def _averaged(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)


def _maps(images: Tensor, device: torch.device) -> list[Tensor]:
    network, found = _network(device), []
    maps = network.bn1(network.conv_stem(images))
    for number, stage in enumerate(network.blocks[: STAGES[-1] + 1]):
        maps = stage(maps)
        if number in STAGES:
            found.append(maps)
    return found


@lru_cache(maxsize=1)
def _network(device: torch.device) -> Any:
    return lite().eval().to(device)
