"""Stages are found by what they are made from: what is the same is shared, what is not never is, nothing is lost."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from synthimg import cli
from synthimg.config import Config, Part
from synthimg.core import stage
from synthimg.diffusion import base
from synthimg.errors import UserError
from synthimg.pipeline import STAGES, run
from synthimg.reading import parse
from synthimg.stages.prepare import prepare_dataset
from synthimg.tools.store import free_store, list_runs

FOLDERS = ("dataset", "finetune", "generate", "filter", "classify", "evaluate")
SMALL: dict[str, Any] = {"finetune": {"steps": 1, "tracker": "none"}, "generate": {"count": 4, "steps": 2, "batch_size": 2}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    tiny.photographs(place / "data", rare=12, common=16)
    tiny.sd15(place / "base")
    return place


def named(name: str, place: Path, outputs: Path | None = None, **changes: dict[str, Any]) -> Config:
    tree = tiny.settings(place / "data", outputs or place / "outputs", place / "base", name=name)
    for section, values in {**SMALL, **changes}.items():
        tree[section] = {**tree[section], **SMALL.get(section, {}), **values}
    return parse(tree)


def without_model(name: str, place: Path, outputs: Path, **changes: Any) -> Config:
    return named(name, place, outputs, generate={"methods": {"text": 0, "procedural": 1}}, **changes)


@pytest.fixture(scope="module")
def first(place: Path) -> Config:
    config = named("first", place)
    run(config)
    return config


def state(config: Config) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tiny.files(config.folder)}


def shared(one: Config, other: Config) -> set[str]:
    return {name for name in FOLDERS if (one.folder / name).resolve() == (other.folder / name).resolve()}


def test_another_guidance_draws_anew_but_neither_prepares_nor_trains(first: Config, place: Path) -> None:
    before = state(first)
    other = named("guidance", place, generate={"guidance": 5.0})
    run(other)
    assert state(first) == before
    assert shared(first, other) == {"dataset", "finetune"}
    assert (other.folder / "report.html").exists()


def test_another_specificity_only_judges_anew(first: Config, place: Path) -> None:
    before = state(first)
    other = named("specificity", place, evaluate={"specificity": 0.8})
    run(other)
    assert state(first) == before
    assert shared(first, other) == {"dataset", "finetune", "generate", "filter"}
    found = [json.loads((config.folder / "evaluate" / "metrics.json").read_text()) for config in (first, other)]
    assert [metrics["recall"]["specificity"] for metrics in found] == [0.95, 0.8]


def test_a_run_for_which_nothing_was_trained_lends_no_model(first: Config, place: Path) -> None:
    other = without_model("procedural", place, place / "outputs")
    run(other)
    assert shared(first, other) == {"dataset"}
    assert not (other.folder / "finetune" / "adapter").exists()


def test_what_others_read_stays_where_it_is(first: Config) -> None:
    for name in ("dataset/records.parquet", "generate/plan.parquet", "filter/decisions.parquet", "evaluate/metrics.json"):
        assert (first.folder / name).is_file()
    assert list((first.folder / "generate" / "images").glob("*.png"))
    links = [os.readlink(first.folder / name) for name in FOLDERS]
    assert all(link.startswith("../.store/") for link in links), "a moved outputs folder keeps its runs"


class Watched(Config):
    """Notes which sections a stage reads; `draws_with_model` stands for what it needs of generate.methods."""

    def __getattribute__(self, name: str) -> Any:
        if name in Config.model_fields and not _quiet:
            _seen.add(name)
        if name == "draws_with_model":
            _quiet.append(name)
            try:
                return super().__getattribute__(name)
            finally:
                _quiet.pop()
        return super().__getattribute__(name)


_seen: set[str] = set()
_quiet: list[str] = []


@pytest.mark.slow
@pytest.mark.parametrize("case", ["model", "no model", "part"])
def test_every_section_that_a_stage_reads_is_in_its_key(case: str, place: Path, tmp_path: Path) -> None:
    """Else runs that differ in it would take each other's work for their own."""
    config = (named if case == "model" else without_model)("watched", place, tmp_path)
    if case == "part":
        config = config.model_copy(update={"folds": 3, "draws": 2, "part": Part(fold=1, draw=1)})
    watched, whole = (Watched.model_validate(one.model_dump()) for one in (config, config.model_copy(update={"part": None})))
    stages = [item for item in zip(STAGES.items(), FOLDERS, strict=False) if item[1] != "evaluate" or case != "part"]
    for (name, work), folder in stages:
        _seen.clear()
        work(whole if name == "prepare" else watched)
        root = config.root if name in ("prepare", "evaluate") else config.folder
        manifest = json.loads((root / folder / "manifest.json").read_text())
        # prepare looks at axes and pairs only to refuse unknown ones; folds and draws are in its key, which others have in
        # theirs; and a run that is one part is none of several
        exempt = {"name", "outputs", "folds", "draws"} | ({"generate", "evaluate", "part"} if name == "prepare" else set())
        exempt |= set() if case == "part" else {"part"}
        if name in ("prepare", "evaluate") or case == "part":
            assert {"folds"} <= set(manifest["config"]), name
        assert _seen - exempt <= set(manifest["config"]), name


def test_a_base_trained_anew_is_another_base(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    weights = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    before = base.digest(str(tmp_path / "base"))
    (tmp_path / "base" / "README.md").write_text("a note")
    assert base.digest(str(tmp_path / "base")) == before == base.digest(str(place / "base"))
    content, times = bytearray(weights.read_bytes()), weights.stat()
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert base.digest(str(tmp_path / "base")) != before
    single = tmp_path / "single.safetensors"
    tiny.named_base(single)
    alone = base.digest(str(single))
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "model_index.json").write_text("{}")
    assert base.digest(str(single)) != alone
    assert base.digest("owner/model") == "owner/model"


def test_an_image_changed_in_place_is_prepared_anew_under_another_name(tmp_path: Path) -> None:
    """A bitmap keeps its size whatever it shows."""
    for label, count in (("rare", 8), ("common", 12)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(count):
            Image.effect_noise((48, 48), 80).convert("RGB").save(tmp_path / "data" / label / f"{number}.bmp")
    consent = {"licence": "CC0", "scope": ["research"]}
    dataset = {"path": str(tmp_path / "data"), "rare_class": "rare", "prompts": "generic", "consent": consent}
    tree = {"outputs": str(tmp_path / "out"), "resolution": 32, "dataset": dataset}
    one, two, three = (parse({**tree, "name": name}) for name in ("one", "two", "three"))
    prepare_dataset(one)
    prepare_dataset(two)
    assert "dataset" in shared(one, two)
    Image.new("RGB", (48, 48), "red").save(tmp_path / "data" / "rare" / "0.bmp")
    prepare_dataset(three)
    assert "dataset" not in shared(one, three)
    before, after = (np.load(config.folder / "dataset" / "pixels.npy") for config in (one, three))
    assert (before != after).any()


def test_other_code_shares_nothing_but_leaves_finished_runs_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (without_model(name, place, tmp_path) for name in ("one", "two"))
    prepare_dataset(one)
    before = state(one)
    monkeypatch.setattr(stage, "_code", lambda: "another version")
    prepare_dataset(one)
    assert state(one) == before
    prepare_dataset(two)
    assert "dataset" not in shared(one, two)


@pytest.mark.slow
def test_clean_frees_what_no_run_needs_and_nothing_else(place: Path, tmp_path: Path) -> None:
    one, two = (without_model(name, place, tmp_path, evaluate={"bootstrap": n}) for name, n in (("one", 20), ("two", 30)))
    run(one)
    run(two)
    assert free_store(tmp_path) == {}
    before, gone = state(two), (one.folder / "evaluate").resolve()
    lent = tmp_path / ".store" / "prepare-of-a-run-that-was-killed-just-now"
    lent.mkdir()
    (two.folder / ".dataset.part").symlink_to(f"../.store/{lent.name}")  # a link half made
    shutil.rmtree(one.folder)
    assert set(free_store(tmp_path, dry_run=True)) == {gone.name} and gone.exists()
    assert set(free_store(tmp_path)) == {gone.name} and not gone.exists()
    assert lent.exists()
    (two.folder / ".dataset.part").unlink()
    assert state(two) == before
    assert free_store(tmp_path) == {lent.name: 0.0}
    with pytest.raises(UserError, match="no such folder"):
        free_store(tmp_path / "nowhere")


def test_clean_spares_what_a_run_takes_while_others_are_freed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = without_model("one", place, tmp_path)
    prepare_dataset(config)
    shutil.rmtree(config.folder)  # nothing refers to its work now
    (tmp_path / ".store" / "filter-0").mkdir()  # the first to be freed
    free = shutil.rmtree

    def while_freeing(path: Path) -> None:
        free(path)
        prepare_dataset(config)

    monkeypatch.setattr(shutil, "rmtree", while_freeing)
    assert list(free_store(tmp_path)) == ["filter-0"]
    assert (config.folder / "dataset" / "manifest.json").exists()


def test_one_process_at_a_time_works_on_a_stage_and_clean_waits_for_none(place: Path, tmp_path: Path) -> None:
    config = without_model("one", place, tmp_path)
    prepare_dataset(config)
    entry = (config.folder / "dataset").resolve()
    shutil.rmtree(config.folder)
    for path in entry.iterdir():
        path.unlink()
    handle = os.open(entry, os.O_RDONLY)  # as another process that has just begun would hold it
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert free_store(tmp_path) == {}
    thread = threading.Thread(target=prepare_dataset, args=(config,))
    thread.start()
    time.sleep(1)
    assert not list(entry.iterdir())
    os.close(handle)
    thread.join(60)
    assert (config.folder / "dataset" / "manifest.json").exists()


def _at_once(config: Config, moment: float) -> None:
    """What each process does that `torchrun -m synthimg run` starts."""
    while time.time() < moment:
        pass
    stage.claim(config)
    folder = stage.enter(config.folder / "filter", {"stage": "filter"})
    if not stage.is_done(folder, {"stage": "filter"}):
        (folder / "work").touch(exist_ok=False)
        stage.finish(folder, {"stage": "filter"}, time.monotonic())


@pytest.mark.slow
def test_processes_that_start_a_run_at_once_do_each_stage_once(place: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for number in range(10):
        config = named("one", place, tmp_path / str(number))
        moment = time.time() + 0.1
        started = [fork.Process(target=_at_once, args=(config, moment)) for _ in range(4)]
        for process in started:
            process.start()
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [0] * 4


def test_a_copied_run_goes_on_without_the_store(first: Config, tmp_path: Path) -> None:
    shutil.copytree(first.folder, tmp_path / first.name)
    config = first.model_copy(update={"outputs": str(tmp_path)})
    before = state(config)
    run(config)
    assert state(config) == before and not (tmp_path / ".store").exists()


def test_a_link_whose_work_is_gone_is_made_anew(place: Path, tmp_path: Path) -> None:
    config = without_model("one", place, tmp_path)
    prepare_dataset(config)
    pixels = np.load(config.folder / "dataset" / "pixels.npy")
    shutil.rmtree(tmp_path / ".store")
    prepare_dataset(config)
    assert np.array_equal(np.load(config.folder / "dataset" / "pixels.npy"), pixels)


def test_runs_and_clean_on_the_command_line(first: Config, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = [one for one in list_runs(first.outputs) if one.name == "first"]
    assert found.done == [*FOLDERS, "report"] and found.mib > 0.1
    cli.main(["runs", first.outputs])
    told = capsys.readouterr().out
    assert "first" in told and found.verdict in told and "dataset, finetune, generate" in told
    other = Path(first.outputs, "other")
    shutil.copytree(first.folder, other)
    (other / "evaluate" / "metrics.json").write_text('{"version": 0}')
    verdicts = {one.name: one.verdict for one in list_runs(first.outputs)}
    assert verdicts["first"] == found.verdict and "holds results of version 0, expected" in verdicts["other"]
    shutil.rmtree(other)
    orphan = Path(first.outputs) / ".store" / "filter-0123456789abcdef"
    orphan.mkdir()
    (orphan / "decisions.parquet").write_bytes(bytes(2**21))
    cli.main(["clean", first.outputs, "--dry-run"])
    assert "would free 2.0 MiB" in capsys.readouterr().out and orphan.exists()
    cli.main(["clean", first.outputs])
    assert f"2.0 MiB  {orphan.name}" in capsys.readouterr().out and not orphan.exists()


def test_an_array_that_is_kept_is_read_while_another_process_makes_the_next_one(tmp_path: Path) -> None:
    here, next_one, made = tmp_path / "here.npy", tmp_path / "next.npy", []
    stage.kept(here, lambda: np.arange(3))
    started, finish = threading.Event(), threading.Event()

    def slow() -> np.ndarray:
        made.append("slow")
        started.set()
        finish.wait(30)
        return np.arange(4)

    def other() -> np.ndarray:
        made.append("other")
        return np.arange(5)

    with ThreadPoolExecutor(2) as pool:  # flock keeps threads apart as it does processes: each opens the folder anew
        first = pool.submit(stage.kept, next_one, slow)
        assert started.wait(30)
        second = pool.submit(stage.kept, next_one, other)
        assert stage.kept(here, other).tolist() == [0, 1, 2]
        finish.set()
        assert len(first.result(30)) == len(second.result(30)) == 4
    assert made == ["slow"]
