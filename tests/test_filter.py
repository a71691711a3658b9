"""The filter on a small run folder with planted copies, duplicates and wrong classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import COMMON, RARE, draw, fake_run
from PIL import Image

from synthimg.attributes import captions
from synthimg.config import Config
from synthimg.core.files import CACHE
from synthimg.data.generated import relevance
from synthimg.data.prepared import load
from synthimg.errors import UserError
from synthimg.evaluation.results_quality import RelevanceTest
from synthimg.reading import parse
from synthimg.reporting.relevance import doubts
from synthimg.stages.filter import Known, decide, filter_images, misses, reasons


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, pd.DataFrame, list[str]]:
    """A filtered run: 0 copies a training image, 1 its mirror image, 8 repeats 2, 4 and 5 are of the other class."""
    config = fake_run(tmp_path_factory.mktemp("filter"), planned=14, overrides={"filter": {"confidence": 0.2}})
    run = config.folder
    frame, pixels, _ = load(config)
    original = int(np.flatnonzero((frame["split"] == "train") & (frame["label"] == RARE))[3])
    ids = list(pd.read_parquet(run / "generate" / "plan.parquet")["id"])
    picture = {name: run / "generate" / "images" / f"{name}.png" for name in ids}
    rng = np.random.default_rng(7)
    Image.fromarray(pixels[original]).save(picture[ids[0]])
    Image.fromarray(pixels[original][:, ::-1]).save(picture[ids[1]])
    Image.open(picture[ids[2]]).save(picture[ids[8]])
    for name in ids[4:6]:
        Image.fromarray(draw(rng, COMMON)).save(picture[name])
    filter_images(config)
    return config, pd.read_parquet(run / "filter" / "decisions.parquet"), [frame["id"][original]]


def test_decisions_keep_the_contract(judged: tuple[Config, pd.DataFrame, list[str]]) -> None:
    config, decisions, _ = judged
    plan = pd.read_parquet(config.folder / "generate" / "plan.parquet")
    assert list(decisions["id"]) == list(plan["id"])
    assert list(decisions.columns) == [
        "id", "accepted", "reason", "confidence", "nearest", "distance", "measured.brightness", "measured.contrast",
        "found.brightness",
    ]  # fmt: skip
    assert (decisions["accepted"] == (decisions["reason"] == "")).all()
    assert set(decisions["reason"]) <= {"", "class", "copy", "attribute", "duplicate"}
    frame = load(config).frame
    assert set(decisions["nearest"]) <= set(frame.loc[frame["split"] == "train", "id"])


def test_copies_mirrored_or_not_and_duplicates_are_refused(judged: tuple[Config, pd.DataFrame, list[str]]) -> None:
    _, decisions, original = judged
    assert list(decisions["nearest"][:2]) == original * 2
    assert (decisions["distance"][:2] < 1e-5).all()
    assert not decisions["accepted"][:2].any()
    assert decisions["reason"][8] in ("duplicate", decisions["reason"][2])
    assert not decisions["accepted"][8]


def test_other_classes_are_less_confident(judged: tuple[Config, pd.DataFrame, list[str]]) -> None:
    _, decisions, _ = judged
    assert decisions["confidence"][4:6].mean() < decisions["confidence"][6:].mean()


def test_nothing_but_training_and_validation_images_matters(
    judged: tuple[Config, pd.DataFrame, list[str]], tmp_path: Path
) -> None:
    """Scrambled reserve and test images and labels leave every decision as it was."""
    config, decisions, _ = judged
    frame, pixels, _ = load(config)
    other = config.model_copy(update={"outputs": str(tmp_path)})
    for part in ("dataset", "generate"):
        (other.folder / part).mkdir(parents=True)
        (other.folder / part / "manifest.json").write_bytes((config.folder / part / "manifest.json").read_bytes())
    (other.folder / "config.yaml").write_bytes((config.folder / "config.yaml").read_bytes())
    hidden = frame["split"].isin(["reserve", "test"]).to_numpy()
    frame.loc[hidden, "label"] = frame.loc[hidden, "label"].to_numpy()[::-1]
    changed = np.where(hidden[:, None, None, None], 255 - pixels, pixels)
    np.save(other.folder / "dataset" / "pixels.npy", changed)
    frame.to_parquet(other.folder / "dataset" / "records.parquet")
    (other.folder / "generate" / "images").symlink_to(config.folder / "generate" / "images")
    plan = (config.folder / "generate" / "plan.parquet").read_bytes()
    (other.folder / "generate" / "plan.parquet").write_bytes(plan)
    found = pd.read_parquet(filter_images(other) / "decisions.parquet")
    pd.testing.assert_frame_equal(found, decisions)
    assert relevance(other.folder) == relevance(config.folder)


def test_a_finished_stage_is_left_alone_and_a_killed_one_gives_the_same_bytes(
    judged: tuple[Config, pd.DataFrame, list[str]],
) -> None:
    folder = judged[0].folder / "filter"
    before, when = (folder / "decisions.parquet").read_bytes(), (folder / "decisions.parquet").stat().st_mtime_ns
    relevant = (folder / "relevance.json").read_bytes()
    filter_images(judged[0])
    assert (folder / "decisions.parquet").stat().st_mtime_ns == when
    (folder / "manifest.json").unlink()
    (folder / "decisions.parquet").unlink()
    next((Path(judged[0].outputs) / CACHE / "features").glob("*.npy")).unlink()
    filter_images(judged[0])
    assert (folder / "decisions.parquet").read_bytes() == before
    assert (folder / "relevance.json").read_bytes() == relevant


def test_the_relevance_of_the_accepted_pictures_is_written(judged: tuple[Config, pd.DataFrame, list[str]]) -> None:
    config, decisions, _ = judged
    plan = pd.read_parquet(config.folder / "generate" / "plan.parquet")
    found = RelevanceTest.model_validate(relevance(config.folder))
    assert list(found.methods) == list(plan["method"].unique())
    for name, method in found.methods.items():
        assert method.n_pictures == int((decisions["accepted"] & (plan["method"] == name)).sum())
        assert method.optimistic and method.auc is not None and method.n_rare == 8 and method.n_groups == 4
    assert found.real.n_pictures == 8 and not found.real.optimistic


def test_who_filters_pictures_that_show_nothing_is_warned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of the other class, called rare."""
    overrides = {"filter": {"confidence": 0.0, "attributes": False}}
    config = fake_run(tmp_path, planned=12, overrides=overrides)
    rng = np.random.default_rng(5)
    for picture in sorted((config.folder / "generate" / "images").iterdir()):
        Image.fromarray(draw(rng, COMMON)).save(picture)
    filter_images(config)
    found = RelevanceTest.model_validate(relevance(config.folder))
    warned = [line for line in capsys.readouterr().out.splitlines() if "not shown to resemble" in line]
    assert warned and warned == [f"filter: {text}" for text in doubts(found, RARE)]


def test_a_broken_synthetic_image_is_named(tmp_path: Path) -> None:
    config = fake_run(tmp_path, planned=2)
    picture = next((config.folder / "generate" / "images").iterdir())
    picture.write_bytes(b"half a picture")
    with pytest.raises(UserError, match=picture.name):
        filter_images(config)


def test_missing_stages_are_named(tmp_path: Path) -> None:
    config = fake_run(tmp_path, planned=2)
    (config.folder / "generate" / "manifest.json").unlink()
    with pytest.raises(UserError, match="synthimg generate"):
        filter_images(config)


def decided(
    labels: list[str], training: np.ndarray, synthetic: np.ndarray, held_out: np.ndarray, **settings: object
) -> tuple[pd.DataFrame, float]:
    """Decisions on pictures drawn by a model, from features [N, D] alone; mirror images are far from everything."""
    dataset = {"path": "x", "rare_class": RARE, "prompts": "solar-cell", "consent": {"licence": "x", "scope": ["any"]}}
    config = parse({"name": "x", "dataset": dataset, "filter": settings})
    frame = pd.DataFrame({"id": [f"t{row}" for row in range(len(labels))], "label": labels, "split": "train"})
    rows = pd.DataFrame({"id": [f"s{row}" for row in range(len(synthetic))], "method": "text"})
    aside = np.zeros_like(training)
    aside[:, -1] = 1
    return decide(config, frame, captions.load("solar-cell"), rows, {}, synthetic, Known(training, aside, held_out))


def at(*distances: float, side: float = 1.0) -> np.ndarray:
    """Features at these cosine distances from (1, 0, 0)."""
    cosine = 1 - np.array(distances)
    return np.stack([cosine, side * np.sqrt(1 - cosine**2), np.zeros(len(cosine))], axis=1).astype(np.float32)


def test_the_judge_gives_every_class_the_same_weight_however_many_images_it_has() -> None:
    """Roots of the features: others 0, rare 2. Of a picture at 1, halfway, a balanced judge can tell nothing."""
    labels, training = [COMMON] * 36 + [RARE] * 4, np.repeat([0, 4], [36, 4])[:, None].astype(np.float32)
    table, _ = decided(labels, training, np.array([[0], [1], [4]], np.float32), training[:0])
    low, middle, high = table["confidence"]
    assert middle == pytest.approx(0.5, abs=1e-3)
    assert low == pytest.approx(1 - high, abs=1e-3) and high > 0.55


def test_what_held_out_images_come_as_close_as_decides_what_is_a_copy() -> None:
    """Held-out images at 0.1 to 0.5 from the nearest training image: a quarter of the way along them is 0.2."""
    training, synthetic = at(0, 0), np.concatenate([at(0.19), at(0.21, side=-1)])
    table, threshold = decided(
        [RARE, COMMON], training, synthetic, at(0.5, 0.1, 0.3, 0.2, 0.4), copy_quantile=0.25, confidence=0
    )
    assert threshold == pytest.approx(0.2, abs=1e-6)
    assert table["distance"].tolist() == pytest.approx([0.19, 0.21], abs=1e-6)
    assert table["reason"].tolist() == ["copy", ""] and table["accepted"].tolist() == [False, True]
    assert set(table["nearest"]) == {"t0"}


def test_a_mirror_image_leads_to_its_training_image() -> None:
    mirrored = np.array([[0, 0, 1]], np.float32)
    table, _ = decided([RARE, COMMON], at(0, 0.5), mirrored, at(0.3), confidence=0)
    assert table["nearest"].tolist() == ["t0"] and table["reason"].tolist() == ["copy"]


def test_as_close_as_the_threshold_is_a_copy_and_a_duplicate() -> None:
    synthetic, none = np.array([[1, 0], [0.5, 0.75**0.5]], np.float32), np.zeros(2, bool)
    assert reasons(synthetic, none, np.array([0.25, 0.25 + 1e-9]), none, 0.25).tolist() == ["copy", ""]
    reach = 1 - float(synthetic[0] @ synthetic[1])
    assert reasons(synthetic, none, np.ones(2), none, reach).tolist() == ["", "duplicate"]
    assert reasons(synthetic, none, np.ones(2), none, reach - 1e-6).tolist() == ["", ""]


def test_a_picture_exactly_as_likely_as_asked_for_is_kept() -> None:
    training = at(0, 1)
    one, _ = decided([RARE, COMMON], training, at(0.4), at(0.9), confidence=0)
    again, _ = decided([RARE, COMMON], training, at(0.4), at(0.9), confidence=(found := float(one["confidence"].iloc[0])))
    above, _ = decided([RARE, COMMON], training, at(0.4), at(0.9), confidence=found + 1e-6)
    assert [table["reason"].iloc[0] == "class" for table in (one, again, above)] == [False, False, True]


def test_reasons_come_in_order() -> None:
    synthetic = np.array([[1, 0], [1, 0], [1, 0.001], [0, 1], [0.5, 0.5], [0.5, 0.5]], np.float32)
    unlike, distance = np.array([True, *[False] * 5]), np.array([0, 0.5, 0.5, 0, 0.5, 0.5])
    missed = np.array([True, False, False, True, True, False])
    found = reasons(synthetic, unlike, distance, missed, 0.01)
    assert found.tolist() == ["class", "", "duplicate", "copy", "attribute", ""]  # the last repeats a refused one


def test_only_what_a_model_drew_has_to_look_like_the_rare_class(tmp_path: Path) -> None:
    config = fake_run(tmp_path, planned=6, overrides={"filter": {"confidence": 1.0, "attributes": False}})
    plan = pd.read_parquet(file := config.folder / "generate" / "plan.parquet")
    plan["method"] = ["text", "procedural", "transplant"] * 2
    plan.to_parquet(file)
    filter_images(config)
    decisions = pd.read_parquet(config.folder / "filter" / "decisions.parquet")
    assert ((decisions["reason"] == "class") == (plan["method"] == "text")).all()


def test_a_picture_with_another_attribute_than_asked_for_is_refused(judged: tuple[Config, pd.DataFrame, list[str]]) -> None:
    config, decisions, _ = judged
    asked = pd.read_parquet(config.folder / "generate" / "plan.parquet")["attribute.brightness"]
    missed = decisions["found.brightness"] != asked
    assert missed.any() and not missed.all()
    assert not decisions["accepted"][missed].any()
    assert missed[decisions["reason"] == "attribute"].all()


def test_what_was_not_asked_for_is_no_miss_and_what_cannot_be_told_is_one() -> None:
    rows = pd.DataFrame({"attribute.size": ["small", "large", "", "small"], "attribute.tone": [""] * 4})
    categories = {"found.size": np.array(["small", "small", "large", ""]), "found.tone": np.array(["dark", "", "dark", ""])}
    assert misses(rows, categories).tolist() == [False, True, False, True]


def test_attributes_refuse_nothing_where_they_are_only_reported(tmp_path: Path) -> None:
    config = fake_run(tmp_path, planned=8, overrides={"filter": {"confidence": 0.0, "attributes": False}})
    decisions = pd.read_parquet(filter_images(config) / "decisions.parquet")
    asked = pd.read_parquet(config.folder / "generate" / "plan.parquet")["attribute.brightness"]
    assert (decisions["found.brightness"] != asked).any()
    assert "attribute" not in set(decisions["reason"])


def test_prompts_that_changed_since_the_run_was_prepared_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(captions.find("solar-cell").read_text())
    consent, cells = {"licence": "x", "scope": ["any"]}, str(tmp_path / "cells")
    dataset = {"path": cells, "rare_class": RARE, "prompts": str(file), "consent": consent}
    config = fake_run(tmp_path, planned=4, overrides={"dataset": dataset})
    file.write_text(file.read_text().replace("0.56", "0.5"))
    with pytest.raises(UserError, match=r"words\.yaml: has changed"):
        filter_images(config)
