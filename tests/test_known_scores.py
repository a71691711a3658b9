"""A run whose classifiers' probabilities are known: every number of metrics.json beside one worked out by hand.

The test split has 6 rare images in 3 groups (a: 1 image, b: 2, c: 3) and 8 others in 4 groups (functional d: 2, e: 3;
dirty f: 1, g: 2). There are two seeds. Scores tie with the thresholds, with each other, and across labels.

Interval ends can be worked out because so few groups leave few different resamples. Of the rare class three groups are
drawn from three, so each of the 27 ordered draws has chance 0.037. A draw of one group three times is therefore beyond the
2.5 % point but within the 5 % point: a 90 % interval ends elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_run import fake_run
from tiny import evaluated

from synthimg.config import Config
from synthimg.core.files import write_table
from synthimg.stages.classify import _file_name

RARE = "defective"
CLASSES = ["defective", "dirty", "functional"]
COUNTS = {
    "defective": {"train": 3, "reserve": 1, "validation": 2, "test": 6},
    "functional": {"train": 3, "reserve": 0, "validation": 3, "test": 5},
    "dirty": {"train": 2, "reserve": 0, "validation": 1, "test": 3},
}
SETTINGS = {
    "seeds": 2, "specificity": 0.75, "bootstrap": 20000, "portions": False, "extractor": "efficientnet-lite0",
    "arms": ["real", "weighted", "synthetic", "oracle"],
}  # fmt: skip
GROUPS = {"defective": "abbccc", "functional": "ddeee", "dirty": "fgg"}

# The other validation images have 0.2 0.4 0.4 0.9 and 0.3 0.3 0.5 0.6: three of four are not above 0.4, and 0.5.
# With the rare ones among them the thresholds would be 0.9 and 0.7.
VALIDATION = {
    0: {"defective": [0.1, 0.95], "functional": [0.2, 0.4, 0.9], "dirty": [0.4]},
    1: {"defective": [0.7, 0.8], "functional": [0.6, 0.3, 0.3], "dirty": [0.5]},
}
THRESHOLDS = {0: 0.4, 1: 0.5}
TEST = {
    ("real", 0): {"defective": [0.1, 0.1, 0.7, 0.6, 0.1, 0.1], "functional": [0.1] * 5, "dirty": [0.1] * 3},
    ("real", 1): {"defective": [0.1, 0.1, 0.7, 0.6, 0.1, 0.1], "functional": [0.1] * 5, "dirty": [0.1] * 3},
    ("weighted", 0): {"defective": [0.4, 0.1, 0.8, 0.9, 0.2, 0.6],
                      "functional": [0.4, 0.5, 0.1, 0.2, 0.1], "dirty": [0.3, 0.1, 0.6]},
    ("weighted", 1): {"defective": [0.2, 0.3, 0.7, 0.8, 0.1, 0.5],
                      "functional": [0.1, 0.5, 0.6, 0.1, 0.1], "dirty": [0.2, 0.1, 0.1]},
    ("synthetic", 0): {"defective": [0.9, 0.6, 0.8, 0.7, 0.3, 0.4],
                       "functional": [0.1, 0.5, 0.1, 0.1, 0.1], "dirty": [0.6, 0.1, 0.1]},
    ("synthetic", 1): {"defective": [0.8, 0.5, 0.7, 0.9, 0.2, 0.1],
                       "functional": [0.1, 0.1, 0.1, 0.1, 0.1], "dirty": [0.1, 0.5, 0.1]},
    ("oracle", 0): {"defective": [0.9, 0.9, 0.9, 0.9, 0.1, 0.9], "functional": [0.1] * 5, "dirty": [0.1] * 3},
    ("oracle", 1): {"defective": [0.9, 0.9, 0.9, 0.9, 0.1, 0.9], "functional": [0.1] * 5, "dirty": [0.1] * 3},
}  # fmt: skip


def probabilities(score: float, likelier: str) -> list[float]:
    """[3] in the order of CLASSES: three quarters of what the rare class leaves go to `likelier`.

    The most probable label is the rare one for scores of 0.5 and more, `likelier` for scores up to 0.4.
    """
    left = {"dirty": 0.25, "functional": 0.25} | {likelier: 0.75}
    return [score, *((1 - score) * left[name] for name in CLASSES[1:])]


def known(arm: str, seed: int) -> np.ndarray:
    """[images, 3] of one classifier: validation, then test, each class in the order of COUNTS."""
    rows = []
    for part in (VALIDATION[seed], TEST[arm, seed]):
        for label, scores in part.items():
            for index, score in enumerate(scores):
                # the second dirty image (of the test split: the first of group g) is taken for a functional one
                likelier = "dirty" if label == "dirty" and index != 1 else "functional"
                rows.append(probabilities(score, likelier))
    return np.array(rows)


def judged_by(config: Config) -> Path:
    """Evaluate, put the known probabilities in place of the classifiers', and evaluate again.

    An evaluation that was killed goes on from the probabilities that it kept, so those are the place for them.
    """
    folder = evaluated(config).parent
    kept = list((folder / "classify" / "checkpoints").rglob("*.npy"))
    named = {f"{_file_name(arm)}-{seed}": (arm, seed) for arm, seed in TEST}
    assert {file.stem for file in kept} == set(named)
    for file in kept:
        np.save(file, known(*named[file.stem]))
    for name in ("predictions.parquet", "thresholds.parquet", "manifest.json", "key.json"):
        (folder / "classify" / name).unlink()
    for name in ("metrics.json", "manifest.json", "key.json"):
        (folder / "evaluate" / name).unlink()
    return evaluated(config).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = fake_run(
        tmp_path_factory.mktemp("known"), overrides={"evaluate": SETTINGS}, counts=COUNTS, accepted=2, planned=4
    )
    path = config.folder / "dataset" / "records.parquet"
    records = pd.read_parquet(path)
    for label, groups in GROUPS.items():
        records.loc[(records["label"] == label) & (records["split"] == "test"), "group"] = list(groups)
    write_table(path, records)
    return judged_by(config)


@pytest.fixture(scope="module")
def metrics(folder: Path) -> Any:
    return json.loads((folder / "evaluate" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def recall(metrics: Any) -> Any:
    return metrics["recall"]


def spread(mean: float, low: float, high: float) -> dict[str, Any]:
    return {"mean": pytest.approx(mean, abs=1e-9), "ci95": pytest.approx([low, high], abs=1e-9)}


def test_thresholds_come_from_the_other_classes_of_validation(folder: Path) -> None:
    found = pd.read_parquet(folder / "classify" / "thresholds.parquet")
    assert len(found) == 8
    assert found["threshold"].tolist() == [THRESHOLDS[seed] for seed in found["seed"]]


def test_predictions_are_the_known_ones(folder: Path) -> None:
    found = pd.read_parquet(folder / "classify" / "predictions.parquet")
    part = found[(found["arm"] == "weighted") & (found["seed"] == 0) & (found["split"] == "test")]
    assert part["score"].tolist() == [score for scores in TEST["weighted", 0].values() for score in scores]
    of_dirty = part.loc[part["label"] == "dirty", "predicted"].tolist()
    assert of_dirty == ["dirty", "functional", "defective"]


def test_images_and_groups_are_counted_apart(metrics: Any) -> None:
    counts = metrics["n"]
    assert (counts["test_rare"], counts["test_other"], counts["test_rare_groups"]) == (6, 8, 3)
    assert (counts["train_rare"], counts["reserve_rare"], counts["train_other"]) == (3, 1, 5)
    assert (counts["planned"], counts["generated"], counts["accepted"]) == (4, 4, 2)


def test_recall_at_the_threshold(recall: Any) -> None:
    """Hits need a score above the threshold: the ties at 0.4 (first seed) and 0.5 (second) are misses."""
    found = {name: arm["recall_at_specificity"] for name, arm in recall["arms"].items()}
    # control: second of b, first and third of c; then second of b, first of c: 3 / 6 and 2 / 6.
    # Mean hits by group: a 0 of 1, b 1 of 2, c 1.5 of 3. Lowest resample: a alone. Highest: all without a, each 1 / 2.
    assert found["weighted"] == spread(5 / 12, 0, 1 / 2)
    # synthetic: 4 / 6 and 3 / 6; by group: a 1 of 1, b 1.5 of 2, c 1 of 3. Lowest: c alone, 1 / 3. Highest: a alone, 1.
    assert found["synthetic"] == spread(7 / 12, 1 / 3, 1)
    # real: b 1 of 2, c 1 of 3. Lowest: a alone. Highest: b alone.
    assert found["real"] == spread(1 / 3, 0, 1 / 2)
    assert recall["arms"]["weighted"]["per_seed"]["recall_at_specificity"] == pytest.approx([1 / 2, 1 / 3])
    assert recall["arms"]["synthetic"]["per_seed"]["recall_at_specificity"] == pytest.approx([2 / 3, 1 / 2])


def test_recall_by_the_most_probable_label(recall: Any) -> None:
    """Rare are scores of 0.5 and more, the tie of the second seed among them."""
    # b 1 of 2 in both seeds, c 2 of 3: resamples without a reach c alone, 2 / 3
    assert recall["arms"]["weighted"]["recall"] == spread(1 / 2, 0, 2 / 3)
    assert recall["arms"]["synthetic"]["per_seed"]["recall"] == pytest.approx([2 / 3, 2 / 3])


def test_gain_over_the_best_control(recall: Any) -> None:
    assert recall["best_control"] == "weighted"
    # Differences, averaged over the seeds: a 1; b 1/2, 0; c 0, 0, -1/2. Their mean is 1 / 6.
    # Lowest resample: c alone, -1/2 of 3 images. Highest: a alone, 1. (A 90 % interval: -1/16 and 5/8.)
    assert recall["gain"] == spread(1 / 6, -1 / 6, 1) | {"p": 1.0}  # one image is won by both seeds, none lost
    # the oracle hits 10 / 12: its lead is 5 / 12, of which the gain is two fifths
    assert recall["oracle_gap_closed"] == pytest.approx(2 / 5)


def test_specificity(recall: Any) -> None:
    found = recall["arms"]
    # Above the threshold: second of d, second of g; then first of e: 6 / 8 and 7 / 8 are not.
    # Mean by group: d 1.5 of 2, e 2.5 of 3, f 1 of 1, g 1.5 of 2. Functional and dirty are drawn apart, two groups each:
    # lowest d twice and g twice, 6 / 8; highest e twice and f twice, 7 / 8; each has chance 1 / 16.
    assert found["weighted"]["specificity_at_threshold"] == spread(13 / 16, 3 / 4, 7 / 8)
    # By the most probable label: second of d, second of g; then second of d, first of e.
    # By group: d 1 of 2, e 2.5 of 3, f 1 of 1, g 1.5 of 2: lowest d and g, 5 / 8; highest e and f, 7 / 8.
    assert found["weighted"]["specificity"] == spread(3 / 4, 5 / 8, 7 / 8)
    # Differences: d 0, e 1/2, f -1/2, g 1/2. Lowest: d and f twice, -1 of 6 images. Highest: e and g twice, 2 of 10.
    assert recall["common"]["specificity_change"] == spread(1 / 16, -1 / 6, 1 / 5)


def test_where_nothing_varies_the_interval_counts_groups_not_images(recall: Any) -> None:
    # no other image is above: the chance of seeing none in 4 groups is 0.05 where the share is 1 - 0.05 ** (1 / 4)
    low = 0.05 ** (1 / 4)
    assert recall["arms"]["real"]["specificity_at_threshold"] == spread(1, low, 1)
    assert low == pytest.approx(0.47, abs=0.003)


def test_area_under_the_curve(recall: Any) -> None:
    # Pairs won, ties half. First seed: 5.5 + 1.5 + 8 + 8 + 3.5 + 7.5 = 34; second: 5.5 + 6 + 8 + 8 + 2.5 + 6.5 = 36.5.
    assert recall["arms"]["weighted"]["auc"]["mean"] == pytest.approx((34 + 36.5) / 2 / 48)
    # the oracle: five images win all 8 pairs, the second of c ties in all 8
    assert recall["arms"]["oracle"]["auc"]["mean"] == pytest.approx(44 / 48)


def test_other_classes_and_the_confusion(recall: Any) -> None:
    # functional: 4 and 3 of 5 right; dirty: 1 and 2 of 3
    assert recall["arms"]["weighted"]["other_recall"] == pytest.approx({"functional": 0.7, "dirty": 0.5})
    assert recall["confusion"]["weighted"] == {
        "defective": {"defective": 3.0, "dirty": 0.0, "functional": 3.0},
        "dirty": {"defective": 0.5, "dirty": 1.5, "functional": 1.0},
        "functional": {"defective": 1.5, "dirty": 0.0, "functional": 3.5},
    }


def test_at_equal_specificity_on_the_test_images(recall: Any) -> None:
    """Six of the eight others may not be above: the sixth lowest score is the threshold."""
    # control: 0.4 and 0.2, so 3 and 4 hits; synthetic: 0.1 twice, so 6 and 5; real and oracle: 0.1, so 2 and 5 twice
    expected = {"real": 4 / 12, "weighted": 7 / 12, "synthetic": 11 / 12, "oracle": 10 / 12}
    assert recall["matched"]["recall"] == pytest.approx(expected)
    assert recall["matched"]["best_control"] == "weighted"
    # Hits: ours all but the third of c in the second seed; theirs a 0, b .5 + 1, c 1 + 0 + 1.
    # Differences: a 1; b 1/2, 0; c 0, 1, 1/2 - 1. Mean 2 / 6. Lowest: c alone, 1/2 of 3. Highest: a alone, 1.
    assert recall["matched"]["gain"]["mean"] == pytest.approx(1 / 3)
    assert recall["matched"]["gain"]["ci95"] == pytest.approx([1 / 6, 1])


def test_the_curve_has_the_same_recall_where_it_meets_the_specificity(recall: Any) -> None:
    levels, arms = recall["curve"]["specificity"], recall["curve"]["arms"]
    at = levels.index(0.75)
    assert set(arms) == {"weighted", "synthetic", "oracle"}
    assert {name: arm["mean"][at] for name, arm in arms.items()} == pytest.approx(
        {"weighted": 7 / 12, "synthetic": 11 / 12, "oracle": 10 / 12}
    )
    # specificity 1 - 0.25 / 5 = 0.95 of 8 is all of them: the highest other score, 0.6 and 0.6; control hits .8 .9, .7 .8
    assert arms["weighted"]["mean"][levels.index(0.95)] == pytest.approx(4 / 12)


def test_what_each_arm_learnt_from(recall: Any) -> None:
    assert {name: arm["n_train"] for name, arm in recall["arms"].items()} == {
        "real": {"rare": 3, "other": 5, "synthetic": 0}, "weighted": {"rare": 3, "other": 5, "synthetic": 0},
        "synthetic": {"rare": 3, "other": 5, "synthetic": 2}, "oracle": {"rare": 4, "other": 5, "synthetic": 0},
    }  # fmt: skip
