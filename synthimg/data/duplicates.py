"""Near duplicates: images of the same thing, under another exposure, a little shifted or out of focus as well.

Images of one kind of part (plain solar cells, say) share their layout, and a thumbnail or a perceptual hash sees little
else. What is compared here is the pattern of a small picture: grey levels become ranks, which no exposure or gamma
changes; a band-pass takes light and noise away; row and column means, which answer to straight bars, are removed.

Each image's candidates are those nearest in the size of the pattern's Fourier coefficients, which a shift leaves as they
are. A candidate is confirmed by the correlation at the best shift of up to 6 % of the side. It also has to stand out:
where many images agree as well, it is their kind that they share. Measured on ELPV: docs/experiments/index.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from PIL import Image
from scipy import fft, ndimage
from tqdm import tqdm

from ..core.files import rows_of
from .content import hashed

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
BLOCK = 64
"""Columns of which only the largest value is looked at first."""
TABLE = 2**24
"""Numbers in the largest table of closeness that is held at once."""
TOLD = 5000
"""From so many images or pairs on, progress is shown."""
ROWS = np.r_[:WAVES, 1 - WAVES : 0]
WINDOW = np.sqrt(np.outer(np.hanning(SIDE + 2)[1:-1], np.hanning(SIDE + 2)[1:-1])).astype(np.float32)


def fingerprint(image: Image.Image) -> np.ndarray:
    """Thumbnail of the whole image, before any crop: uint8 [64, 64] grey."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def near(thumbnails: np.ndarray, least: float) -> np.ndarray:
    """Pairs of images that show the same thing. Time grows with N squared (a matrix product), memory with N: about 10 KiB
    for each image.

    Args:
        thumbnails: uint8 [N, 64, 64]; may be a memory map.
        least: correlation that a pair needs; equal thumbnails are always a pair.

    Returns:
        int64 [M, 2], each pair once, first < second. Of n equal thumbnails the first is paired with each of the others.
    """
    looks = (rows_of(thumbnails, some) for some in _slices(len(thumbnails), CHUNK, "equal ones"))
    member, _ = pd.factorize(np.array([hashed(one.tobytes()).hexdigest() for chunk in looks for one in chunk], object))
    first = np.unique(member, return_index=True)[1]
    leader = first[member]
    repeated = np.flatnonzero(leader != np.arange(len(leader)))
    equal = np.stack([leader[repeated], repeated], 1)

    single = first[_has_pattern(thumbnails, first)]
    pairs = _candidates(_spectra(thumbnails, single))
    patterns = _patterns(thumbnails, single)  # made twice rather than held beside the spectra
    spread = np.concatenate([np.empty((0, *2 * [2 * SHIFT + 1]), np.float32), *map(_spread, _chunks(patterns))])
    found = np.empty(len(pairs), np.float32)
    for some in _slices(len(pairs), CHUNK, "pairs compared"):
        one, other = pairs[some].T
        found[some] = _correlation(patterns[one], patterns[other], spread[other])
    alike = (found >= least) & (_stands_out(pairs, found, len(single)) | (found >= CERTAIN))
    return np.concatenate([equal, single[pairs[alike]]])


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _slices(count: int, size: int, what: str) -> Iterator[slice]:
    """Rows in chunks of this size; shows progress where it takes long."""
    with tqdm(total=count, desc=f"near duplicates, {what}", unit="", disable=count < TOLD) as bar:
        for start in range(0, count, size):
            yield slice(start, start + size)
            bar.update(min(size, count - start))


def _without_bars(grey: np.ndarray) -> np.ndarray:
    grey = grey - grey.mean(1, keepdims=True)
    return grey - grey.mean(2, keepdims=True)


def _has_pattern(thumbnails: np.ndarray, rows: np.ndarray) -> np.ndarray:
    left = (_without_bars(rows_of(thumbnails, some).astype(np.float32)) for some in _chunks(rows))
    return np.concatenate([np.empty(0, bool), *(some.std((1, 2)) >= FLAT for some in left)])


def _patterns(thumbnails: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The pattern of each row, int16 [M, 64, 64] of a scale of its own.

    Two bytes hold a pattern as well as four: correlations change by less than 1e-7.
    """
    patterns = np.empty((len(rows), SIDE, SIDE), np.int16)
    for some in _slices(len(rows), CHUNK, "patterns"):
        exact = _pattern(rows_of(thumbnails, rows[some]))
        patterns[some] = np.rint(32767 * exact / np.maximum(np.abs(exact).max((1, 2), keepdims=True), 1e-12))
    return patterns


def _spectra(thumbnails: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The sizes of the waves in the pattern of each row, float32 [M, 276]."""
    spectra = np.empty((len(rows), len(ROWS) * WAVES), np.float32)
    for some in _slices(len(rows), CHUNK, "waves"):
        exact = _pattern(rows_of(thumbnails, rows[some]))
        spectra[some] = np.abs(fft.rfft2(exact * WINDOW))[:, ROWS, :WAVES].reshape(len(exact), -1)
    return spectra


def _pattern(thumbnails: np.ndarray) -> np.ndarray:
    """float32 [N, 64, 64]: ranks of the grey levels (0 to 1), band-passed, without row and column means."""
    ranks = _ranks(thumbnails.reshape(len(thumbnails), -1)).reshape(thumbnails.shape) / SIDE**2
    narrow, wide = (ndimage.gaussian_filter(ranks.astype(np.float32), sigma, axes=(1, 2)) for sigma in BAND)
    return _without_bars(narrow - wide)


def _ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value in its row, equal ones sharing their mean: float64 of uint8 [N, M]. Counting is faster than
    sorting.
    """
    rows = np.arange(len(values))[:, None]
    counts = np.bincount((values + 256 * rows).ravel(), minlength=256 * len(values)).reshape(-1, 256)
    return (counts.cumsum(1) - (counts - 1) / 2)[rows, values]


def _candidates(spectra: np.ndarray) -> np.ndarray:
    """int64 [M, 2], first < second: each image with those nearest to it, whatever their shift.

    Args:
        spectra: float32 [N, D] from `_spectra`; overwritten.
    """
    if len(spectra) < 2:
        return np.empty((0, 2), np.int64)
    np.log(np.add(spectra, 1e-3 * spectra.mean(), out=spectra), out=spectra)
    spectra -= spectra.mean(0)
    spectra /= spectra.std(0) + 1e-6
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True) + 1e-6
    count = min(CANDIDATES, len(spectra) - 1)
    pairs = []
    for some in _slices(len(spectra), max(1, TABLE // len(spectra)), "candidates"):
        closeness = spectra[some] @ spectra.T
        own = np.arange(some.start, some.start + len(closeness))
        closeness[np.arange(len(closeness)), own] = -np.inf
        pairs.append(np.stack([np.repeat(own, count), _largest(closeness, count).ravel()], 1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Columns [N, count] of the largest values of each row [N, M], in any order.

    They lie in those blocks of columns that have the largest maxima, so most columns are looked at once only.
    """
    rows, whole = values.shape[0], values.shape[1] // BLOCK
    if whole <= 2 * count:
        return np.argpartition(-values, count - 1, axis=1)[:, :count]
    blocks = values[:, : whole * BLOCK].reshape(rows, whole, BLOCK).max(2)
    best = np.argpartition(-blocks, count - 1, axis=1)[:, :count]
    columns = (best[:, :, None] * BLOCK + np.arange(BLOCK)).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(whole * BLOCK, values.shape[1]), (rows, values.shape[1] - whole * BLOCK))
    columns = np.concatenate([columns, rest], 1)
    held = np.take_along_axis(values, columns, 1)
    return np.take_along_axis(columns, np.argpartition(-held, count - 1, axis=1)[:, :count], 1)


def _correlation(first: np.ndarray, second: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Largest correlation [N] of the middle of `first` with windows of `second`, over all shifts of up to `SHIFT` pixels.

    Args:
        spread: of `second`, see `_spread`.
    """
    middle = first[:, SHIFT:-SHIFT, SHIFT:-SHIFT].astype(np.float32)
    middle -= middle.mean((1, 2), keepdims=True)
    spectrum = np.conj(fft.rfft2(middle, (SIDE, SIDE))) * fft.rfft2(second.astype(np.float32))
    steps = spread.shape[1]
    products = fft.irfft(fft.ifft(spectrum, axis=1)[:, :steps], SIDE, axis=2)[:, :, :steps]
    length = np.linalg.norm(middle, axis=(1, 2))[:, None, None]
    return (products / np.maximum(spread * length, 1e-6)).max((1, 2))


def _spread(patterns: np.ndarray) -> np.ndarray:
    """Root of the sum of squares about the mean of each window of 56 x 56 pixels, [N, 9, 9]."""
    side, steps = SIDE - 2 * SHIFT, 2 * SHIFT + 1
    low, high = slice(0, steps), slice(side, side + steps)

    def sums(values: np.ndarray) -> np.ndarray:
        total = np.pad(values, ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
        return total[:, high, high] - total[:, low, high] - total[:, high, low] + total[:, low, low]

    exact = patterns.astype(np.float64)
    return np.sqrt(np.maximum(sums(exact**2) - sums(exact) ** 2 / side**2, 0)).astype(np.float32)


def _stands_out(pairs: np.ndarray, found: np.ndarray, count: int) -> np.ndarray:
    """Whether each pair agrees much better than one of the two agrees with its `NEIGHBOUR`th best candidate."""
    ends, values = pairs.T.ravel(), np.tile(found, 2)
    order = np.lexsort((-values, ends))
    starts = np.searchsorted(ends[order], np.arange(count))
    enough = np.bincount(ends, minlength=count) >= NEIGHBOUR
    usual = np.full(count, -1.0)
    usual[enough] = values[order][starts[enough] + NEIGHBOUR - 1]
    return 1 - found <= MARGIN * (1 - usual[pairs].min(1))
