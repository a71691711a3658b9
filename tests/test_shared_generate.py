"""`torchrun` on the stage `generate`: two processes draw what one draws, bit for bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
import yaml

from synthimg.core.files import digest
from synthimg.reading import parse
from synthimg.stages.finetune import finetune_model
from synthimg.stages.generate import generate_images
from synthimg.stages.prepare import prepare_dataset


def contents(run: Path) -> dict[str, str]:
    files = (path for path in (run / "generate").rglob("*") if path.is_file() and path.name != "timing.json")
    return {path.relative_to(run).as_posix(): digest(path) for path in files}


NOTED = """
import os, sys
from pathlib import Path
from synthimg import cli
from synthimg.stages import generate

encode = generate.encode_png

def noted(image, row, source_type):
    with Path(sys.argv[2], os.environ["RANK"]).open("a") as file:
        print(row["id"], file=file)
    return encode(image, row, source_type)

generate.encode_png = noted
cli.main(["generate", sys.argv[1]])
"""
"""The command line, with a note of what each process draws."""


def launch(config: Path, notes: Path) -> subprocess.CompletedProcess[str]:
    """Two processes on the CPU, which find each other by gloo."""
    notes.mkdir()
    (script := notes / "script.py").write_text(NOTED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [*command, str(config), str(notes)]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
def test_two_processes_draw_each_image_once_as_one_does(tmp_path: Path) -> None:
    tree = tiny.settings(tiny.photographs(tmp_path / "data"), tmp_path / "one", tiny.sd15(tmp_path / "base"))
    tree["finetune"] |= {"steps": 1}
    tree["generate"] |= {"count": 11, "methods": {"text": 1, "image": 1, "procedural": 1}}
    config = parse(tree)
    for stage in (prepare_dataset, finetune_model):
        stage(config)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({**tree, "outputs": str(tmp_path / "two")}))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of the two has: sums over more threads round otherwise
    generate_images(config)
    torch.set_num_threads(threads)
    found = launch(tmp_path / "two.yaml", tmp_path / "notes")
    assert found.returncode == 0, found.stderr[-3000:]
    one, two = (contents(tmp_path / name / "tiny") for name in ("one", "two"))
    assert one == two and len(one) == 11 + 3  # plan, key, manifest
    assert (tmp_path / "two" / "tiny" / "filter" / "manifest.json").exists()  # one of them judges
    rows = pd.read_parquet(tmp_path / "two" / "tiny" / "generate" / "plan.parquet")
    assert set(rows["method"]) == {"text", "image", "procedural"}
    drawn = [(tmp_path / "notes" / rank).read_text().split() for rank in "01"]
    assert sorted(drawn[0] + drawn[1]) == sorted(rows["id"]) and abs(len(drawn[0]) - len(drawn[1])) <= 2
