"""Near duplicates: candidates by perceptual hash, confirmed by the thumbnails' own pattern.

A hash alone is not enough. Images of one kind of part (plain solar cells, say) share their coarse layout, so that
different parts collide; and one part photographed twice, once out of focus, differs in every pixel value. The
correlation of thumbnails without their row and column means answers to neither brightness, gradients nor
straight bars: it looks at what belongs to the single part. Measured on ELPV: 49 cells that occur twice (one exposure
sharp, one blurred) differ by up to 12 grey levels on average, yet correlate above 0.96.
"""

from __future__ import annotations

from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

SIDE = 32
CORRELATION = 0.9
FLAT = 0.5
"""Below this deviation (grey levels) a thumbnail has no pattern, only rounding noise."""
CHUNK = 512


class Fingerprint(NamedTuple):
    hash: int
    """64 bits."""
    thumbnail: np.ndarray
    """uint8 [32, 32] grey."""


def fingerprint(image: Image.Image) -> Fingerprint:
    """DCT-based perceptual hash (imagehash.phash) and thumbnail of the whole image, before any crop."""
    small = image.convert("L").resize((4 * SIDE, 4 * SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    bits = imagehash.phash(small).hash.reshape(-1)
    number = int.from_bytes(np.packbits(bits).tobytes())
    return Fingerprint(number, np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX)))


def near(hashes: np.ndarray, thumbnails: np.ndarray, bits: int) -> np.ndarray:
    """Pairs of images that show the same thing.

    Args:
        hashes: uint64 [N].
        thumbnails: uint8 [N, 32, 32].
        bits: hashes may differ in at most this many.

    Returns:
        int64 [M, 2], each pair once, first < second.
    """
    patterns, flat = _patterns(thumbnails)
    pairs = []
    for start in range(0, len(hashes), CHUNK):
        block = hashes[start : start + CHUNK, None]
        close = np.bitwise_count(block ^ hashes[None, start:]) <= bits
        first, second = np.nonzero(np.triu(close, 1))
        pairs.append(np.stack([first, second], 1) + start)
    found = np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)
    first, second = found.T
    alike = np.einsum("md,md->m", patterns[first], patterns[second]) >= CORRELATION
    same = (thumbnails[first] == thumbnails[second]).all((1, 2))
    return found[np.where(flat[first] | flat[second], same, alike)]


def _patterns(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors float32 [N, 1024] without row and column means, and which thumbnails have no pattern at all."""
    grey = thumbnails.astype(np.float32)
    grey -= grey.mean(1, keepdims=True)
    grey -= grey.mean(2, keepdims=True)
    vectors = grey.reshape(len(grey), SIDE * SIDE)
    length = np.linalg.norm(vectors, axis=1)
    return vectors / np.maximum(length, 1e-6)[:, None], length / SIDE < FLAT
