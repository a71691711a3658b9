"""Fine-tuning as a user starts it: in two processes, twice in one process, with a setting that cannot be met."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import yaml
from safetensors.torch import load_file

from synthimg.config import Config
from synthimg.core.device import CPU, choose_precision
from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.finetune import finetune_model
from synthimg.stages.prepare import prepare_dataset

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SCRIPT = """
import sys
from synthimg import cli, finetune_model, load_config
finetune_model(load_config(sys.argv[1]))
cli.main(["finetune", sys.argv[1]])  # there is nothing left to do, and one process sees that before the other
"""
STEPS = {"steps": 2, "controlnet_steps": 2, "decoder_steps": 2, "batch_size": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finetune")
    tiny.photographs(place / "data", rare=12, common=16)
    tiny.sd15(place / "base")
    return place


def prepared(place: Path, outputs: Path, **finetune: Any) -> Config:
    tree = tiny.settings(place / "data", outputs, place / "base")
    tree["finetune"] |= {**STEPS, "decoder_steps": 0, **finetune}
    config = parse(tree)
    prepare_dataset(config)
    return config


@pytest.mark.slow
def test_two_processes_train_every_part_together(place: Path, tmp_path: Path) -> None:
    config = prepared(place, tmp_path / "out", **STEPS, controlnet="edges", tracker="tensorboard")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [*LAUNCH, str(tmp_path / "script.py"), str(tmp_path / "config.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr, ended.stderr[-3000:]
    folder = config.folder / "finetune"
    assert {"adapter", "controlnet", "vae", "manifest.json"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "checkpoints").exists()
    one = config.model_copy(update={"name": "one"})
    prepare_dataset(one)
    finetune_model(one)  # what two have trained is not taken for the work of one
    assert (one.folder / "dataset").resolve() == (config.folder / "dataset").resolve()
    assert (one.folder / "finetune").resolve() != folder.resolve()
    # each process draws its own images: the mean of two losses is not the loss of one
    alone = prepared(place, tmp_path / "alone")
    finetune_model(alone)
    losses = [pd.read_csv(run / "finetune" / "loss-adapter.csv")["loss"] for run in (config.folder, alone.folder)]
    assert len(losses[0]) == STEPS["steps"]
    assert (losses[0] != losses[1]).all()


@pytest.mark.slow
def test_two_precisions_in_one_process(place: Path, tmp_path: Path) -> None:
    weights = {}
    for precision in ("fp32", "bf16", "fp32"):
        config = prepared(place, tmp_path / f"{precision}-{len(weights)}", precision=precision)
        finetune_model(config)
        found = load_file(config.folder / "finetune" / "adapter" / "pytorch_lora_weights.safetensors")
        weights.setdefault(precision, []).append(found)
    (first, again), (other,) = weights["fp32"], weights["bf16"]
    assert all(first[name].equal(again[name]) for name in first)
    assert any(not first[name].equal(other[name]) for name in first)


@pytest.mark.parametrize(("tracker", "message"), [("pencil", "finetune.tracker 'pencil'"), ("swanlab", "not installed")])
def test_a_tracker_that_is_not_there_is_named(place: Path, tmp_path: Path, tracker: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        finetune_model(prepared(place, tmp_path, tracker=tracker))


def test_half_precision_without_a_gpu_is_refused_by_its_own_name() -> None:
    with pytest.raises(UserError, match=r"finetune\.precision 'fp16': needs a GPU"):
        choose_precision("fp16", CPU)
