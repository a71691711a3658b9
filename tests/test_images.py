import numpy as np
import pytest
from PIL import Image

from synthimg.data import conditions, duplicates, images


def read(path):
    return np.asarray(images.read(path))


def test_sixteen_bit_grey_is_divided_by_257_and_twelve_bit_by_16(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100], [65535, 257 * 200]], np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.array([[0, 1600], [4095, 3200]], np.uint16)).save(tmp_path / "twelve.tif")
    assert read(tmp_path / "deep.png")[..., 0].tolist() == [[0, 100], [255, 200]]
    assert read(tmp_path / "twelve.tif")[..., 0].tolist() == [[0, 100], [255, 199]]


def test_every_mode_becomes_rgb(tmp_path):
    red = Image.new("RGB", (8, 6), (255, 0, 0))
    red.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    red.convert("P").save(tmp_path / "palette.png")
    red.save(tmp_path / "plain.png")
    Image.new("1", (8, 6), 1).save(tmp_path / "bit.png")
    Image.new("L", (8, 6), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (8, 6), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    for name, wanted in {"cmyk.jpg": (254, 0, 0), "palette.png": (255, 0, 0), "plain.png": (255, 0, 0),
                         "bit.png": (255, 255, 255), "grey.png": (77, 77, 77), "clear.png": (255, 255, 255)
    }.items():  # fmt: skip
        pixels = read(tmp_path / name)
        assert pixels.shape == (6, 8, 3) and pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - wanted).max() <= 3, name


def test_floats_and_unusual_ranges():
    assert images.grey8(np.array([[0.0, 0.5, 1.0]])).tolist() == [[0, 128, 255]]
    assert images.grey8(np.array([[-100, 0, 100]], np.int32)).tolist() == [[0, 128, 255]]


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert images.read(tmp_path / "turned.jpg").size == (10, 20)


@pytest.mark.parametrize("name", ["text.jpg", "short.png", "absent.png", "empty.png", "bomb.png"])
def test_what_cannot_be_read_says_why(tmp_path, name, monkeypatch):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "text.jpg").write_text("this is no image")
    (tmp_path / "short.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    (tmp_path / "empty.png").touch()
    Image.new("1", (3000, 3000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1_000_000)
    with pytest.raises(images.UnreadableError, match=r"\w"):
        images.read(tmp_path / name)


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
def test_fit(how):
    values = np.zeros((40, 80, 3), np.uint8)
    values[:, 20:60] = 200
    square = images.square(Image.fromarray(values), 32, how)
    assert square.shape == (32, 32, 3)
    assert (square[16, 1, 0] > 150) == (how == "crop")
    assert (square[1, 16, 0] < 50) == (how == "pad")


def test_masks(tmp_path):
    shape = np.zeros((10, 20), np.uint8)
    shape[2:8, 5:15] = 1
    palette = Image.fromarray(shape, "L").convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white here: the index alone would mislead
    palette.save(tmp_path / "palette.png")
    Image.fromarray(shape).save(tmp_path / "ones.png")
    Image.fromarray(shape * 255).save(tmp_path / "noisy.jpg", quality=40)
    ones = images.read_mask(tmp_path / "ones.png", 20, "stretch", (20, 10))
    assert set(np.unique(ones)) == {0, 255} and (ones > 0).mean() == pytest.approx(shape.mean())
    assert ((images.read_mask(tmp_path / "palette.png", 20, "stretch", (20, 10)) == 0) == (ones > 0)).all()
    assert ((images.read_mask(tmp_path / "noisy.jpg", 20, "stretch", (20, 10)) > 0) == (ones > 0)).mean() > 0.95
    with pytest.raises(images.UnreadableError, match="mask of 20 x 10"):
        images.read_mask(tmp_path / "ones.png", 20, "stretch", (10, 20))


def texture(seed):
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8))
    return noise.resize((128, 128), Image.Resampling.BICUBIC)


def pairs(pictures, bits):
    prints = [duplicates.fingerprint(picture.convert("RGB")) for picture in pictures]
    hashes, thumbnails = np.array([p.hash for p in prints], np.uint64), np.array([p.thumbnail for p in prints])
    return duplicates.near(hashes, thumbnails, bits).tolist()


def test_near_duplicates_survive_scaling_and_darkening_and_differ_from_others():
    first = texture(1)
    dark = first.point(lambda value: value * 0.7)
    assert pairs([first, texture(2), first.resize((90, 90)), dark, texture(3)], 4) == [[0, 2], [0, 3], [2, 3]]
    blank = Image.new("L", (50, 50), 100)
    assert pairs([blank, Image.new("L", (50, 50), 180), blank], 2) == [[0, 2]]


def test_colliding_hashes_alone_do_not_join():
    thumbnails = np.stack([np.asarray(texture(seed).resize((32, 32))) for seed in range(3)])
    assert duplicates.near(np.zeros(3, np.uint64), thumbnails, 2).tolist() == []


def test_near_agrees_with_brute_force_across_chunks(monkeypatch):
    monkeypatch.setattr(duplicates, "CHUNK", 7)
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 16, 40).astype(np.uint64)
    thumbnails = np.repeat(np.asarray(texture(1).resize((32, 32)))[None], 40, 0)
    wanted = [[a, b] for a in range(40) for b in range(a + 1, 40) if (int(hashes[a]) ^ int(hashes[b])).bit_count() <= 1]
    assert sorted(duplicates.near(hashes, thumbnails, 1).tolist()) == wanted


def test_edges_outline_a_square_and_stay_silent_on_a_blank():
    pixels = np.full((64, 64, 3), 40, np.uint8)
    assert not conditions.maps("edges", pixels[None], None, [0]).any()
    pixels[20:44, 20:44] = 200
    drawn = conditions.maps("edges", pixels[None], None, [0])[0, ..., 0] > 0
    assert drawn[18:22, 30].any() and drawn[30, 42:46].any() and not drawn[32, 32] and 60 < drawn.sum() < 200
