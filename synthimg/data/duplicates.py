"""Near duplicates: images of the same thing, under another exposure, a little shifted or out of focus as well.

Images of one kind of part (plain solar cells, say) share their layout, and a thumbnail or a perceptual hash sees little
else. What is compared here is the pattern of a small picture: grey levels become ranks, which no exposure or gamma
changes; a band-pass takes light and noise away; row and column means, which answer to straight bars, are removed.

Each image's candidates are those nearest in the size of the pattern's Fourier coefficients, which a shift leaves as they
are. A candidate is confirmed by the correlation at the best shift of up to 6 % of the side. It also has to stand out:
where many images agree as well, it is their kind that they share. Measured on ELPV: docs/log.md.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import fft, ndimage, stats

SIDE = 64
SHIFT = 4
"""Pixels of the thumbnail, either way."""
BAND = (1.0, 4.0)
"""Standard deviations (pixels of the thumbnail) of the two Gaussians whose difference is the band-pass."""
WAVES = 12
"""Coefficients of at most this frequency (cycles a side) are compared to find candidates."""
CANDIDATES = 10
NEIGHBOUR, MARGIN = 5, 0.4
"""A pair stands out if it lacks at most 0.4 times as much of a full correlation as one of the two and its 5th best."""
CERTAIN = 0.98
"""From here on a pair need not stand out: it may be of a long series of one object."""
FLAT = 0.5
"""Below this deviation (grey levels) a thumbnail has no pattern, only rounding noise."""
CHUNK = 512


def fingerprint(image: Image.Image) -> np.ndarray:
    """Thumbnail of the whole image, before any crop: uint8 [64, 64] grey."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def near(thumbnails: np.ndarray, least: float) -> np.ndarray:
    """Pairs of images that show the same thing. Time grows with N squared (a matrix product), memory with N.

    Args:
        thumbnails: uint8 [N, 64, 64].
        least: correlation that a pair needs; equal thumbnails are always a pair.

    Returns:
        int64 [M, 2], each pair once, first < second. Of n equal thumbnails the first is paired with each of the others.
    """
    _, first, member = np.unique(thumbnails.reshape(-1, SIDE * SIDE), axis=0, return_index=True, return_inverse=True)
    leader = first[member]
    repeated = np.flatnonzero(leader != np.arange(len(leader)))
    equal = np.stack([leader[repeated], repeated], 1)

    single = np.sort(first)
    single = single[_has_pattern(thumbnails[single])]
    patterns = np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *map(_pattern, _chunks(thumbnails[single]))])
    pairs = _candidates(patterns)
    spread = np.concatenate([np.empty((0, 2 * SHIFT + 1, 2 * SHIFT + 1)), *map(_spread, _chunks(patterns))])
    found = np.concatenate([np.empty(0), *(_correlation(patterns[one], patterns[other], spread[other])
                                           for one, other in (some.T for some in _chunks(pairs)))])  # fmt: skip
    alike = (found >= least) & (_stands_out(pairs, found, len(single)) | (found >= CERTAIN))
    return np.concatenate([equal, single[pairs[alike]]])


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _without_bars(grey: np.ndarray) -> np.ndarray:
    grey = grey - grey.mean(1, keepdims=True)
    return grey - grey.mean(2, keepdims=True)


def _has_pattern(thumbnails: np.ndarray) -> np.ndarray:
    return np.concatenate([np.empty(0, bool), *(_without_bars(some.astype(np.float32)).std((1, 2)) >= FLAT
                                                for some in _chunks(thumbnails))])  # fmt: skip


def _pattern(thumbnails: np.ndarray) -> np.ndarray:
    """float32 [N, 64, 64]: ranks of the grey levels (0 to 1), band-passed, without row and column means."""
    ranks = stats.rankdata(thumbnails.reshape(len(thumbnails), -1), axis=1).reshape(thumbnails.shape) / SIDE**2
    narrow, wide = (ndimage.gaussian_filter(ranks.astype(np.float32), sigma, axes=(1, 2)) for sigma in BAND)
    return _without_bars(narrow - wide)


def _candidates(patterns: np.ndarray) -> np.ndarray:
    """int64 [M, 2], first < second: each image with those nearest to it, whatever their shift."""
    if len(patterns) < 2:
        return np.empty((0, 2), np.int64)
    window = np.sqrt(np.outer(np.hanning(SIDE + 2)[1:-1], np.hanning(SIDE + 2)[1:-1])).astype(np.float32)
    rows = np.r_[:WAVES, 1 - WAVES : 0]
    sizes = [np.abs(fft.rfft2(some * window))[:, rows, :WAVES].reshape(len(some), -1) for some in _chunks(patterns)]
    spectra = np.concatenate(sizes)
    spectra = np.log(spectra + 1e-3 * spectra.mean())
    spectra = (spectra - spectra.mean(0)) / (spectra.std(0) + 1e-6)
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + 1e-6
    count = min(CANDIDATES, len(patterns) - 1)
    pairs = []
    for start in range(0, len(spectra), CHUNK):
        closeness = spectra[start : start + CHUNK] @ spectra.T
        own = np.arange(start, start + len(closeness))
        closeness[np.arange(len(closeness)), own] = -np.inf
        nearest = np.argpartition(-closeness, count - 1, axis=1)[:, :count]
        pairs.append(np.stack([np.repeat(own, count), nearest.ravel()], 1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _correlation(first: np.ndarray, second: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Largest correlation [N] of the middle of `first` with windows of `second`, over all shifts of up to `SHIFT` pixels.

    Args:
        spread: of `second`, see `_spread`.
    """
    middle = first[:, SHIFT:-SHIFT, SHIFT:-SHIFT]
    middle = middle - middle.mean((1, 2), keepdims=True)
    spectrum = np.conj(fft.rfft2(middle, (SIDE, SIDE))) * fft.rfft2(second)
    steps = spread.shape[1]
    products = fft.irfft(fft.ifft(spectrum, axis=1)[:, :steps], SIDE, axis=2)[:, :, :steps]
    length = np.linalg.norm(middle, axis=(1, 2))[:, None, None]
    return (products / np.maximum(spread * length, 1e-6)).max((1, 2))


def _spread(patterns: np.ndarray) -> np.ndarray:
    """Root of the sum of squares about the mean of each window of 56 x 56 pixels, [N, 9, 9]."""
    side, steps = SIDE - 2 * SHIFT, 2 * SHIFT + 1
    low, high = slice(0, steps), slice(side, side + steps)

    def sums(values: np.ndarray) -> np.ndarray:
        total = np.pad(values.astype(np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
        return total[:, high, high] - total[:, low, high] - total[:, high, low] + total[:, low, low]

    return np.sqrt(np.maximum(sums(patterns**2) - sums(patterns) ** 2 / side**2, 0)).astype(np.float32)


def _stands_out(pairs: np.ndarray, found: np.ndarray, count: int) -> np.ndarray:
    """Whether each pair agrees much better than one of the two agrees with its `NEIGHBOUR`th best candidate."""
    ends, values = pairs.T.ravel(), np.tile(found, 2)
    order = np.lexsort((-values, ends))
    starts = np.searchsorted(ends[order], np.arange(count))
    enough = np.bincount(ends, minlength=count) >= NEIGHBOUR
    usual = np.full(count, -1.0)
    usual[enough] = values[order][starts[enough] + NEIGHBOUR - 1]
    return 1 - found <= MARGIN * (1 - usual[pairs].min(1))
