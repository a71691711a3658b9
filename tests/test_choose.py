"""Choosing inside the training groups: the right candidate wins, ties go to less, and nothing outside has a say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_run import fake_run
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import evaluated

from synthimg.config import Config
from synthimg.evaluation.arms import arms_of, available
from synthimg.evaluation.choice import Choice, Recipe, applied, chosen_arm, in_parts, read_choice, summary, write_choice
from synthimg.evaluation.choose import (
    WEIGHTS,
    Inside,
    held_out,
    in_order,
    inner_frames,
    make_choice,
    recipes_of,
    scored,
    usable,
)
from synthimg.evaluation.distance import averaged as average_of
from synthimg.evaluation.distance import neighbour_distance
from synthimg.evaluation.head import Extracted, heads
from synthimg.evaluation.results_file import read_results
from synthimg.metrics.comparison import CHOSEN
from synthimg.metrics.ranking import Ranked, Ranking, least_effort, rank, standard_error
from synthimg.reading import parse
from synthimg.reporting.wording import verdict_on
from synthimg.stages.report import write_report

RARE, COMMON, WIDTH = "defective", "functional", 12


def config_of(**evaluate: Any) -> Config:
    dataset = {"path": "cells", "rare_class": RARE, "prompts": "solar-cell"}
    return parse({"name": "x", "dataset": dataset, "evaluate": {"arms": ["real", "weighted", "synthetic"], **evaluate}})


# ----- rankings and the one-standard-error rule


TWO_FOLDS = Ranked(
    np.array([True, True, False, False, True, False]), np.array([0, 0, 0, 0, 1, 1]), np.array(["a", "a", "b", "c", "d", "e"])
)


def test_images_are_ranked_only_among_those_of_their_fold() -> None:
    """Fold 0: 3 and 1 against 2 and 0, so 1 and 1/2. Fold 1: 9 against 10, so 0, though it outscores all of fold 0."""
    found = rank(np.array([3.0, 1, 2, 0, 9, 10]), TWO_FOLDS)
    assert found.auc == pytest.approx((1 + 0.5 + 0) / 3)
    rare = [(1 - 0.5) / 3, 0, (0 - 0.5) / 3]
    # of fold 0's ordinary images one is outscored by half of the two rare ones, the other by both: in the mean 3/4
    other = [(0.5 - 0.75) * 2 / 3 / 2, (1 - 0.75) * 2 / 3 / 2]
    np.testing.assert_allclose(found.influence, [rare[0], rare[1], *other, rare[2], 0])


def test_a_tie_counts_half() -> None:
    assert rank(np.array([1.0, 1, 1, 0, 5, 5]), TWO_FOLDS).auc == pytest.approx((0.75 + 0.75 + 0.5) / 3)


def test_the_error_by_group_is_taken_where_it_is_larger() -> None:
    """Two images that agree are one: sums 0.2, 0.2, -0.4 by group; by image four squares of 0.1 and one of 0.4."""
    influence = np.array([0.1, 0.1, 0.1, 0.1, -0.4, 0.0])
    images = Ranked(np.array([True] * 5 + [False]), np.zeros(6, np.int64), np.array(["a", "a", "b", "b", "c", "d"]))
    by_group, by_image = (0.04 + 0.04 + 0.16) * 3 / 2, (4 * 0.01 + 0.16) * 5 / 4
    assert by_group > by_image
    assert standard_error(influence, images) == pytest.approx(np.sqrt(by_group))
    opposed = np.array([0.1, -0.1, 0.1, -0.1, 0.0, 0.0])
    assert standard_error(opposed, images) == pytest.approx(np.sqrt(0.04 * 5 / 4))  # the sums by group are all 0


def test_the_error_is_that_of_delong_where_every_image_is_its_own_group() -> None:
    rng = np.random.default_rng(0)
    rare = np.arange(40) < 15
    scores = rng.normal(size=40) + rare
    images = Ranked(rare, np.zeros(40, np.int64), np.arange(40).astype(str))
    wins = (scores[rare, None] > scores[~rare]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 15 + wins.mean(axis=0).var(ddof=1) / 25
    assert standard_error(rank(scores, images).influence, images) == pytest.approx(np.sqrt(variance))


def flat(auc: float, *influence: float) -> Ranking:
    return Ranking(auc, np.array([*influence, 0.0, 0.0]))


FIVE = Ranked(np.array([True] * 3 + [False] * 2), np.zeros(5, np.int64), np.array(list("abcde")))


def test_the_first_within_one_standard_error_of_the_best_is_taken() -> None:
    """The difference 0.1, 0, -0.1 has the error sqrt(0.02 * 3 / 2) = 0.1732."""
    best = flat(0.9, 0.2, 0.0, -0.2)
    near, far = flat(0.73, 0.1, 0.0, -0.1), flat(0.72, 0.1, 0.0, -0.1)
    chosen, beside = least_effort({"far": far, "near": near, "best": best}, FIVE)
    assert chosen == "near"
    assert beside["near"].error == pytest.approx(0.17320508) and beside["near"].behind == pytest.approx(0.17)
    assert beside["far"].behind == pytest.approx(0.18) and beside["best"].error == 0


def test_the_error_is_that_of_the_paired_difference() -> None:
    """Both depend on the same hard images, so the difference between them is sure, and the smaller is not taken."""
    hard = (0.3, 0.0, -0.3)
    assert least_effort({"less": flat(0.80, *hard), "more": flat(0.85, *hard)}, FIVE)[0] == "more"


def test_equals_go_to_the_first() -> None:
    assert least_effort({"less": flat(0.8, 0.1, 0.0, -0.1), "more": flat(0.8, 0.1, 0.0, -0.1)}, FIVE)[0] == "less"


def test_effort_is_methods_then_weight_and_the_better_of_equals_is_first() -> None:
    recipes = recipes_of(["transplant", "procedural"], Recipe((), 0.5, "real"), averaged=False)
    assert len(recipes) == 6 and {recipe.weight for recipe in recipes} == set(WEIGHTS)
    assert len(recipes_of(["procedural"], Recipe((), 0.3, "real"), averaged=False)) == 3
    aucs = {recipe: Ranking(0.9 if "procedural" in recipe.methods else 0.8, np.zeros(5)) for recipe in reversed(recipes)}
    assert list(in_order(aucs)) == [
        "procedural at weight 0.2 beside real",
        "transplant at weight 0.2 beside real",
        "procedural at weight 0.5 beside real",
        "transplant at weight 0.5 beside real",
        "transplant and procedural at weight 0.2 beside real",
        "transplant and procedural at weight 0.5 beside real",
    ]


def test_every_recipe_is_tried_with_and_without_the_distance_where_a_control_has_it() -> None:
    for beside in ("real", "real+distance"):
        recipes = recipes_of(["procedural"], Recipe((), 0.2, beside), averaged=True)
        assert [recipe.name for recipe in recipes] == [
            f"procedural at weight {weight} beside real{score}" for weight in WEIGHTS for score in ("", "+distance")
        ]
        ranks = {recipe: Ranking(0.5, np.zeros(5)) for recipe in reversed(recipes)}
        assert list(in_order(ranks)) == [recipe.name for recipe in recipes]
    assert {recipe.beside for recipe in recipes_of(["text"], Recipe((), 0.2, "real+patches"), True)} == {"real+patches"}


# ----- inner folds


@st.composite
def parts(draw: st.DrawFn) -> pd.DataFrame:
    """Records of one part: groups with images of one or both classes, in all splits."""
    rows = []
    for group in range(draw(st.integers(4, 20))):
        split = draw(st.sampled_from(["train"] * 5 + ["validation", "test", "reserve", "unused"]))
        for label in draw(st.lists(st.sampled_from([RARE, COMMON, COMMON]), min_size=1, max_size=5)):
            rows.append({"id": f"i{len(rows)}", "label": label, "group": f"g{group}", "split": split})
    return pd.DataFrame(rows)


@settings(max_examples=50, deadline=None)
@given(parts())
def test_no_group_is_on_both_sides_of_an_inner_fold_and_every_rare_image_is_held_out_once(frame: pd.DataFrame) -> None:
    frames, note = inner_frames(config_of(), frame)
    outside = (frame["split"] != "train").to_numpy()
    known = frame[~outside]
    rare = known[known["label"] == RARE]
    if len(rare) < 3:
        assert not frames and "too few" in note
        return
    single = rare["group"].nunique() == 1
    assert single == ("one group" in note) or not frames
    assert len(frames) <= (1 if single else 3)
    for inner in frames:
        assert (inner.loc[outside, "split"] == "unused").all()
        held = inner[inner["split"].isin(["test", "validation"])]
        taught = inner[inner["split"] == "train"]
        assert (held["split"] == np.where(held["label"] == RARE, "test", "validation")).all()
        assert len(held) + len(taught) == len(known) and (taught["label"] == RARE).any() != single
        assert not set(held["group"]) & set(taught["group"])
    held_ids = [name for inner in frames for name in inner.loc[inner["split"] == "test", "id"]]
    assert len(held_ids) == len(set(held_ids)) and set(held_ids) <= set(rare["id"])
    if frames:
        images = held_out(frames, RARE)
        assert images.rare.sum() == len(held_ids)


def training(rare: list[str], common: list[str]) -> pd.DataFrame:
    """Training records by their groups; there are validation and test images of both classes, too."""
    labels = [RARE] * len(rare) + [COMMON] * len(common)
    frame = pd.DataFrame({"label": labels, "group": [*rare, *common], "split": "train"})
    extra = pd.DataFrame([
        {"label": label, "group": f"{split}{number}", "split": split}
        for split in ("validation", "test", "reserve") for label in (RARE, COMMON) for number in range(4)
    ])  # fmt: skip
    whole = pd.concat([frame, extra], ignore_index=True)
    return whole.assign(id=[f"i{row}" for row in range(len(whole))])


def test_rare_images_of_one_group_are_held_out_with_its_ordinary_images_alone() -> None:
    frame = training(["g"] * 6, ["g", "g", *(f"c{row}" for row in range(9))])
    (inner,), note = inner_frames(config_of(), frame)
    assert "one group" in note
    assert set(inner.loc[inner["split"].isin(["test", "validation"]), "group"]) == {"g"}
    assert (inner["split"] == "train").sum() == 9


def of_one_group(pictures: float) -> tuple[pd.DataFrame, Extracted, pd.DataFrame]:
    """As `task`, with all rare training images, and twelve ordinary ones, in one group."""
    frame, extracted, made = task(0, pictures)
    one = (frame["split"] == "train") & ((frame["label"] == RARE) | (np.arange(len(frame)) < 21))
    return frame.assign(group=frame["group"].where(~one, "one")), extracted, made


@pytest.mark.parametrize("arms", [["real", "mirrored", "synthetic"], ["real", "mirrored", "distance", "synthetic"]])
def test_with_rare_images_of_one_group_pictures_must_find_it_alone(arms: list[str]) -> None:
    config = config_of(arms=arms, beside="mirrored")
    good, harm = (choose(config, *of_one_group(pictures)) for pictures in (1.0, -1.0))
    assert good.control == harm.control == "mirrored" and set(good.controls) == set(arms) & {"distance"}
    assert good.recipe.methods == ("procedural",) and good.recipe.beside == "mirrored"
    assert harm.recipe == Recipe((), 0.2, "mirrored") and "one group" in harm.note
    assert good.recipes["none"].auc == (0.5 if "distance" not in arms else good.controls["distance"].auc)


def test_two_groups_are_two_inner_folds() -> None:
    frame = training(["g", "g", "g", "h", "h"], [f"c{row}" for row in range(9)])
    frames, note = inner_frames(config_of(), frame)
    assert len(frames) == 2 and not note
    assert {tuple(inner.loc[inner["split"] == "test", "group"].unique()) for inner in frames} == {("g",), ("h",)}


def test_with_a_deployment_ordinary_images_from_there_are_not_ranked_against_rare_ones_from_elsewhere() -> None:
    frame = training([f"g{row}" for row in range(6)], [f"c{row}" for row in range(20)])
    kinds = np.where(np.arange(len(frame)) % 2 == 0, "poly", "mono")
    kinds[:6] = "mono"
    tree = config_of().model_dump()
    tree["dataset"]["deployment"] = {"type": ["poly"]}
    frames, _ = inner_frames(parse(tree), frame.assign(**{"attribute.type": kinds}))
    assert len(frames) == 3
    for inner in frames:
        assert (inner.loc[inner["split"] == "validation", "attribute.type"] == "mono").all()
        assert (inner.loc[inner["split"] == "train", "attribute.type"] == "poly").any()
        held = inner.loc[inner["split"].isin(["test", "validation"]), "group"]
        assert not set(held) & set(inner.loc[inner["split"] == "train", "group"])


def test_pictures_made_from_held_out_images_are_left_out() -> None:
    frame = training(["g", "g", "h"], ["c", "d"])
    inner = frame.assign(split=["train", "train", "test", "train", "validation", *["unused"] * 24])
    made = pd.DataFrame(
        {
            "id": list("abcdef"),
            "method": ["procedural"] * 5 + ["transplant"],
            "source": ["", "i2", "", "", "", ""],
            "ground": ["i3", "i3", "i4", "", "", "i3"],
            "condition": ["", "", "", "i4", "", ""],
        }
    )
    assert usable(inner, made, ("procedural",)) == ["a", "e"]
    assert usable(inner, made, ("procedural", "transplant")) == ["a", "e", "f"]


# ----- the choice itself, on hand-made features


def task(seed: int, pictures: float, count: int = 60) -> tuple[pd.DataFrame, Extracted, pd.DataFrame]:
    """Rare images lie apart along one axis that few images teach.

    Args:
        pictures: where the pictures lie on this axis, 1 being where rare images do; -1 is where they harm.
    """
    rng = np.random.default_rng(seed)
    frame = training([f"g{row}" for row in range(9)], [f"c{row // 2}" for row in range(count)])
    real = rng.normal(size=(len(frame), WIDTH)).astype(np.float32)
    real[(frame["label"] == RARE).to_numpy(), 0] += 2.5
    made = pd.DataFrame({"id": [f"p{row}" for row in range(40)], "method": "procedural", "source": "", "ground": ""})
    features = rng.normal(size=(40, WIDTH)).astype(np.float32)
    features[:, 0] += 2.5 * pictures
    rows = np.flatnonzero(frame["label"] == RARE)
    return frame, Extracted(real, list, lambda _: (rows, real[rows]), features), made


def choose(config: Config, frame: pd.DataFrame, extracted: Extracted, made: pd.DataFrame) -> Choice:
    asked = arms_of(config.evaluate.arms, config.evaluate.beside)
    arms = available(asked, config.evaluate.classifier, accepted=len(made) > 0, reserve=True, rare=True)
    return make_choice(config, frame, extracted, made, arms)


def test_pictures_like_the_rare_images_are_chosen_and_harmful_ones_are_not() -> None:
    config = config_of(synthetic_weight=0.2)
    good = [choose(config, *task(seed, pictures=1.0)) for seed in range(3)]
    harm = [choose(config, *task(seed, pictures=-1.0)) for seed in range(2)]
    assert all(found.recipe.methods == ("procedural",) for found in good)
    assert all(found.recipe.methods == () for found in harm)
    assert all(found.recipes["none"].auc < max(row.auc for row in found.recipes.values()) for found in good)


def test_a_control_that_is_no_better_is_not_chosen_over_one_of_less_effort() -> None:
    """Where a head has seen classes of one size, weights by class change nothing."""
    frame, extracted, made = task(0, pictures=-1.0, count=9)
    found = choose(config_of(), frame, extracted, made)
    assert found.control == "real" and found.recipe == Recipe((), 0.2, "real")
    assert found.controls["weighted"].auc == pytest.approx(found.controls["real"].auc, abs=1e-6)


def test_a_control_that_is_better_beyond_its_error_is_chosen_and_the_images_join_it() -> None:
    frame, extracted, made = task(0, pictures=-1.0)
    rows, _ = extracted.symmetric((1, -1, False))
    views = np.zeros((len(rows), WIDTH), np.float32)
    views[:, 0] = 5.0  # these show what sets rare images apart, without the noise
    config = config_of(arms=["real", "mirrored", "synthetic"])
    found = choose(config, frame, extracted._replace(symmetric=lambda _: (rows, views)), made)
    assert found.control == "mirrored" and found.recipe == Recipe((), 0.2, "mirrored")
    assert found.controls["real"].behind > found.controls["real"].error > 0
    assert found.recipes["none"] == found.controls["mirrored"]._replace(behind=found.recipes["none"].behind, error=0.0)
    assert all(name == "none" or name.endswith("beside mirrored") for name in found.recipes)


def test_an_average_is_that_of_distance_py_within_each_inner_fold() -> None:
    """As the arm `real+distance` of an evaluation whose test images are the fold's held-out ones."""
    frame, extracted, made = task(2, pictures=1.0)
    config = config_of(arms=["real", "distance", "real+distance", "synthetic"])
    frames, _ = inner_frames(config, frame)
    images = held_out(frames, RARE)
    scores = scored(Inside(config, frames, extracted, made), images)
    for number, inner in enumerate(frames):
        rows = images.folds == number
        known = ((inner["split"] == "train") & (inner["label"] == COMMON)).to_numpy()
        held = np.concatenate([np.flatnonzero(inner["split"] == split) for split in ("validation", "test")])
        far, ordinary = neighbour_distance(extracted.real[known], extracted.real[held]), np.flatnonzero(~images.rare[rows])
        for recipe in (Recipe((), 0.2, "real+distance"), Recipe(("procedural",), 0.5, "real+distance")):
            name = "synthetic" if recipe.methods else "real"
            fit = heads(applied(config, recipe), inner, extracted, list(made["id"]))
            expected = average_of(fit(name, 0, list(made["id"])), far, 0, ordinary, 0.95)[:, 0]
            np.testing.assert_array_equal(np.argsort(scores(recipe)[rows]), np.argsort(expected))
        np.testing.assert_array_equal(scores(Recipe((), 0.2, "distance"))[rows], far)


def test_the_distance_is_chosen_where_the_few_rare_images_teach_nothing() -> None:
    """Each rare image is far off in a direction of its own."""
    frame, extracted, made = task(0, pictures=-1.0)
    real = np.random.default_rng(0).normal(size=extracted.real.shape).astype(np.float32)
    rare = np.flatnonzero((frame["label"] == RARE) & (frame["split"] == "train"))
    real[rare, np.arange(len(rare)) + 1] += np.where(np.arange(len(rare)) % 2, 9, -9)
    config = config_of(arms=["real", "distance", "real+distance", "synthetic"], beside="real")
    found = choose(config, frame, extracted._replace(real=real), made)
    assert found.control == "distance" and found.recipe == Recipe((), 0.2, "real")
    assert list(found.controls) == ["real", "distance", "real+distance"] and found.controls["distance"].auc > 0.95
    assert {name.split()[-1] for name in found.recipes} == {"none", "real", "real+distance"}


def test_images_outside_the_training_split_have_no_say() -> None:
    frame, extracted, made = task(1, pictures=1.0)
    before = choose(config_of(), frame, extracted, made)
    outside = (frame["split"] != "train").to_numpy()
    changed = extracted.real.copy()
    changed[outside] = np.random.default_rng(9).normal(size=(outside.sum(), WIDTH)) * 50
    labels = frame["label"].where(~outside, frame["label"].map({RARE: COMMON, COMMON: RARE}))
    groups = frame["group"].where(~outside, "other")
    after = choose(config_of(), frame.assign(label=labels, group=groups), extracted._replace(real=changed), made)
    assert after == before and before.recipe.methods
    inside = extracted.real.copy()
    inside[0] += 9
    assert choose(config_of(), frame, extracted._replace(real=inside), made) != before


@pytest.mark.parametrize("rare", [0, 2])
def test_with_too_few_rare_images_the_configured_recipe_is_kept(rare: int) -> None:
    frame, extracted, made = task(0, pictures=1.0)
    frame["split"] = np.where((frame["label"] == RARE) & (frame["split"] == "train"), "reserve", frame["split"])
    frame.loc[: rare - 1, "split"] = "train"
    found = choose(config_of(beside="weighted", synthetic_weight=0.7), frame, extracted, made)
    assert found.recipe == Recipe(("procedural",), 0.7, "weighted") and found.control == "weighted"
    assert f"{rare} rare" in found.note and not found.recipes


def test_without_images_none_is_chosen() -> None:
    frame, extracted, made = task(0, pictures=1.0)
    nothing = extracted._replace(made=extracted.made[:0])
    found = choose(config_of(), frame, nothing, made[:0])
    assert found.recipe.methods == () and list(found.recipes) == ["none"]


def test_a_choice_is_read_as_it_was_written(tmp_path: Any) -> None:
    found = choose(config_of(), *task(0, pictures=1.0))
    write_choice(tmp_path, found)
    assert read_choice(tmp_path) == found and read_choice(tmp_path / "nowhere") is None


def test_the_chosen_control_is_repeated_and_is_the_synthetic_arm_where_no_image_is_used() -> None:
    table = pd.DataFrame({"arm": ["real", "weighted", "real"], "seed": [0, 0, 1], "score": [0.1, 0.2, 0.3]})
    none = Choice("real", Recipe((), 0.2, "real"), "", {}, {})
    added = none.added(table, synthetic=True)
    assert list(added["arm"]) == [*table["arm"], CHOSEN, CHOSEN, "synthetic", "synthetic"]
    assert list(added.loc[added["arm"] == "synthetic", "score"]) == [0.1, 0.3]
    used = none._replace(recipe=Recipe(("text",), 0.2, "real"))
    assert list(used.added(table, synthetic=True)["arm"]) == [*table["arm"], CHOSEN, CHOSEN]
    assert list(none.added(table, synthetic=False)["arm"]) == [*table["arm"], CHOSEN, CHOSEN]


def test_the_summary_counts_over_the_parts_and_shows_the_first() -> None:
    first = choose(config_of(), *task(0, pictures=1.0))
    other = first._replace(control="weighted", recipe=Recipe((), 0.2, "weighted"), note="why")
    found = summary([first, other, first])
    assert found["controls"] == {"real": 2, "weighted": 1} and found["notes"] == {"why": 1}
    assert found["recipes"] == {first.recipe.name: 2, "none": 1}
    assert [row["name"] for row in found["inner_recipes"] if row["chosen"]] == [first.recipe.name]
    assert [row["name"] for row in found["inner_controls"] if row["chosen"]] == ["real"]


def test_what_was_chosen_is_said_over_all_parts() -> None:
    real = Choice("real", Recipe((), 0.2, "real"), "", {}, {})
    arms = arms_of(["real", "mirrored", "mixup", "weighted"], "real")
    choices = [real._replace(control=name) for name in ["mirrored"] * 3 + ["real"] * 2 + ["mixup", "weighted"]]
    told = "mirror images in 3 of 7 parts, real images alone in 2, mixup in 1, others in 1"
    assert chosen_arm(choices, arms).title == f"the control chosen by inner cross-validation ({told})"
    assert chosen_arm([real], arms).title == "the control chosen by inner cross-validation (real images alone)"
    assert in_parts({"a": 2, "b": 1}, 3) == "a in 2 of 3 parts, b in 1"


# ----- in a run


def of_run(root: Path, **evaluate: Any) -> tuple[Config, Any]:
    """A small run that chooses, and its metrics.json."""
    settings = {"seeds": 1, "bootstrap": 20, "extractor": "efficientnet-lite0", "choose": True, "portions": False} | evaluate
    counts = {
        RARE: {"train": 8, "reserve": 3, "validation": 3, "test": 6},
        COMMON: {"train": 16, "reserve": 0, "validation": 5, "test": 8},
    }
    config = fake_run(root, overrides={"evaluate": settings}, counts=counts)
    evaluated(config)
    return config, json.loads((config.folder / "evaluate" / "metrics.json").read_text())


@pytest.mark.slow
def test_a_run_compares_the_two_chosen_ones(tmp_path: Path) -> None:
    config, found = of_run(tmp_path, arms=["real", "mirrored", "distance", "mirrored+distance", "synthetic", "oracle"])
    recall, choice = found["recall"], read_choice(config.folder / "classify")
    assert choice and recall["best_control"] == recall["matched"]["best_control"] == CHOSEN
    assert recall["choice"]["controls"] == {choice.control: 1} and recall["choice"]["recipes"] == {choice.recipe.name: 1}
    arms = recall["arms"]
    measures = [{k: v for k, v in arms[name].items() if k not in ("title", "words")} for name in (CHOSEN, choice.control)]
    assert measures[0] == measures[1]
    gain = arms["synthetic"]["recall_at_specificity"]["mean"] - arms[CHOSEN]["recall_at_specificity"]["mean"]
    assert recall["gain"]["mean"] == pytest.approx(gain)
    made = pd.read_parquet(config.folder / "generate" / "plan.parquet")
    accepted = pd.read_parquet(config.folder / "filter" / "decisions.parquet").query("accepted")["id"]
    used = made[made["id"].isin(accepted) & made["method"].isin(choice.recipe.methods)]
    assert arms["synthetic"]["n_train"]["synthetic"] == len(used)
    write_report(config)
    page = (config.folder / "report.html").read_text()
    assert "What was chosen" in page and "the control chosen by inner cross-validation" in page
    verdict = " ".join(verdict_on(read_results(config.folder)).sentences())
    assert f"synthetic images: {choice.recipe.name}. Of all controls, " in verdict and "the best control" not in verdict


@pytest.mark.slow
def test_where_none_is_chosen_the_synthetic_arm_is_the_chosen_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    none = Choice("mirrored", Recipe((), 0.2, "mirrored"), "", {}, {})
    monkeypatch.setattr("synthimg.stages.classify.make_choice", lambda *_: none)
    config, found = of_run(tmp_path, arms=["real", "mirrored", "synthetic", "oracle"])
    predictions = pd.read_parquet(config.folder / "classify" / "predictions.parquet")
    scores = {arm: part["score"].to_numpy() for arm, part in predictions.groupby("arm")}
    np.testing.assert_array_equal(scores["synthetic"], scores["mirrored"])
    np.testing.assert_array_equal(scores[CHOSEN], scores["mirrored"])
    assert found["recall"]["gain"]["mean"] == 0 and found["recall"]["arms"]["synthetic"]["n_train"]["synthetic"] == 0
    assert not np.array_equal(scores["oracle"], scores["mirrored"])


@pytest.mark.slow
def test_the_recipe_reaches_the_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was told to do what another chose has the same scores, in its portion without the other method."""
    told, _ = of_run(tmp_path / "told", arms=["real", "mirrored", "synthetic"], beside="mirrored", synthetic_weight=0.9,
                     choose=False, portions=True)  # fmt: skip
    decided = pd.read_parquet(told.folder / "filter" / "decisions.parquet")
    made = pd.read_parquet(told.folder / "generate" / "plan.parquet").merge(decided.query("accepted")[["id"]], on="id")
    first, *others = made["method"].unique()
    chosen = Choice("real", Recipe(tuple(others), 0.9, "mirrored"), "", {}, {})
    monkeypatch.setattr("synthimg.stages.classify.make_choice", lambda *_: chosen)
    config, found = of_run(tmp_path / "chosen", arms=["real", "mirrored", "synthetic"], beside="real", portions=True)
    scores = pd.read_parquet(config.folder / "classify" / "predictions.parquet").query("arm == 'synthetic'")["score"]
    portions = pd.read_parquet(told.folder / "classify" / "portions.parquet")
    without = portions.loc[portions["arm"] == f"without method = {first}", "score"]
    np.testing.assert_allclose(scores.to_numpy(), without.to_numpy(), atol=1e-9)
    assert len(scores) and found["portions"]["sizes"][-1]["synthetic"] == (made["method"] != first).sum()


@pytest.mark.slow
def test_a_fine_tuned_backbone_is_trained_as_heads_chose(tmp_path: Path) -> None:
    arms = ["real", "smote", "synthetic"]
    config, found = of_run(tmp_path, arms=arms, classifier="finetune", steps=1)
    choice = read_choice(config.folder / "classify")
    assert choice and set(choice.controls) == {"real"}  # what the backbone cannot be trained by is no candidate
    assert CHOSEN in found["recall"]["arms"] and "synthetic" in found["recall"]["arms"]
