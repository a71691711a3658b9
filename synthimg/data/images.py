"""Any picture file to upright RGB, and to a square. A file that cannot be read raises `UnreadableError`."""

from __future__ import annotations

import stat
import struct
import warnings
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .colour import to_rgb, to_srgb
from .content import hashed

MAX_PIXELS = 100_000_000
"""Larger images are set aside: decoded, they would take more than 300 MB."""
MAX_BYTES = 4 * MAX_PIXELS
"""Larger files are set aside before they are read."""
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow knows but does not decode itself: EPS, for one, would start a program of its own."""
PNG = b"\x89PNG\r\n\x1a\n"
PIXELS, METADATA = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}, {b"eXIf", b"iCCP"}
"""The parts of a PNG file that its pixels depend on, and those that change how they are shown."""

Fit = Literal["crop", "pad", "stretch"]
Remark = Literal["several frames", "turned", "no orientation", "no metadata", "no profile"]
"""What is said of a picture that is read: only the first of its frames is used; its EXIF orientation was applied, or is
broken and was not; it has broken or huge metadata, which were left out; it has a colour profile that was not applied."""

# Pillow warns of broken metadata (`no orientation` says so where it matters here) and of sizes (refused by MAX_PIXELS).
# A filter for good and not `catch_warnings`: that one is not safe between threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableError(Exception):
    """This one file cannot be used; the message says why. The job goes on without it."""


class Decoded(NamedTuple):
    """The pixels of a file in the file's own mode, upright."""

    image: Image.Image
    remarks: frozenset[Remark]
    lossy: bool
    """Whether the file's compression changes pixels."""
    digest: str
    """blake2b of the file's bytes, 32 hex digits."""


class Loaded(NamedTuple):
    """A picture as upright RGB in sRGB."""

    image: Image.Image
    digest: str
    """blake2b of the file's bytes, 32 hex digits."""
    remarks: frozenset[Remark]


def read(path: Path) -> Image.Image:
    """The image of `load`."""
    return load(path).image


def load(path: Path) -> Loaded:
    """An image file as upright RGB, read once from the disk.

    EXIF orientation is applied; a colour profile is converted to sRGB; transparency is laid over white; grey, palette,
    CMYK and 1-bit images are converted; deep grey is scaled by `grey8`. Of an animation or a multi-page file, the first
    frame.

    Raises:
        UnreadableError: missing, not an image, truncated, or too large.
    """
    image, remarks, _, digest = decode(path)
    profile = image.info.get("icc_profile")
    try:
        if not profile:
            return Loaded(to_rgb(image), digest, remarks)
        try:
            return Loaded(to_srgb(image, profile), digest, remarks)
        except ValueError:
            return Loaded(to_rgb(image), digest, remarks | {"no profile"})
    except Exception as error:
        raise UnreadableError(f"mode {image.mode} cannot be converted: {_words(error)}") from error


def decode(path: Path) -> Decoded:
    """The first frame of a picture file in its own mode, upright.

    Raises:
        UnreadableError: as `load`.
    """
    data = _read_bytes(path)
    digest = hashed(data).hexdigest()
    try:
        return Decoded(*_decode(data), digest)
    except UnreadableError:
        for needed in (PIXELS | METADATA, PIXELS):  # a huge or broken note in a PNG file does not cost the picture
            bare = _png_of(data, needed)
            with suppress(UnreadableError):
                if bare != data:
                    image, remarks, lossy = _decode(bare)
                    return Decoded(image, remarks | {"no metadata"}, lossy, digest)
        raise


def size(path: Path) -> tuple[int, int]:
    """Width and height of a picture by its header; of one that EXIF turns, as it lies in the file.

    Raises:
        UnreadableError: no file, or no picture.
    """
    try:
        _check_file(path)
        with Image.open(path, formats=formats()) as file:
            if not file.width * file.height:
                raise UnreadableError("no pixels")
            return file.size
    except Exception as error:
        raise UnreadableError(_words(error)) from error


def _check_file(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size > MAX_BYTES:
        raise UnreadableError(f"too large: {status.st_size / 1e6:.0f} MB")


def _read_bytes(path: Path) -> bytes:
    try:
        _check_file(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableError("no such file") from error
    except OSError as error:  # no permission, a loop of links, a name that is too long, a disk that fails
        raise UnreadableError((error.strerror or type(error).__name__).lower()) from error
    except ValueError as error:
        raise UnreadableError("no file has such a name") from error  # a NUL in it


def _decode(data: bytes) -> tuple[Image.Image, frozenset[Remark], bool]:
    remarks: set[Remark] = set()
    try:
        with Image.open(BytesIO(data), formats=formats()) as file:
            if file.width * file.height > MAX_PIXELS:
                raise UnreadableError(f"too large: {file.width} x {file.height} pixels")
            several = _has_several_frames(file)
            file.load()
            if not file.width * file.height:
                raise UnreadableError(f"no pixels: {file.width} x {file.height}")
            if several:
                remarks.add("several frames")
            if _is_turned(file, remarks):
                ImageOps.exif_transpose(file, in_place=True)
                remarks.add("turned")
            # a file of several frames would be read again when it is converted
            return file.copy() if several else file, frozenset(remarks), _is_lossy(file, data)
    except UnreadableError:
        raise
    except PermissionError as error:
        raise UnreadableError("permission denied") from error
    except UnidentifiedImageError as error:
        raise UnreadableError("no picture, or of a format that Pillow does not read" if data else "empty file") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"too large: more than {MAX_PIXELS / 1e6:.0f} million pixels") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them stumble over
        raise UnreadableError(f"not a readable image: {_words(error)}") from error


@cache
def formats() -> list[str]:
    """The formats that are read, by Pillow's names."""
    Image.init()
    return [name for name in Image.ID if name not in NO_PICTURES]


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _has_several_frames(file: Image.Image) -> bool:
    try:
        return bool(getattr(file, "is_animated", False))
    except Exception:  # it looks for the second frame, which may be what is broken
        return True


def _is_turned(file: Image.Image, remarks: set[Remark]) -> bool:
    try:
        exif = file.getexif()
        if exif or not file.info.get("exif"):
            return exif.get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:  # of all metadata only the orientation is used: where it cannot be told, the pixels can
        pass
    remarks.add("no orientation")
    return False


def _is_lossy(file: Image.Image, data: bytes) -> bool:
    return file.format in ("JPEG", "MPO", "JPEG2000", "AVIF") or (file.format == "WEBP" and b"VP8 " in data[:64])


def _png_of(data: bytes, needed: set[bytes]) -> bytes:
    """A PNG file with these parts alone; other files as they are."""
    if not data.startswith(PNG):
        return data
    kept, start = [PNG], len(PNG)
    while start + 8 <= len(data):
        (length,) = struct.unpack(">I", data[start : start + 4])
        end = start + 12 + length
        if data[start + 4 : start + 8] in needed:
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def fit(image: Image.Image, resolution: int, how: Fit, resample: Image.Resampling, fill: str | int) -> np.ndarray:
    """Make an image square, uint8 [resolution, resolution, ...].

    Args:
        how: crop the centre, pad the borders with `fill`, or stretch.
        resample: LANCZOS for photographs (antialiased when shrinking), NEAREST for masks.
    """
    size = (resolution, resolution)
    if how == "crop":
        return np.asarray(ImageOps.fit(image, size, resample))
    if how == "pad":
        shrink = resolution / max(image.size)
        wide, high = (max(1, round(side * shrink)) for side in image.size)  # a line stays one pixel wide
        square = Image.new(image.mode, size, fill)
        square.paste(image.resize((wide, high), resample), (round((resolution - wide) / 2), round((resolution - high) / 2)))
        return np.asarray(square)
    return np.asarray(image.resize(size, resample))


def square(image: Image.Image, resolution: int, how: Fit) -> np.ndarray:
    """A photograph as uint8 [resolution, resolution, 3]; padding is black."""
    return fit(image, resolution, how, Image.Resampling.LANCZOS, "black")
