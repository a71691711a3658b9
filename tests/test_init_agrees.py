"""What `init` proposes, `prepare` accepts; what it says will be refused, is."""

import os
import re
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from synthimg.errors import UserError
from synthimg.reading import load_config
from synthimg.stages.prepare import prepare_dataset
from synthimg.tools.init import write_config

NAMES = [
    "rare",
    "it's",
    "yes",
    "1",
    "1.50",
    "null",
    "a: b",
    "#x",
    "ü",
    "- y",
    'q"q',
    "{x}",
    "007",
    "~",
    "back\\slash",
    "two\nlines",
]


@contextmanager
def inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write(file, number):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)).resize((32, 32)).save(file)


def image_folder(root, sizes):
    number = 0
    for name, size in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(size):
            number += 1
            write(root / name / f"{number}.png", number)
    return root


def prepared_as_proposed(here, data):
    """What init says, and prepare's folder or complaint."""
    with inside(here):
        path = write_config(data)
        text = path.read_text(encoding="utf-8")
        text = re.sub("# licence: <.*", "licence: CC0", text)
        path.write_text(re.sub("# scope: \\[.*", "scope: [research]", text), encoding="utf-8")
        try:
            config = load_config(path, ["resolution=32", "device=cpu"])
            return config, prepare_dataset(config)
        except UserError as error:
            return None, str(error)


sizes_of_classes = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=sizes_of_classes, biggest=st.integers(10, 14))
def test_of_an_image_folder(tmp_path_factory, capsys, sizes, biggest):
    here = tmp_path_factory.mktemp("init")
    image_folder(here / "d", sizes | {"many": biggest})
    config, found = prepared_as_proposed(here, "d")
    warned = "will refuse this as it is" in capsys.readouterr().out
    assert warned == isinstance(found, str)
    assert warned == (max(sizes.values()) < 3)  # no class but the most frequent one could be dealt into three folds
    if config:
        assert sizes[config.dataset.rare_class] >= config.folds


@st.composite
def tables(draw):
    """A table of 30 to 40 rows: any label, a group column that may have gaps, a file column by one of its usual names."""
    count = draw(st.integers(30, 40))
    pool = draw(st.lists(st.sampled_from(NAMES[:-1]), min_size=2, max_size=3, unique=True)) + draw(
        st.sampled_from([[], [""]])
    )
    labels = draw(st.lists(st.sampled_from(pool), min_size=count, max_size=count))
    group = draw(st.sampled_from([None, 2, 3]))
    gaps = draw(st.sets(st.integers(0, count - 1), max_size=2))
    frame = pd.DataFrame({draw(st.sampled_from(["file_name", "image", "path"])): [f"i/{n}.png" for n in range(count)],
                          draw(st.sampled_from(["label", "Class", "dx"])): labels})  # fmt: skip
    if group:
        frame["patient_id"] = ["" if n in gaps else str(n // group) for n in range(count)]
    return frame


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=tables(), ending=st.sampled_from(["metadata.csv", "all.csv", "all.tsv", "all.parquet"]))
def test_of_a_table(tmp_path_factory, capsys, frame, ending):
    here = tmp_path_factory.mktemp("init")
    for number in range(len(frame)):
        write(here / "d" / "i" / f"{number}.png", number)
    if ending.endswith("parquet"):
        frame.to_parquet(here / "d" / ending)
    else:
        frame.to_csv(here / "d" / ending, index=False, sep="\t" if ending.endswith("tsv") else ",")
    _, found = prepared_as_proposed(here, "d" if ending == "metadata.csv" else f"d/{ending}")
    assert ("will refuse this as it is" in capsys.readouterr().out) == isinstance(found, str), found


def test_a_class_too_small_is_named_but_not_proposed(tmp_path, capsys):
    """Case 16: classes of 27, 14 and 3 pictures, and one without any."""
    image_folder(tmp_path / "d", {"common": 27, "rare": 14, "tiny": 3, "none": 0})
    config, found = prepared_as_proposed(tmp_path, "d")
    assert found == config.root / "dataset"
    assert (config.dataset.rare_class, config.folds, config.dataset.classes) == ("rare", 5, ["common", "rare", "tiny"])
    assert "also rare: 'tiny'" in (tmp_path / "d.yaml").read_text()


def test_fewer_folds_where_no_rare_class_has_groups_for_five(tmp_path):
    image_folder(tmp_path / "d", {"common": 27, "rare": 4, "tiny": 3})
    config, _ = prepared_as_proposed(tmp_path, "d")
    assert (config.dataset.rare_class, config.folds) == ("rare", 4)


def test_where_nothing_can_be_proposed_it_says_why(tmp_path, capsys, monkeypatch):
    image_folder(tmp_path / "d", {"common": 27, "rare": 2})
    _, found = prepared_as_proposed(tmp_path, "d")
    assert "warning: `synthimg prepare` will refuse this as it is: folds: 5 folds need" in capsys.readouterr().out
    assert "folds: 5 folds need as many groups of 'rare', there are 2" in found
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("file_name,label\na.png,\nb.png, \n")
    with pytest.raises(UserError, match="column 'label' is empty in every row"):
        write_config("t.csv")
