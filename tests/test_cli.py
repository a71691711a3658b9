"""The command line and bad input: one clear line, exit code 2, and nothing touched of what was there."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import torch
import yaml
from fake_run import fake_run
from PIL import Image

from synthimg import cli, reading
from synthimg.reporting.page import render
from synthimg.stages.report import describe

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.photographs(tmp_path_factory.mktemp("cli") / "data", rare=12, common=16)


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `config.yaml` and the finished stage prepare; its base is a file that is never loaded."""
    place = tmp_path_factory.mktemp("prepared")
    tiny.named_base(place / "base.safetensors")
    write(place, tiny.settings(data, place / "out", place / "base.safetensors"))
    cli.main(["prepare", str(place / "config.yaml")])
    return place


@pytest.fixture
def tree(data: Path, tmp_path: Path) -> dict[str, Any]:
    tiny.named_base(tmp_path / "base.safetensors")
    return deepcopy(tiny.settings(data, tmp_path / "out", tmp_path / "base.safetensors"))


def write(place: Path, tree: dict[str, Any]) -> str:
    (place / "config.yaml").write_text(yaml.safe_dump(tree))
    return str(place / "config.yaml")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file, "" for folders."""
    found = {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
    return {str(path): hashlib.sha256(text).hexdigest() if text else "" for path, text in found.items()}


Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs the command line, checks that it refuses as it should, and returns its one line."""

    def call(*arguments: object, place: Path = tmp_path) -> str:
        before = contents(place) | contents(data)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        text = capsys.readouterr().err
        assert stopped.value.code == 2
        assert text.startswith("synthimg: ")
        assert text.count("\n") == 1, text
        assert contents(place) | contents(data) == before
        return text

    return call


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "missing data folder": ({"dataset": {"path": "/no/where"}}, "no folder or table '/no/where'"),
    "unknown key": ({"finetun": {}}, "unknown key 'finetun' (did you mean 'finetune'?)"),
    "unknown nested key": ({"dataset": {"rare_clas": "x"}}, "'dataset.rare_clas' (did you mean 'rare_class'?)"),
    "wrong type": ({"finetune": {"steps": "many"}}, "key 'finetune.steps': input should be a valid integer"),
    "not a number": ({"finetune": {"noise_offset": float("nan")}}, "key 'finetune.noise_offset'"),
    "label column": ({"dataset": {"label_column": "kind"}}, "no column 'kind' in metadata.csv; there are: file_name"),
    "no consent": ({"dataset": {"consent": {}}}, "no consent entry"),
    "expired consent": (
        {"dataset": {"consent": {"licence": "CC0", "scope": ["research"], "expires": "2001-01-01"}}}, "consent: expired",
    ),
    "rare class not in the data": ({"dataset": {"rare_class": "odd"}}, "no image is labelled 'odd'; the classes are"),
    "no rare class in test": (
        {"dataset": {"split": {"train": 0.8, "validation": 0.2, "test": 0}}}, "dataset.split.test: is 0",
    ),
    "unknown axis": ({"generate": {"axes": ["colour"]}}, "generate.axes: no attribute 'colour'"),
    "inpainting without masks": ({"dataset": {"mask": None}, "generate": {"methods": {"inpaint": 1}}}, "needs dataset.mask"),
    "ControlNet without masks": ({"dataset": {"mask": None}, "finetune": {"controlnet": "mask"}}, "needs dataset.mask"),
    "no prompts file": ({"dataset": {"prompts": "nowhere.yaml"}}, "no prompts file 'nowhere.yaml'"),
    "unknown base": ({"base": "/no/base"}, "base '/no/base': no such file or folder"),
    "Inception weights": (
        {"evaluate": {"extractor": "inception", "inception_weights": "/no/file"}}, "/no/file does not exist",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_refused_before_anything_is_written(case: str, tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    changes, message = CHANGES[case]
    for key, value in changes.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    assert message in refused("run", write(tmp_path, tree))
    assert not (tmp_path / "out").exists()


def test_device_that_is_not_there(tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert "device 'cuda'" in refused("run", write(tmp_path, tree), "device=cuda")


def test_unknown_override(tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    path = write(tmp_path, tree)
    assert "(did you mean 'steps'?)" in refused("run", path, "finetune.step=3")
    assert "expected key.sub=value" in refused("run", path, "finetune")


def test_missing_and_broken_configuration_file(tmp_path: Path, refused: Refused) -> None:
    assert "no such configuration file" in refused("run", tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\nb: 2")
    assert "cannot be read as YAML" in refused("run", tmp_path / "broken.yaml")
    assert "cannot be read as YAML" in refused("run", tmp_path)


def image_folder(folder: Path, rare: int, common: int) -> Path:
    for label, count in (("rare", rare), ("common", common)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            Image.effect_noise((48, 48), 80).save(folder / label / f"{number}.jpg")
    return folder


def own(folder: Path, **changes: Any) -> dict[str, Any]:
    consent = {"licence": "CC0", "scope": ["research"]}
    return {"path": str(folder), "rare_class": "rare", "prompts": "generic", "consent": consent, **changes}


def test_empty_class_folder_and_three_rare_images(tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    folder = image_folder(tmp_path / "photographs", 3, 12)
    path = write(tmp_path, {**tree, "dataset": own(folder)})
    assert "'rare' has 3 groups (3 images); at least 6 are needed" in refused("run", path)
    (folder / "empty").mkdir()
    assert "class folder without images: empty" in refused("run", path)


def test_text_named_jpg_is_set_aside(tree: dict[str, Any], tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photographs", 8, 12)
    (folder / "common" / "notes.jpg").write_text("no picture")
    cli.main(["prepare", write(tmp_path, {**tree, "dataset": own(folder)})])
    left = pd.read_csv(tmp_path / "out" / "tiny" / "dataset" / "excluded.csv")
    assert left["path"].tolist() == ["common/notes.jpg"]
    assert left["reason"].str.startswith("unreadable").all()


def test_text_named_jpg_is_in_the_report(tmp_path: Path) -> None:
    config = fake_run(tmp_path)
    (config.root / "dataset" / "excluded.csv").write_text("path,reason\ncommon/notes.jpg,unreadable (not an image)\n")
    assert b"common/notes.jpg" in render("report.html.j2", **describe(config))


@pytest.mark.parametrize(
    ("verb", "message"),
    [("finetune", "not prepared"), ("generate", "not prepared"), ("report", "has not finished")],
)
def test_stages_before_prepare(verb: str, message: str, tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    assert message in refused(verb, write(tmp_path, tree))


@pytest.mark.parametrize(
    ("verb", "message"),
    [("generate", "not fine-tuned yet"), ("filter", "not generated yet"), ("evaluate", "not generated yet")],
)
def test_stages_out_of_order(verb: str, message: str, prepared: Path, refused: Refused) -> None:
    assert message in refused(verb, prepared / "config.yaml", place=prepared)


def test_preview_before_finetuning(prepared: Path, refused: Refused) -> None:
    assert "not fine-tuned yet" in refused("generate", prepared / "config.yaml", "--preview", place=prepared)


def test_another_configuration_for_the_same_folder(prepared: Path, refused: Refused) -> None:
    for verb in ("run", "prepare", "evaluate", "report"):
        line = refused(verb, prepared / "config.yaml", "finetune.steps=7", "seed=5", place=prepared)
        assert "differs in finetune.steps, seed); nothing was changed" in line


def test_folder_of_somebody_else(tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "out" / "tiny").mkdir(parents=True)
    (tmp_path / "out" / "tiny" / "thesis.txt").write_text("mine")
    assert "is not a run of synthimg" in refused("run", write(tmp_path, tree))


def test_compare_and_augment(tmp_path: Path, refused: Refused) -> None:
    first, second = (fake_run(tmp_path / name, name).folder for name in ("one", "two"))
    assert "is not a run that has been evaluated" in refused("compare", first, tmp_path)
    assert "expected two or more runs" in refused("compare", first)
    assert "exists and is not an empty folder" in refused("augment", first, "--to", second)
    assert "is not a run whose images" in refused("augment", tmp_path, "--to", tmp_path / "new")


def test_closing_table_of_a_single_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli._closing(fake_run(tmp_path))
    assert "verdict" in capsys.readouterr().out


def test_output_under_a_file(tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("prepare", write(tmp_path, {**tree, "outputs": str(tmp_path / "file" / "out")}))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system; skips where this needs rights that the user has not."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / "mounted"
        if not places:
            place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if os.getuid() or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a tmpfs needs root")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


def test_read_only_output(mounted: Callable[[str], Path], tree: dict[str, Any], tmp_path: Path, refused: Refused) -> None:
    place = mounted("size=256k,ro")
    assert "Read-only file system" in refused("prepare", write(tmp_path, {**tree, "outputs": str(place)}))


@pytest.mark.parametrize("free", [0, 8, 40, 400])
def test_full_disk(
    free: int, mounted: Callable[[str], Path], tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At several moments of prepare; with room again, the same command ends as if nothing had been."""
    place = mounted("size=4m")
    path = write(tmp_path, {**tree, "outputs": str(place)})
    ballast = place / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(place).free - free * 1024))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["prepare", path])
    told = [line for line in capsys.readouterr().err.splitlines() if "synthimg: " in line]
    assert stopped.value.code == 2
    assert len(told) == 1 and told[0].startswith("synthimg: ")
    assert "no space left" in told[0].lower()
    assert not (place / "tiny" / "dataset" / "manifest.json").exists()
    ballast.unlink()
    cli.main(["prepare", path])
    assert (place / "tiny" / "dataset" / "manifest.json").exists()
    assert not list(place.rglob("*.part"))


@pytest.mark.parametrize("verb", cli.HELP)
def test_help_shows_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    words = shlex.split(cli.EXAMPLES[verb])
    shown = " ".join(capsys.readouterr().out.split())
    assert cli.EXAMPLES[verb] in shown
    assert cli.parser().parse_args(words[words.index("synthimg") + 1 :]).verb == verb


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_example_configurations(path: Path) -> None:
    if path.stem == "base-model":
        from synthimg.pretrain.training import _load

        assert _load(path).corpus
    else:
        assert reading.load_config(path).dataset.rare_class
