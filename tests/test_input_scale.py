"""Memory and time grow with the number of pictures, not with its square, whatever the pictures are."""

import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from synthimg.core import files
from synthimg.data import duplicates, splits
from synthimg.metrics import nearest


def peak_of(work):
    """MiB that a call takes at most, beyond what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def looks(count):
    """Thumbnails of different pictures, uint8 [count, 64, 64]."""
    small = np.random.default_rng(0).integers(0, 255, (count, 8, 8), np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((64, 64))) for one in small])


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda count: np.zeros((count, 64, 64), np.uint8), looks])
def test_near_duplicates_take_memory_in_proportion(make, monkeypatch):
    monkeypatch.setattr(duplicates, "CHUNK", 32)
    monkeypatch.setattr(duplicates, "TABLE", 2**14)
    few, many = (peak_of(partial(duplicates.near, make(count), 0.8)) for count in (250, 1500))
    assert many < 6 * few + 1 and many < 1500 * 16 / 1024 + 4  # a table of all pairs would take 9 MiB more


def test_rows_of_a_file_leave_no_pages_behind(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((64, 2**20), np.uint8))
    array = np.load(tmp_path / "a.npy", mmap_mode="r")

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[2]) * 4096 / 2**20  # shared pages, those of files

    before = resident()
    sums = [int(files.rows_of(array, slice(row, row + 1)).sum()) for row in range(64)]
    assert sums == [2**20] * 64 and resident() - before < 16  # the map itself, read likewise, keeps all 64 MiB
    np.save(tmp_path / "b.npy", np.arange(5))
    array = np.load(tmp_path / "b.npy", mmap_mode="r")
    for some, told in ((array, [1, 3]), (array[1:], [2, 4]), (array[::-1], [3, 1]), (np.arange(5), [1, 3])):
        assert files.rows_of(some, [1, 3]).tolist() == told


def test_of_many_equal_pictures_each_is_paired_once():
    pictures = np.concatenate([np.zeros((300, 64, 64), np.uint8), looks(3)])
    pairs = duplicates.near(pictures[np.random.default_rng(0).permutation(303)], 0.8)
    assert len(pairs) == 299 and len(set(map(tuple, pairs.tolist()))) == 299 and len(set(pairs[:, 0])) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(1, 12), st.integers(0, 99))
def test_the_largest_of_each_row_are_those_of_a_sort(columns, count, seed):
    count = min(count, columns)
    values = np.random.default_rng(seed).normal(size=(3, columns)).astype(np.float32)
    found = np.sort(duplicates._largest(values, count), 1)
    assert (found == np.sort(np.argsort(-values, axis=1)[:, :count], 1)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 99))
def test_counted_ranks_are_those_of_a_sort(levels, seed):
    values = np.random.default_rng(seed).integers(0, levels, (4, 200)).astype(np.uint8)
    assert (duplicates._ranks(values) == stats.rankdata(values, axis=1)).all()


def test_one_long_name_does_not_take_its_room_for_every_record():
    groups = ["x" * 4000, *map(str, range(5000))]
    assert peak_of(lambda: splits.unite(groups, np.array([[0, 1], [1, 2]]))) < 20  # as fixed-width text: 80 MiB
    assert splits.unite(groups, np.array([[0, 1], [1, 2]]))[:4] == ["0", "0", "0", "2"]


def test_copies_among_synthetic_pictures_take_memory_in_proportion():
    features = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32)
    features[300:] = features[:300]
    kept = np.ones(600, bool)
    kept[5] = False  # so its copy stays
    found = nearest.duplicates(features, 1e-5, kept)
    assert found.tolist() == [False] * 300 + [row != 305 for row in range(300, 600)]
