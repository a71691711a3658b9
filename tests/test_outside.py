"""An arm, a metric and a classifier from outside the package: each is one file, and no line of synthimg is changed."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_run import RARE, fake_run
from tiny import evaluated

from synthimg.config import Config
from synthimg.core.stage import check, is_done
from synthimg.errors import UserError
from synthimg.evaluation.custom import checked
from synthimg.reading import parse
from synthimg.stages.classify import classify_images, made_from
from synthimg.stages.report import write_report

SMALL = {"seeds": 2, "bootstrap": 50, "extractor": "efficientnet-lite0", "portions": False}

ARM = """
from synthimg.evaluation.arms import Arm

def doubled(training, seed):
    return training._replace(counts=training.counts * 2)

DOUBLED = Arm("real images, each counting twice", "images that count twice", balance="loss", resample=doubled)
MINE = Arm("oversampled, and synthetic images", "my synthetic images", balance="draws", synthetic=True)
WRONG = "no arm"
ODD = Arm("the set of {other}", "an odd arm")
"""
METRIC = """
import numpy as np

def shift(sides, seed):
    means = [side.mean(axis=0) for side in (sides.real, sides.synthetic)]
    return {"length": float(np.linalg.norm(means[0] - means[1])), "images": len(sides.synthetic)}

def broken(sides, seed):
    return "far"
"""
CLASSIFIER = """
import numpy as np
from sklearn.linear_model import LogisticRegression

def thumbnails(images):
    side = images.shape[1] // 8
    return images.reshape(len(images), 8, side, 8, side, 3).mean(axis=(2, 4)).reshape(len(images), -1) / 255

def classify(training, queries, classes, seed):
    model = LogisticRegression(max_iter=200)
    model.fit(thumbnails(training.inputs), training.labels, sample_weight=training.counts)
    found = np.zeros((len(queries), classes))
    found[:, model.classes_] = model.predict_proba(thumbnails(queries))
    return found

def bare(training, queries, classes, seed):
    return np.ones(len(queries))

NUMBER = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an installed package `toy`: a module for each thing, and the metadata that pip writes."""
    folder = tmp_path / "site-packages"
    metadata = folder / "toy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    points = {
        "synthimg.arms": {
            "doubled": "toy_arm:DOUBLED", "mine": "toy_arm:MINE", "wrong": "toy_arm:WRONG", "lost": "toy_arm:LOST",
            "odd": "toy_arm:ODD", "gone": "absent:ARM",
        },
        "synthimg.metrics": {"shift": "toy_metric:shift", "broken": "toy_metric:broken"},
    }  # fmt: skip
    lines = [line for group, names in points.items() for line in (f"[{group}]", *(f"{a} = {b}" for a, b in names.items()))]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    modules = {"toy_arm": ARM, "toy_metric": METRIC, "toy_classifier": CLASSIFIER}
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in modules:
        sys.modules.pop(name, None)


def run(root: Path, name: str = "fake", **evaluate: Any) -> Config:
    return fake_run(root, name, overrides={"evaluate": {**SMALL, **evaluate}})


def metrics_of(config: Config) -> Any:
    return json.loads((config.folder / "evaluate" / "metrics.json").read_text())


def test_an_arm_from_outside_is_trained_measured_and_told(package: Path, tmp_path: Path) -> None:
    config = run(tmp_path, arms=["real", "weighted", "doubled", "mine", "synthetic"])
    evaluated(config)
    recall = metrics_of(config)["recall"]
    assert list(recall["arms"]) == ["real", "weighted", "synthetic", "doubled", "mine"]
    assert recall["arms"]["doubled"]["control"] and not recall["arms"]["mine"]["control"]
    assert recall["arms"]["mine"]["n_train"] == recall["arms"]["synthetic"]["n_train"]
    assert recall["best_control"] in ("real", "weighted", "doubled")
    scores = pd.read_parquet(config.folder / "classify" / "predictions.parquet").pivot_table("score", ["id", "seed"], "arm")
    # counts twice as high are half the penalty: as the weighted arm, but surer of itself
    assert np.corrcoef(scores["doubled"], scores["weighted"])[0, 1] > 0.9
    assert scores["doubled"].std() > scores["weighted"].std()
    write_report(config)
    html = (config.folder / "report.html").read_text()
    assert "real images, each counting twice" in html and "oversampled, and synthetic images" in html


def test_synthetic_images_can_join_an_arm_from_outside(package: Path, tmp_path: Path) -> None:
    config = run(tmp_path, arms=["doubled", "synthetic"], beside="doubled", seeds=1)
    evaluated(config)
    recall = metrics_of(config)["recall"]
    assert recall["best_control"] == recall["beside"] == "doubled" and recall["gain"]
    assert recall["arms"]["synthetic"]["n_train"] == {"rare": 8, "other": 10, "synthetic": 12}


def test_they_join_no_arm_that_has_some(package: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a control that synthetic images can join, found 'mine'"):
        run(tmp_path, arms=["real", "mine", "synthetic"], beside="mine")


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("doubeld", r"key 'evaluate\.arms\.1': no arm has this name \(did you mean 'doubled'\?\), found 'doubeld'"),
        ("wrong", r"synthimg\.arms: wrong: expected a synthimg\.evaluation\.arms\.Arm, found str"),
        ("lost", r"entry point 'lost' of synthimg\.arms: 'toy_arm:LOST' cannot be imported"),
        ("odd", r"synthimg\.arms: odd: words 'the set of {other}': expected no fields but {beside}, {weight}"),
        ("gone", r"entry point 'gone' of synthimg\.arms: 'absent:ARM' cannot be imported: no module 'absent'"),
    ],
)
def test_arms_that_are_none_are_refused_by_name(package: Path, tmp_path: Path, arm: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(tmp_path, arms=["real", arm])


def test_a_metric_from_outside_stands_in_extra_and_in_the_report(package: Path, tmp_path: Path) -> None:
    config = run(tmp_path, arms=["real", "synthetic"], metrics=["shift"], seeds=1)
    evaluated(config)
    found = metrics_of(config)["extra"]
    assert set(found) == {"shift"} and found["shift"]["length"] > 0 and found["shift"]["images"] == 12
    write_report(config)
    assert "shift: length" in (config.folder / "report.html").read_text()


def test_metrics_that_are_none_are_refused_by_name(package: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate\.metrics\.0': no installed package .*did you mean 'shift'"):
        run(tmp_path, "a", metrics=["shfit"])
    config = run(tmp_path, "b", arms=["real"], metrics=["broken"], seeds=1)
    with pytest.raises(UserError, match=r"synthimg\.metrics: broken returned 'far', expected a number"):
        evaluated(config)


@pytest.mark.slow
def test_a_classifier_of_ones_own_judges_every_arm_that_is_defined_for_it(package: Path, tmp_path: Path) -> None:
    arms = ["real", "weighted", "oversampled", "augmented", "turned", "focal", "mixup", "smote", "synthetic", "oracle"]
    config = run(tmp_path, classifier="toy_classifier:classify", arms=arms, portions=True)
    evaluated(config)
    recall = metrics_of(config)["recall"]
    assert list(recall["arms"]) == ["real", "weighted", "oversampled", "augmented", "turned", "synthetic", "oracle"]
    assert (recall["classifier"], recall["steps"], recall["gain"] is None) == ("toy_classifier:classify", None, False)
    predictions = pd.read_parquet(config.folder / "classify" / "predictions.parquet")
    seeds = predictions[predictions["seed"] < 2].pivot(index=["arm", "id"], columns="seed", values="score")
    by_chance = (seeds[0] != seeds[1]).groupby("arm").any()
    assert by_chance["oversampled"] and not by_chance["real"]
    # the classes are weighted: rare images are likelier
    means = predictions.groupby("arm")["score"].mean()
    assert means["weighted"] > means["real"] and means["turned"] > means["real"]
    write_report(config)
    assert "classifier: toy_classifier:classify" in (config.folder / "report.html").read_text()


def test_the_classifiers_scores_are_its_own(package: Path, tmp_path: Path) -> None:
    config = run(tmp_path, classifier="toy_classifier:classify", arms=["real"], seeds=1)
    evaluated(config)
    import toy_classifier as toy  # type: ignore[import-not-found]

    records = pd.read_parquet(config.folder / "dataset" / "records.parquet")
    pixels = np.load(config.folder / "dataset" / "pixels.npy")
    model = toy.LogisticRegression(max_iter=200)
    train, test = (records["split"] == "train").to_numpy(), (records["split"] == "test").to_numpy()
    model.fit(toy.thumbnails(pixels[train]), (records["label"][train] != RARE).astype(int))
    expected = dict(zip(records["id"][test], model.predict_proba(toy.thumbnails(pixels[test]))[:, 0], strict=True))
    found = pd.read_parquet(config.folder / "classify" / "predictions.parquet").query("split == 'test'")
    assert len(found) == 11
    np.testing.assert_allclose(found["score"], found["id"].map(expected), atol=1e-9)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("absent:classify", "'absent:classify' cannot be imported: no module 'absent'; install it, or put its folder"),
        ("toy_classifier:lost", "'toy_classifier:lost' cannot be imported: module 'toy_classifier' has no attribute 'lost'"),
        ("toy_classifier:NUMBER", "'toy_classifier:NUMBER' is no function but a int"),
        ("toy_classifier:bare", r"toy_classifier:bare returned an array of shape \[18\], expected \[18, 2\]"),
    ],
)
def test_classifiers_that_are_none_are_refused_by_name(package: Path, tmp_path: Path, reference: str, words: str) -> None:
    config = run(tmp_path, classifier=reference, arms=["real"], seeds=1)
    with pytest.raises(UserError, match=f"evaluate.classifier: {words}"):
        evaluated(config)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (np.ones((3, 2)), r"\[1.0, 1.0\] in row 0, expected probabilities from 0 to 1 that add up to 1"),
        (np.array([[0.5, 0.5], [1.5, -0.5], [1, 0]]), r"\[1.5, -0.5\] in row 1, expected probabilities"),
        (np.array([[0.5, 0.5], [0.5, np.nan], [1, 0]]), r"\[0.5, nan\] in row 1, expected finite"),
        (np.ones((2, 3)), r"an array of shape \[2, 3\], expected \[3, 2\]"),
        ("no", r"str, expected an array of numbers \[3, 2\]"),
        (None, r"an array of shape \[\], expected \[3, 2\]"),
    ],
)
def test_what_is_no_probability_is_refused(returned: Any, words: str) -> None:
    with pytest.raises(UserError, match=f"evaluate.classifier: my:own returned {words}"):
        checked(returned, 3, 2, "my:own")
    good = [[0.25, 0.75], [1, 0], [0.5, 0.5004]]
    np.testing.assert_array_equal(checked(good, 3, 2, "my:own"), good)


def test_a_changed_file_of_the_classifier_is_another_evaluation(package: Path, tmp_path: Path) -> None:
    config = run(tmp_path, classifier="toy_classifier:classify", arms=["real"], seeds=1)
    folder = classify_images(config)
    assert check(config) and is_done(folder, made_from(config))
    (package / "toy_classifier.py").write_text(CLASSIFIER + "# changed\n")
    assert not is_done(folder, made_from(config))


def test_an_unknown_classifier_and_a_control_it_cannot_train_are_refused() -> None:
    tree = {"name": "a", "dataset": {"path": "b", "rare_class": "c", "prompts": "solar-cell"}}
    with pytest.raises(UserError, match=r"evaluate\.classifier': expected head, finetune, or module:function, found 'haed'"):
        parse({**tree, "evaluate": {"classifier": "haed"}})
    with pytest.raises(UserError, match=r"'mixup' cannot be trained with evaluate\.classifier: toy_classifier:classify"):
        parse({**tree, "evaluate": {"classifier": "toy_classifier:classify", "beside": "mixup"}})
    with pytest.raises(UserError, match=r"evaluate\.beside': expected a control that synthetic images can join"):
        parse({**tree, "evaluate": {"beside": "smote"}})


@pytest.mark.slow
def test_the_examples_of_the_page_on_extending_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Followed as written: each file saved under its name, each entry point installed, each key set."""
    text = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
    sections = [part for part in text.split("\n## ") if part.startswith(("An arm", "A metric", "A classifier"))]
    folder, settings = tmp_path / "site-packages", dict(SMALL)
    metadata = folder / "mine-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    points = []
    for section in sections:
        code = section.split("```python\n")[1].split("```")[0]
        (folder / code.splitlines()[0].removeprefix("# ")).write_text(code)
        for toml in section.split("```toml\n")[1:]:
            for group, names in tomllib.loads(toml.split("```")[0])["project"]["entry-points"].items():
                points += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
        settings |= yaml.safe_load(next(line for line in section.splitlines() if line.startswith("    evaluate:")))[
            "evaluate"
        ]
    (metadata / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(str(folder))
    config = run(tmp_path, **settings)
    evaluated(config)
    found = metrics_of(config)
    assert len(sections) == 3 and list(found["recall"]["arms"]) == ["real", "mirrored", "synthetic", "oracle", "both"]
    assert 0 < found["extra"]["spread"] < 10 and found["recall"]["classifier"] == "my_classifier:classify"
