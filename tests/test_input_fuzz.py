"""A few trees of benchmarks/fuzz_input.py: what holds of thousands is measured there."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def fuzz_input(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import fuzz_input

    return fuzz_input


def test_ten_random_trees_are_read_as_they_are_or_refused():
    program = [sys.executable, str(FOLDER / "fuzz_input.py"), "--trees", "10", "--seed", "40"]
    found = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert found.returncode == 0 and ", 0 failed" in found.stdout, found.stdout + found.stderr


def test_a_wrong_label_a_missing_picture_and_a_file_out_of_account_are_seen(fuzz_input, tmp_path):
    tree = fuzz_input.grow(tmp_path, 1)
    folder = fuzz_input.prepared(tree)
    assert fuzz_input.wrong(tree, folder) == []
    frame = pd.read_parquet(folder / "records.parquet")
    frame.loc[0, "label"] = "odd"
    frame[:-1].to_parquet(folder / "records.parquet")
    (tree.folders[0] / "late.txt").touch()
    kinds = [problem.partition(" ")[0] for problem in fuzz_input.wrong(tree, folder)]
    assert kinds == ["missing:", "wrong", "account"]
