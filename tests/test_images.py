import numpy as np
import pytest
from PIL import Image

from synthimg.data import colour, conditions, duplicates, images, masks, splits


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
    assert colour.grey8(np.array([[0.0, 0.5, 1.0]])).tolist() == [[0, 128, 255]]
    assert colour.grey8(np.array([[-100, 0, 100]], np.int32)).tolist() == [[0, 128, 255]]


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
    ones = masks.load(tmp_path / "ones.png", (20, 10)).square(20, "stretch")
    assert set(np.unique(ones)) == {0, 255} and (ones > 0).mean() == pytest.approx(shape.mean())
    assert ((masks.load(tmp_path / "palette.png", (20, 10)).square(20, "stretch") == 0) == (ones > 0)).all()
    assert ((masks.load(tmp_path / "noisy.jpg", (20, 10)).square(20, "stretch") > 0) == (ones > 0)).mean() > 0.95
    with pytest.raises(images.UnreadableError, match="mask of 20 x 10"):
        masks.load(tmp_path / "ones.png", (10, 20)).square(20, "stretch")


def texture(seed):
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8))
    return noise.resize((128, 128), Image.Resampling.BICUBIC)


def thumbnails(pictures):
    return np.stack([duplicates.fingerprint(picture.convert("RGB")) for picture in pictures])


def pairs(pictures, least=0.8):
    return sorted(duplicates.near(thumbnails(pictures), least).tolist())


def exposed(picture, gamma, gain, down, right):
    """Another exposure, moved: what comes in at the edges is black."""
    grey = np.roll(np.asarray(picture, float) / 255, (down, right), (0, 1))
    grey[:down], grey[:, :right] = 0, 0
    return Image.fromarray((255 * np.clip(gain * grey**gamma, 0, 1)).astype(np.uint8))


def test_near_duplicates_survive_scaling_and_darkening_and_differ_from_others():
    first = texture(1)
    dark = first.point(lambda value: value * 0.7)
    assert pairs([first, texture(2), first.resize((90, 90)), dark, texture(3)]) == [[0, 2], [0, 3], [2, 3]]
    blank = Image.new("L", (50, 50), 100)
    assert pairs([blank, Image.new("L", (50, 50), 180), blank]) == [[0, 2]]


@pytest.mark.parametrize(
    "change", [(0.6, 1, 0, 0), (1.6, 1, 0, 0), (1, 0.6, 0, 0), (1, 1, 7, 0), (1, 1, 0, 7), (1.4, 0.8, 5, 6)]
)
def test_near_duplicates_survive_another_exposure_and_a_shift(change):
    others = [texture(seed) for seed in range(2, 12)]
    assert pairs([texture(1), *others, exposed(texture(1), *change)]) == [[0, 11]]


def test_a_picture_moved_by_a_quarter_is_another():
    assert pairs([texture(1), exposed(texture(1), 1, 1, 32, 0)]) == []


def test_what_a_whole_kind_shares_makes_no_pair():
    """Twelve parts of one layout, each with a spot of its own; one of them twice, darker."""
    layout = np.asarray(texture(1), float)
    parts = []
    for seed in range(12):
        spot = np.zeros((128, 128))
        y, x = 12 + 36 * (seed % 3), 8 + 28 * (seed // 3)
        spot[y : y + 26, x : x + 26] = 60
        parts.append(Image.fromarray(np.clip(layout * 0.6 + spot, 0, 255).astype(np.uint8)))
    again = parts[4].point(lambda value: value * 0.8)
    prints = thumbnails([*parts, again])
    patterns = duplicates._pattern(prints)
    correlation = duplicates._correlation(patterns[:11], patterns[1:12], duplicates._spread(patterns[1:12]))
    assert (correlation > 0.8).all()  # so correlation alone would have joined them
    assert duplicates.near(prints, 0.8).tolist() == [[4, 12]]


def test_many_pictures_of_one_object_are_all_joined():
    """More of them than an image has candidates: equal ones, and ones that differ a little."""
    assert pairs([texture(1)] * 30) == [[0, other] for other in range(1, 30)]
    series = [exposed(texture(1), gamma, 1, 0, 0) for gamma in np.linspace(0.8, 1.25, 30)]
    found = np.array(pairs([*series, texture(2)]))
    assert len(set(splits.unite([str(number) for number in range(31)], found))) == 2


def test_correlation_is_that_of_numpy_at_the_best_shift():
    one, other = (np.random.default_rng(seed).normal(size=(1, 64, 64)).astype(np.float32) for seed in (0, 1))
    other[0, 7:63, 2:58] += one[0, 4:60, 4:60]
    windows = [np.corrcoef(one[0, 4:60, 4:60].ravel(), other[0, y : y + 56, x : x + 56].ravel())[0, 1]
               for y in range(9) for x in range(9)]  # fmt: skip
    assert duplicates._correlation(one, other, duplicates._spread(other))[0] == pytest.approx(max(windows), abs=1e-4)
    assert max(windows) == windows[7 * 9 + 2] > 0.6


def test_near_does_not_depend_on_chunks(monkeypatch):
    pictures = [exposed(texture(seed % 5), 1 + seed / 20, 1, 0, 0) for seed in range(20)]
    whole = pairs(pictures)
    monkeypatch.setattr(duplicates, "CHUNK", 7)
    assert pairs(pictures) == whole
    assert len(set(splits.unite([str(number) for number in range(20)], np.array(whole)))) == 5


def test_no_image_or_one_has_no_pair():
    assert duplicates.near(np.empty((0, 64, 64), np.uint8), 0.8).shape == (0, 2)
    assert pairs([texture(1)]) == []


def test_edges_outline_a_square_and_stay_silent_on_a_blank():
    pixels = np.full((64, 64, 3), 40, np.uint8)
    assert not conditions.maps("edges", pixels[None], None, [0]).any()
    pixels[20:44, 20:44] = 200
    drawn = conditions.maps("edges", pixels[None], None, [0])[0, ..., 0] > 0
    assert drawn[18:22, 30].any() and drawn[30, 42:46].any() and not drawn[32, 32] and 60 < drawn.sum() < 200
