"""The evaluation on a small run folder: the contract, honesty about the test labels, resuming, and empty arms."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_run import RARE, fake_run
from tiny import evaluated

from synthimg.config import Config
from synthimg.core.files import CACHE, digest, write_table
from synthimg.data.prepared import load
from synthimg.errors import UserError
from synthimg.evaluation.arms import ARMS, DEFAULT
from synthimg.evaluation.head import headed
from synthimg.evaluation.inputs import rare_rows
from synthimg.evaluation.training import drawn_by, order, row_weights
from synthimg.vision.views import SYMMETRIES, symmetric

SMALL = {"evaluate": {"seeds": 2, "steps": 20, "batch_size": 16, "bootstrap": 50, "extractor": "efficientnet-lite0"}}
PREDICTIONS, THRESHOLDS = "classify/predictions.parquet", "classify/thresholds.parquet"
FILES = ("evaluate/metrics.json", PREDICTIONS, THRESHOLDS, "classify/portions.parquet")
MANIFESTS = ("classify/manifest.json", "evaluate/manifest.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = fake_run(tmp_path_factory.mktemp("evaluate"), overrides=SMALL)
    evaluated(config)
    return config


def copy(config: Config, root: Path) -> Config:
    """The same run elsewhere, not classified and evaluated, but for cached features."""
    other = config.model_copy(update={"outputs": str(root)})
    shutil.copytree(config.folder, other.folder)
    shutil.copytree(Path(config.outputs) / CACHE, root / CACHE)
    for name in (*MANIFESTS, *FILES, "evaluate/key.json"):
        (other.folder / name).unlink()
    shutil.rmtree(other.folder / "classify" / "checkpoints")
    return other


def metrics_of(config: Config) -> Any:
    return json.loads((config.folder / "evaluate" / "metrics.json").read_text())


def test_metrics_keep_the_contract(done: Config) -> None:
    found = metrics_of(done)
    sections = {"rare_class", "n", "quality", "compliance", "relevance", "recall", "subgroups", "prevalence", "portions"}
    assert set(found) == {"version", "extra", *sections}
    assert found["n"] == {
        "parts": 1, "train_rare": 8, "train_rare_groups": [4], "train_other": 10, "reserve_rare": 4,
        "validation_rare": 3, "validation_other": 4, "test_rare": 5, "test_other": 6, "test_rare_groups": 3,
        "planned": 24, "generated": 24, "accepted": 12,
        "rejected": found["n"]["rejected"],
    }  # fmt: skip
    assert sum(found["n"]["rejected"].values()) == 12
    assert found["quality"]["n"] == {"synthetic": 12, "real": 12} and found["quality"]["floor"]["n"] == [6, 6]
    assert set(found["quality"]["marginals"]) == {"brightness", "contrast"}
    assert found["compliance"]["type"] is None  # no estimator measures it
    assert sum(part["n"] for part in found["compliance"]["brightness"].values()) == 24
    assert list(found["recall"]["arms"]) == list(DEFAULT)
    for arm in found["recall"]["arms"].values():
        for name in ("recall", "recall_at_specificity", "specificity", "specificity_at_threshold", "auc"):
            low, high = arm[name]["ci95"]
            assert 0 <= low <= arm[name]["mean"] <= high <= 1
        for name, values in arm["per_seed"].items():
            assert len(values) == 2 and np.mean(values) == pytest.approx(arm[name]["mean"])
    counted = {name: arm["n_train"] for name, arm in found["recall"]["arms"].items()}
    assert counted["real"] == counted["augmented"] == {"rare": 8, "other": 10, "synthetic": 0}
    assert counted["oracle"]["rare"] == 12 and counted["synthetic"]["synthetic"] == 12
    assert found["recall"]["best_control"] in set(DEFAULT) - {"synthetic", "oracle"}
    assert set(found["recall"]["curve"]["arms"]) == {found["recall"]["best_control"], "synthetic", "oracle"}
    for table in found["recall"]["confusion"].values():
        assert {label: sum(row.values()) for label, row in table.items()} == {"defective": 5, "functional": 6}


def test_subgroups_and_prevalence_are_of_the_test_images(done: Config) -> None:
    found, records = metrics_of(done), load(done).frame
    rare = records[(records["split"] == "test") & (records["label"] == RARE)]
    table = found["subgroups"]["at_thresholds"]
    assert [part["attributes"] for part in table["partitions"]] == [["type"], ["brightness"]]
    for part in table["partitions"]:
        there = rare[f"attribute.{part['attributes'][0]}"].value_counts().to_dict()
        assert {row["categories"][0]: row["images"] for row in part["subgroups"]} == there
        for arm in (found["recall"]["best_control"], "synthetic", "oracle"):
            whole = sum(row["images"] * row["recall"][arm]["mean"] for row in part["subgroups"]) / len(rare)
            assert whole == pytest.approx(found["recall"]["arms"][arm]["recall_at_specificity"]["mean"])
    for part in found["subgroups"]["at_equal_specificity"]["partitions"]:
        whole = sum(row["images"] * row["recall"]["synthetic"]["mean"] for row in part["subgroups"]) / len(rare)
        assert whole == pytest.approx(found["recall"]["matched"]["recall"]["synthetic"])
    assert found["prevalence"]["ordinary"] == 6 and found["prevalence"]["prevalence"] is None
    assert all(row["arms"] is None for row in found["prevalence"]["rows"])  # six ordinary images are too few


def test_portions_end_with_all_images_and_leave_out_one_kind_at_a_time(done: Config) -> None:
    found = metrics_of(done)
    sizes, without = found["portions"]["sizes"], found["portions"]["without"]
    assert [size["synthetic"] for size in sizes] == [4, 8, 12]
    assert [size["ratio"] for size in sizes] == [0.5, 1, 1.5]
    assert sizes[-1]["gain"] == found["recall"]["gain"]
    left_out: dict[str, int] = {}
    for part in without:
        left_out[part["what"]] = left_out.get(part["what"], 0) + part["left_out"]
    assert left_out == {"method": 12, "type": 12, "brightness": 12}


def test_numbers_follow_from_the_predictions(done: Config) -> None:
    predictions = pd.read_parquet(done.folder / PREDICTIONS)
    thresholds = pd.read_parquet(done.folder / THRESHOLDS).set_index(["arm", "seed"])["threshold"]
    predictions["above"] = (
        predictions["score"] > thresholds.loc[pd.MultiIndex.from_frame(predictions[["arm", "seed"]])].to_numpy()
    )
    tested = predictions[(predictions["split"] == "test") & (predictions["label"] == RARE)]
    for arm, described in metrics_of(done)["recall"]["arms"].items():
        part = tested[tested["arm"] == arm]
        assert part["above"].mean() == pytest.approx(described["recall_at_specificity"]["mean"])
        assert (part["predicted"] == RARE).mean() == pytest.approx(described["recall"]["mean"])
    honest = predictions[(predictions["split"] == "validation") & (predictions["label"] != RARE)]
    assert (1 - honest.groupby(["arm", "seed"])["above"].mean() >= 0.95).all()


def test_test_labels_reach_nothing_but_the_count(done: Config, tmp_path: Path) -> None:
    """With permuted test labels, all scores, predictions and thresholds stay bit for bit."""
    other = copy(done, tmp_path)
    records = pd.read_parquet(other.folder / "dataset" / "records.parquet")
    tested = records["split"] == "test"
    records.loc[tested, "label"] = records.loc[tested, "label"].to_numpy()[::-1]
    write_table(other.folder / "dataset" / "records.parquet", records)
    shutil.rmtree(tmp_path / CACHE)
    evaluated(other)
    assert digest(other.folder / THRESHOLDS) == digest(done.folder / THRESHOLDS)
    mine, theirs = (pd.read_parquet(config.folder / PREDICTIONS) for config in (other, done))
    assert not mine["label"].equals(theirs["label"])
    pd.testing.assert_frame_equal(mine.drop(columns="label"), theirs.drop(columns="label"))


@pytest.mark.parametrize("after", [5, 2 * len(DEFAULT) + 3])  # among the arms, and among the portions
def test_a_killed_evaluation_continues_to_the_same_bytes(
    done: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    other = copy(done, tmp_path)
    fits = []

    def dying(file: Path, fit: Any) -> Any:
        if len(fits) == after:
            raise KeyboardInterrupt
        fits.append(file)
        return original(file, fit)

    stage_module = import_module("synthimg.stages.classify")
    original = stage_module.kept_array
    monkeypatch.setattr(stage_module, "kept_array", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluated(other)
    monkeypatch.undo()
    kept = {file: file.stat().st_mtime_ns for file in (other.folder / "classify" / "checkpoints").rglob("*.npy")}
    assert len(kept) == after
    evaluated(other)
    assert all(file.stat().st_mtime_ns == when for file, when in kept.items())
    for name in (*FILES, *MANIFESTS):
        assert digest(other.folder / name) == digest(done.folder / name), name


def test_symmetries_show_each_rare_training_image_in_all_the_other_ways_of_a_square(done: Config) -> None:
    data = load(done)
    rows = rare_rows(done, data, "train")
    found = np.concatenate([part for which in SYMMETRIES for part in symmetric(data.pixels, rows, which)])
    rare = data.pixels[((data.frame["label"] == RARE) & (data.frame["split"] == "train")).to_numpy()]
    assert len(found) == 56 and len(rare) == 8
    assert (found[0, :, ::-1] == rare[0]).all() and (found[8, ::-1] == rare[0]).all()
    assert (found[16, ::-1, ::-1] == rare[0]).all()
    ways = [np.rot90(view, turns, (1, 2)) for view in (rare, rare[:, :, ::-1]) for turns in range(4)]
    every = {image.tobytes() for image in map(np.ascontiguousarray, np.concatenate(ways))}
    assert {image.tobytes() for image in map(np.ascontiguousarray, found)} == every - {image.tobytes() for image in rare}


def test_without_an_arm_of_mirror_images_the_others_train_all_the_same(done: Config) -> None:
    few = done.model_copy(update={"evaluate": done.evaluate.model_copy(update={"arms": ["real", "weighted"]})})
    ids = list(pd.read_parquet(done.folder / "generate" / "plan.parquet")["id"])
    data = load(done)
    np.testing.assert_array_equal(headed(few, data, ids)("real", 0, ids), headed(done, data, ids)("real", 0, ids))


def test_a_finished_evaluation_is_left_alone(done: Config) -> None:
    files = [done.folder / name for name in FILES]
    when = [file.stat().st_mtime_ns for file in files]
    assert evaluated(done) == files[0].parent
    assert [file.stat().st_mtime_ns for file in files] == when


def test_every_arm_judges_every_image_with_every_seed(done: Config) -> None:
    predictions = pd.read_parquet(done.folder / PREDICTIONS)
    sizes = predictions.groupby(["arm", "seed"]).size()
    assert sizes.nunique() == 1 and len(sizes) == 2 * len(DEFAULT)


@pytest.mark.slow
def test_without_accepted_images_or_reserve_arms_are_left_out(tmp_path: Path) -> None:
    counts = {
        RARE: {"train": 6, "reserve": 0, "validation": 2, "test": 4},
        "functional": {"train": 6, "reserve": 0, "validation": 3, "test": 4},
        "dirty": {"train": 4, "reserve": 0, "validation": 3, "test": 3},
    }
    config = fake_run(tmp_path, overrides=SMALL, accepted=0, counts=counts, planned=3)
    evaluated(config)
    found = metrics_of(config)
    assert list(found["recall"]["arms"]) == [name for name in DEFAULT if name not in ("synthetic", "oracle")]
    assert found["recall"]["gain"] is None and found["recall"]["oracle_gap_closed"] is None
    assert found["quality"]["fid"] is None and found["quality"]["kid"] is None
    assert "No synthetic image" in found["quality"]["warning"]
    assert set(found["recall"]["arms"]["real"]["other_recall"]) == {"functional", "dirty"}
    assert found["n"]["accepted"] == 0


@pytest.mark.slow
def test_finetuned_classifiers_take_the_same_road(tmp_path: Path) -> None:
    settings = {"evaluate": {**SMALL["evaluate"], "classifier": "finetune", "seeds": 1, "steps": 1, "batch_size": 4,
                             "beside": "augmented", "arms": ["augmented", "smote", "synthetic", "oracle"]}}  # fmt: skip
    config = fake_run(tmp_path, overrides=settings, planned=3, accepted=2)
    evaluated(config)
    found = metrics_of(config)["recall"]
    assert list(found["arms"]) == ["augmented", "synthetic", "oracle"]
    assert found["classifier"] == "finetune" and found["best_control"] == "augmented"
    assert (found["steps"], found["batch_size"]) == (1, 4)


def test_splits_that_cannot_be_measured_are_refused(tmp_path: Path) -> None:
    counts = {
        RARE: {"train": 2, "reserve": 0, "validation": 1, "test": 0},
        "functional": {"train": 2, "reserve": 0, "validation": 1, "test": 1},
    }
    config = fake_run(tmp_path, overrides=SMALL, counts=counts, planned=2)
    with pytest.raises(UserError, match=f"no images of '{RARE}' in test"):
        evaluated(config)


def test_missing_filter_is_named(tmp_path: Path) -> None:
    config = fake_run(tmp_path, planned=2)
    (config.folder / "filter" / "manifest.json").unlink()
    with pytest.raises(UserError, match="synthimg filter"):
        evaluated(config)


def test_every_arm_has_words_and_a_title_of_its_own() -> None:
    for part in ("words", "title"):
        found = [getattr(arm, part) for arm in ARMS.values()]
        assert all(found) and len(set(found)) == len(found)
    assert {name for name, arm in ARMS.items() if not arm.control} == {"synthetic", "oracle"}
    assert {name for name, arm in ARMS.items() if not arm.joins} == {
        "synthetic", "oracle", "smote", "distance", "patches", "outlier",
    }  # fmt: skip


def test_smote_alone_is_no_control_for_a_fine_tuned_classifier(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="smote goes with the head only"):
        fake_run(tmp_path, overrides={"evaluate": {"classifier": "finetune", "arms": ["smote", "synthetic"]}})


@pytest.mark.parametrize("beside", [name for name, arm in ARMS.items() if arm.joins])
def test_synthetic_images_join_the_control_that_is_named(done: Config, beside: str) -> None:
    """With none of them, or none that counts, the arm is that control; the more they count, the less it is."""
    data, ids = load(done), list(pd.read_parquet(done.folder / "generate" / "plan.parquet")["id"])

    def scores(arm: str, weight: float, only: list[str]) -> np.ndarray:
        changes = {"beside": beside, "arms": [beside, "synthetic"], "synthetic_weight": weight}
        settings = done.evaluate.model_copy(update=changes)
        return headed(done.model_copy(update={"evaluate": settings}), data, ids)(arm, 0, only)

    alone = scores(beside, 1.0, [])
    np.testing.assert_array_equal(scores("synthetic", 1.0, []), alone)
    assert np.abs(scores("synthetic", 1.0, ids) - alone).max() > 0.01
    if beside not in ("oversampled", "mixup", "combined"):  # there, more rows are also other draws
        np.testing.assert_allclose(scores("synthetic", 1e-9, ids), alone, atol=1e-3)


def test_no_control_gives_synthetic_images_more_or_less_than_their_weight() -> None:
    """Balanced by drawing or by the loss, the rare class has half of the loss, with light rows among it or without."""
    labels, counts = np.repeat([0, 1, 1], [600, 40, 400]), np.repeat([1.0, 1.0, 0.2], [600, 40, 400])
    weights = row_weights(labels, "loss", counts).numpy()
    drawn = order(labels, 20, len(labels), 0, drawn_by(labels, "draws", counts)).ravel()
    for share in (weights[labels == 1].sum() / weights.sum(), (labels[drawn] == 1).mean()):
        assert share == pytest.approx(0.5, abs=0.01)
    light = np.arange(len(labels)) >= 640
    assert (light[drawn] & (labels[drawn] == 1)).sum() / (labels[drawn] == 1).sum() == pytest.approx(80 / 120, abs=0.02)
    np.testing.assert_allclose(row_weights(labels, "draws", counts).numpy(), counts.mean(), rtol=1e-6)


def test_the_control_that_synthetic_images_join_has_to_run_too(tmp_path: Path) -> None:
    settings = {"evaluate": {**SMALL["evaluate"], "beside": "turned", "arms": ["real", "synthetic"]}}
    with pytest.raises(UserError, match="'turned' is not among"):
        fake_run(tmp_path, overrides=settings)
