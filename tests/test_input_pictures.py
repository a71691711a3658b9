"""Every kind of picture file is read as it is, or said not to be: by one error that names the reason."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from synthimg.data import colour, images, inspection

Image.init()
FOREIGN = {"EPS", "PDF", "WMF", "HDF5", "BUFR", "GRIB"}
FORMATS = sorted((set(Image.SAVE) & set(Image.OPEN)) - FOREIGN)


def noise(side: int = 24, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def encoded(name: str) -> bytes:
    """A small picture of some format, in the first mode that the format takes."""
    for mode in ("RGB", "L", "P", "1", "F"):
        file = BytesIO()
        try:
            noise(48).convert(mode).save(file, name)
        except (OSError, ValueError, KeyError):
            continue
        return file.getvalue()
    raise AssertionError(f"nothing can be saved as {name}")


def put(folder: Path, data: bytes, name: str = "x.png") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, added: bytes) -> bytes:
    """A PNG file with one more part behind its header."""
    return png[:33] + added + png[33:]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_under_a_foreign_suffix(name: str, tmp_path: Path) -> None:
    found = images.load(put(tmp_path, encoded(name), "x.dat"))
    assert found.image.mode == "RGB" and min(found.image.size) > 0 and len(found.digest) == 32


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_file_of_any_format_is_an_error_or_a_picture_and_never_a_traceback(name: str, tmp_path: Path) -> None:
    whole = encoded(name)
    random = np.random.default_rng(0)
    broken = [whole[:length] for length in {0, 1, 8, 20, len(whole) // 4, len(whole) // 2, len(whole) - 3}]
    for start in (0, 16, len(whole) // 2):
        dirty = bytearray(whole)
        dirty[start : start + 64] = random.bytes(len(dirty[start : start + 64]))
        broken += [bytes(dirty), whole[:start] + bytes(64) + whole[start + 64 :]]
    refused = 0
    for data in broken:
        try:
            assert images.read(put(tmp_path, data)).mode == "RGB"
        except images.UnreadableError as error:
            assert "object at 0x" not in str(error) and str(error)
            refused += 1
    assert refused >= 3  # at least what is empty, one byte or eight bytes long


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", images.PNG, b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"BM", b"RIFF"]))
def test_random_bytes_are_no_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = put(tmp_path_factory.getbasetemp(), start + data)
    with suppress(images.UnreadableError):
        images.read(path)


@pytest.mark.parametrize("suffix", [".eps", ".png"])
def test_a_page_of_postscript_starts_no_program(suffix: str, tmp_path: Path) -> None:
    file = BytesIO()
    noise().save(file, "EPS")
    with pytest.raises(images.UnreadableError, match="no picture"):
        images.read(put(tmp_path, file.getvalue(), f"x{suffix}"))


def test_a_picture_that_claims_to_be_huge_is_refused_by_its_header(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    data = images.PNG + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    with pytest.raises(images.UnreadableError, match="too large"):
        images.read(put(tmp_path, data))
    bitmap = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 11_000, 10_000, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(images.UnreadableError, match="11000 x 10000"):
        images.read(put(tmp_path, bitmap, "x.bmp"))


def test_a_file_too_long_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    with path.open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(images.UnreadableError, match="too large: 400 MB"):
        images.read(path)


def test_what_is_no_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    wanted = {"folder": "a folder", "pipe": "not a regular file", "device": "not a regular file", "gone": "no such file",
              "loop": "symbolic links", "not\0there": "name"}  # fmt: skip
    for name, reason in wanted.items():
        with pytest.raises(images.UnreadableError, match=reason):
            images.read(tmp_path / f"{name}.png")
    with pytest.raises(images.UnreadableError, match="too long"):
        images.read(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_file_without_permission_is_said_to_be_so(tmp_path: Path) -> None:
    path = put(tmp_path, encoded("PNG"))
    path.chmod(0)
    code = f"""import os; from pathlib import Path; from synthimg.data import images
for folder in (Path({str(tmp_path)!r}), *Path({str(tmp_path)!r}).parents[:3]): folder.chmod(0o755)
os.setuid(65534)
try: images.read(Path({str(path)!r}))
except images.UnreadableError as error: print(error)"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "permission denied"


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "broken"])
def test_notes_in_a_png_file_do_not_cost_the_picture(kind: str, tmp_path: Path) -> None:
    text = zlib.compress(bytes(2_000_000))
    added = {"zTXt": chunk(b"zTXt", b"note\0\0" + text), "iTXt": chunk(b"iTXt", b"note\0\1\0\0\0" + text),
             "broken": chunk(b"tEXt", b"note\0words")[:-1] + b"?"}[kind]  # fmt: skip
    found = images.load(put(tmp_path, with_chunk(encoded("PNG"), added)))
    assert found.remarks == {"no metadata"} and (np.asarray(found.image) == np.asarray(noise(48))).all()


def test_orientation_and_profile_outlive_huge_notes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "a.png", exif=exif, icc_profile=swapped())
    notes = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(2_000_000)))
    found = images.load(put(tmp_path, with_chunk((tmp_path / "a.png").read_bytes(), notes)))
    assert found.remarks == {"no metadata", "turned"} and found.image.size == (10, 20)
    assert np.asarray(found.image)[5, 5, 1] > 250


def test_a_png_file_with_huge_notes_and_broken_pixels_is_still_broken(tmp_path: Path) -> None:
    whole = with_chunk(encoded("PNG"), chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(2_000_000))))
    with pytest.raises(images.UnreadableError):
        images.read(put(tmp_path, whole[:-900]))


def test_of_several_frames_the_first_is_read_and_that_is_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), one) for one in ("red", "blue", "lime")]
    for name in ("gif", "tif", "webp", "png"):
        more: dict[str, Any] = {"lossless": True} if name == "webp" else {}
        frames[0].save(tmp_path / f"x.{name}", save_all=True, append_images=frames[1:], **more)
        found = images.load(tmp_path / f"x.{name}")
        assert found.remarks == {"several frames"} and found.image.getpixel((8, 8)) == (255, 0, 0), name
    frames[0].save(tmp_path / "one.gif")
    assert not images.load(tmp_path / "one.gif").remarks


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = encoded("PNG")
    one, same = (images.load(put(tmp_path, data, name)).digest for name in ("a.png", "b.png"))
    other = images.load(put(tmp_path, with_chunk(data, chunk(b"tEXt", b"a\0b")), "c.png")).digest
    assert one == same != other


# ---- colours


def swapped() -> bytes:
    """A profile of RGB colours whose red and green primaries are swapped: what is read as red is green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {profile[at : at + 4]: at for at in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12)}
    data = bytearray(profile)
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = profile[green + 4 : green + 12], profile[red + 4 : red + 12]
    return bytes(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_colour_profile_is_converted_to_srgb(mode: str, suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode).save(tmp_path / f"x.{suffix}", icc_profile=swapped())
    found = images.load(tmp_path / f"x.{suffix}")
    assert np.abs(np.asarray(found.image).astype(int) - (0, 255, 0)).max() <= 3 and not found.remarks


def test_the_profile_of_srgb_changes_no_pixel(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise().save(tmp_path / "x.png", icc_profile=profile)
    assert (np.asarray(images.read(tmp_path / "x.png")) == np.asarray(noise())).all()


@pytest.mark.parametrize("profile", [b"no profile at all", swapped()[:200], swapped()], ids=["text", "short", "of RGB"])
def test_a_profile_that_does_not_fit_is_ignored_and_said(profile: bytes, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 90).save(tmp_path / "x.png", icc_profile=profile)
    found = images.load(tmp_path / "x.png")
    assert found.remarks == {"no profile"} and found.image.getpixel((0, 0)) == (90, 90, 90)


def test_inks_are_read_as_adobe_writes_them_inverted(tmp_path: Path) -> None:
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    inks.save(tmp_path / "adobe.jpg", quality=95)
    data = (tmp_path / "adobe.jpg").read_bytes()
    assert b"Adobe" in data  # Pillow writes them inverted, with the mark that says so
    inks.save(tmp_path / "x.tif")
    for name in ("adobe.jpg", "x.tif"):
        assert np.abs(np.asarray(images.read(tmp_path / name)).astype(int) - (255, 0, 0)).max() <= 4, name


def test_every_mode_of_pillow_becomes_rgb() -> None:
    grey, red = Image.new("L", (4, 4), 200), Image.new("RGB", (4, 4), (200, 0, 0))
    half = Image.new("LA", (4, 4), (100, 128))
    assert colour.to_rgb(half).getpixel((0, 0)) == (177, 177, 177)  # 100 * 128/255 + 255 * 127/255
    assert colour.to_rgb(half.convert("La")).getpixel((0, 0)) == pytest.approx((177,) * 3, abs=1)
    assert colour.to_rgb(Image.new("RGBA", (4, 4), (200, 0, 0, 0)).convert("RGBa")).getpixel((0, 0)) == (255, 255, 255)
    for mode in ("1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "F", "I", "I;16"):
        for image in (grey, red) if mode not in ("F", "I", "I;16") else (grey,):
            assert colour.to_rgb(image.convert(mode)).mode == "RGB", mode
    lab = ImageCms.applyTransform(red, ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"))  # fmt: skip
    assert lab is not None and colour.to_rgb(lab).getpixel((0, 0)) == pytest.approx((200, 0, 0), abs=9)


def test_sixteen_bits_a_channel_and_floats_keep_their_brightness(tmp_path: Path) -> None:
    row = struct.pack(">12H", *[257 * value for value in (200, 100, 50)] * 4)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 16, 2, 0, 0, 0))
    png = images.PNG + header + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    assert images.read(put(tmp_path, png)).getpixel((2, 0)) == (200, 100, 50)
    Image.fromarray(np.array([[0, 0.5, 1, np.nan, np.inf]], np.float32)).save(tmp_path / "x.tif")
    assert np.asarray(images.read(tmp_path / "x.tif"))[0, :, 0].tolist() == [0, 128, 255, 0, 0]


# ---- orientation and size


def test_a_broken_orientation_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    for orientation in (0, 9, 77):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (20, 10)).save(tmp_path / "x.jpg", exif=exif)
        assert images.load(tmp_path / "x.jpg").image.size == (20, 10)
    for broken in (b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(9), b"junk"):
        Image.new("RGB", (20, 10)).save(tmp_path / "x.jpg", exif=b"Exif\0\0" + broken)
        found = images.load(tmp_path / "x.jpg")
        assert found.image.size == (20, 10) and "turned" not in found.remarks, broken
    assert found.remarks == {"no orientation"}
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "x.jpg", exif=exif)
    assert images.load(tmp_path / "x.jpg").remarks == {"turned"}


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2)])
def test_the_smallest_and_the_thinnest_become_square(how: images.Fit, size: tuple[int, int]) -> None:
    squared = images.square(Image.new("RGB", size, (9, 9, 9)), 32, how)
    assert squared.shape == (32, 32, 3) and squared.max() == 9  # a line does not vanish


def test_tiny_and_thin_originals_are_said_with_their_number() -> None:
    frame = pd.DataFrame({
        "path": list("abcd"), "remarks": ["", "several frames,turned", "no profile", "several frames"],
        "width": [31, 32, 900, 128], "height": [200, 32, 100, 128],
    })  # fmt: skip
    found = {one.kind: one for one in inspection.suspect_pictures(frame, 128)}
    assert set(found) == {"several frames", "no profile", "tiny originals", "extreme proportions"}
    assert found["tiny originals"].text.startswith("1 of 4 pictures") and "a with 31 x 200" in found["tiny originals"].text
    assert "c with 900 x 100" in found["extreme proportions"].text and found["several frames"].text.startswith("2 files")
    assert [found[kind].severity for kind in ("several frames", "tiny originals")] == ["note", "warning"]


def test_the_notes_of_a_picture_do_not_depend_on_what_others_warn_of(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("words", "harmless")
    noise().save(tmp_path / "x.png", pnginfo=info)
    assert not images.load(tmp_path / "x.png").remarks
