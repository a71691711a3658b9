"""What a run was prepared from is known by its content: not by name, size or time."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from PIL import Image

from synthimg.data import content, decoding, prepared
from synthimg.diffusion import base
from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.prepare import prepare_dataset


def painted(seed):
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize((32, 32))


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    painted(seed).save(path)  # BMP: every picture of 32 x 32 has the same number of bytes
    return path


@pytest.fixture
def folder(tmp_path):
    for number in range(24):
        write(tmp_path / "d" / ("rare" if number < 8 else "common") / f"{number:02}.bmp", number)
        mask = tmp_path / "d" / "masks" / f"{number:02}.bmp"
        mask.parent.mkdir(exist_ok=True)
        Image.new("L", (32, 32), 255).save(mask)
    rows = [{"file_name": f"{'rare' if n < 8 else 'common'}/{n:02}.bmp", "stem": f"{n:02}",
             "label": "rare" if n < 8 else "common"} for n in range(24)]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "d" / "metadata.csv", index=False)
    return tmp_path / "d"


def settings(folder, name="run", **changes):
    dataset = {"path": str(folder), "rare_class": "rare", "prompts": "generic", "mask": "masks/{stem}.bmp",
               "consent": {"licence": "CC0", "scope": ["research"]}, **changes}  # fmt: skip
    return parse({"name": name, "outputs": str(folder.parent / "out"), "resolution": 32, "folds": 1, "dataset": dataset})


def with_times_of(path, change):
    """Change a file and set its time back, as `cp --preserve` and archives do."""
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("name", ["rare/03.bmp", "masks/03.bmp"])
def test_a_picture_or_mask_replaced_under_the_same_name_size_and_time_is_refused_by_name(folder, name):
    run = settings(folder)
    prepare_dataset(run)
    file = folder / name
    fresh = painted(99) if name.startswith("rare") else Image.new("L", (32, 32), 128)
    with_times_of(file, lambda: fresh.save(file))
    with pytest.raises(UserError, match=f"1 of 48 pictures and masks have changed.*{name}.*name=run-2"):
        prepare_dataset(run)
    other = settings(folder, "run-2")
    prepare_dataset(other)  # takes nothing over from the first run's work
    frame, pixels, _ = prepared.load(other)
    row = list(frame["path"]).index("rare/03.bmp")
    assert (pixels[row] == np.asarray(Image.open(folder / "rare/03.bmp").convert("RGB"))).all()


def test_files_that_were_only_touched_or_copied_are_the_same(folder, monkeypatch):
    run = settings(folder)
    out = prepare_dataset(run)
    read = []
    monkeypatch.setattr(content, "digest", lambda path, real=content.digest: read.append(path.name) or real(path))
    assert prepare_dataset(run) == out and read == []
    (folder / "rare" / "01.bmp").touch()
    assert prepare_dataset(run) == out and read == ["01.bmp"]
    moved = folder.with_name("moved")
    shutil.copytree(folder, moved)
    shutil.rmtree(folder)
    shutil.copytree(moved, folder)
    assert prepare_dataset(run) == out


def test_a_picture_replaced_while_a_killed_stage_waits_is_read_again(folder, monkeypatch):
    monkeypatch.setattr(decoding, "PART", 6)
    calls = []

    def dying(*arguments, real=decoding._write_part):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(real(*arguments))

    run = settings(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(decoding, "_write_part", dying)
        prepare_dataset(run)
    file = folder / "common" / "09.bmp"  # in the first part
    with_times_of(file, lambda: painted(77).save(file))
    prepare_dataset(run)
    frame, pixels, _ = prepared.load(run)
    row = list(frame["path"]).index("common/09.bmp")
    assert (pixels[row] == np.asarray(painted(77))).all() and frame["digest"][row] == content.digest(file)


def test_a_picture_that_could_not_be_read_and_now_can_is_a_change(folder):
    file = folder / "common" / "20.bmp"
    whole = file.read_bytes()
    file.write_bytes(b"x" * len(whole))
    run = settings(folder)
    prepare_dataset(run)
    assert prepare_dataset(run)
    file.write_bytes(whole)
    with pytest.raises(UserError, match=r"common/20\.bmp"):
        prepare_dataset(run)


def test_weights_replaced_in_a_linked_folder_make_another_base(tmp_path):
    real, place = tmp_path / "elsewhere", tmp_path / "base"
    for name in (real, place):
        name.mkdir()
    (place / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (real / "weights.safetensors").write_bytes(b"one")
    (place / "unet").symlink_to(real)
    before = base.digest(str(place))
    with_times_of(real / "weights.safetensors", lambda: (real / "weights.safetensors").write_bytes(b"two"))
    assert base.digest(str(place)) != before
    (real / "loop").symlink_to(place)  # a link that leads back ends
    assert base.digest(str(place))


@settings_of_hypothesis(max_examples=20)
@given(old=st.binary(max_size=40), new=st.binary(max_size=40))
def test_a_file_has_changed_exactly_when_its_bytes_have(tmp_path_factory, old, new):
    root = tmp_path_factory.mktemp("files")
    (root / "a").write_bytes(old)
    seen = content.states(root, ["a", "gone"])[:, None]
    recorded = content.table(
        pd.DataFrame({"path": ["a", "gone"], "mask": ""}), np.array([[content.digest(root / "a"), ""], ["", ""]]),
        np.concatenate([seen, np.full_like(seen, -1)], 1),
    )  # fmt: skip
    (root / "a").write_bytes(new)
    assert content.changed(root, recorded) == (["a"] if old != new else [])


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert content.digest(tmp_path / "pipe") == "" and content.digest(tmp_path) == ""
