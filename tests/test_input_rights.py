"""Files that this user may not read or write, and two programs at one run: errors that name the file, one result."""

import multiprocessing
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthimg import cli, pipeline
from synthimg.attributes import captions
from synthimg.errors import UserError
from synthimg.reading import parse

prepare_dataset = pipeline.STAGES["prepare"]
"".encode("utf-8-sig")  # what is imported late has to be read before: the interpreter may be this user's alone

NOBODY = 65534


@contextmanager
def not_root():
    """As a user for whom the rights of files count, which they do not for root."""
    if os.geteuid():
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def place():
    """A folder that anybody may enter, unlike pytest's own, with a data set that anybody may read and a folder `out`."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        root = Path(made)
        root.chmod(0o755)
        for number in range(24):
            file = root / "d" / ("rare" if number < 8 else "common") / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            small = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(small).resize((32, 32)).save(file)
        (root / "out").mkdir()
        (root / "out").chmod(0o777)
        needed = [root / "d" / "rare" / "00.png", captions.find("generic")]
        with not_root():
            for file in needed:
                if not os.access(file, os.R_OK, effective_ids=True):
                    pytest.skip(f"another user cannot read {file}")
        prepare_dataset(settings(root, outputs=str(root / "warm")))  # imports what this user alone may read
        yield root


def settings(root, **changes):
    dataset = {"path": str(root / "d"), "rare_class": "rare", "prompts": "generic",
               "consent": {"licence": "CC0", "scope": ["research"]}}  # fmt: skip
    tree = {"name": "run", "outputs": str(root / "out"), "resolution": 32, "folds": 1, "dataset": dataset}
    return parse(tree | changes)


def test_a_picture_without_the_right_to_read_it_is_left_out_by_name(place):
    (place / "d" / "common" / "20.png").chmod(0)
    with not_root():
        out = prepare_dataset(settings(place))
    left_out = pd.read_csv(out / "excluded.csv")
    assert left_out["path"].tolist() == ["common/20.png"]
    assert "ermission denied" in left_out["reason"][0] and str(place) not in left_out["reason"][0]


def test_a_table_without_the_right_to_read_it_is_named(place):
    (place / "d" / "metadata.csv").write_text("file_name,label\nrare/00.png,rare\n")
    (place / "d" / "metadata.csv").chmod(0)
    with not_root(), pytest.raises(UserError, match=r"metadata\.csv: cannot be read as a table.*Permission denied"):
        prepare_dataset(settings(place))


def test_outputs_without_the_right_to_write_are_named(place, capsys):
    (place / "out").chmod(0o555)
    with not_root(), pytest.raises(UserError, match="out/run: cannot be written: Permission denied"):
        prepare_dataset(settings(place))
    (place / "out").chmod(0o777)
    (place / "out" / ".store").mkdir(mode=0o555)
    (place / "c.yaml").write_text(
        f"name: run\noutputs: {place}/out\nresolution: 32\nfolds: 1\ndataset: {{path: {place}/d, rare_class: rare, "
        "prompts: generic, consent: {licence: CC0, scope: [research]}}\n"
    )
    with not_root(), pytest.raises(SystemExit) as stopped:
        cli.main(["prepare", str(place / "c.yaml")])
    assert stopped.value.code == 2 and ".store/prepare-" in (told := capsys.readouterr().err) and "Permission" in told


def _prepared(config, queue):
    queue.put((prepare_dataset(config) / "manifest.json").stat().st_mtime_ns)


def test_two_programs_that_prepare_one_run_at_once_make_one_result(place):
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    config = settings(place)
    started = [fork.Process(target=_prepared, args=(config, queue)) for _ in range(3)]
    for process in started:
        process.start()
    assert len({queue.get(timeout=60) for _ in started}) == 1  # written once, taken over by the others
    for process in started:
        process.join(60)
    alone = prepare_dataset(settings(place, outputs=str(place / "alone")))
    for name in ("records.parquet", "pixels.npy", "summary.json", "excluded.csv"):
        assert (alone / name).read_bytes() == (place / "out" / "run" / "dataset" / name).read_bytes()
    shutil.rmtree(place / "alone")
