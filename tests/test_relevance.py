"""The relevance test on features made by hand: what shows the rare class, what does not, and what only gives images away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_run import fake_relevance

from synthimg.evaluation.relevance import FOLDS, Real, deal, measure_relevance, pooled_relevance, resemblance
from synthimg.evaluation.results_quality import Relevance, RelevanceTest
from synthimg.reporting.relevance import doubts, relevance_rows, relevant, words

RARE, COMMON, WIDTH, SHOWN = "crack", "intact", 128, 9.0


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Noise [count, WIDTH]; what the rare class shows is a shift of the first column."""
    found = np.random.default_rng(seed).standard_normal((count, WIDTH))
    found[:, 0] += shift
    return found.astype(np.float32)


def records(label: str, groups: list[str], start: str) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"{start}{row}" for row in range(len(groups))], "label": label, "group": groups})


def joined(*parts: Real) -> Real:
    return Real(pd.concat([part.frame for part in parts]), np.concatenate([part.features for part in parts]))


def training(rare: int = 24, shift: float = SHOWN) -> Real:
    """120 ordinary images of 40 groups and some rare ones, two a group; the groups are apart."""
    ordinary = Real(records(COMMON, [f"c{row // 3}" for row in range(120)], "c"), features(120, 1))
    return joined(ordinary, Real(records(RARE, [f"r{row // 2}" for row in range(rare)], "r"), features(rare, 2, shift)))


def held_out() -> Real:
    """60 ordinary images of 20 groups, and rare ones which must not count: they are farther out than all others."""
    ordinary = Real(records(COMMON, [f"h{row // 3}" for row in range(60)], "h"), features(60, 3))
    return joined(ordinary, Real(records(RARE, ["x"] * 9, "x"), features(9, 4, 2 * SHOWN)))


def plan(method: str, count: int, sources: list[str] | None = None) -> pd.DataFrame:
    made = {"id": [f"{method}{row}" for row in range(count)], "method": method, "accepted": True, "ground": ""}
    return pd.DataFrame(made).assign(source=sources or "")


def measured(rows: pd.DataFrame, synthetic: np.ndarray, real: Real | None = None) -> dict[str, Any]:
    return measure_relevance(rows, synthetic, training() if real is None else real, held_out(), RARE, seed=0)


def copies(real: Real) -> tuple[pd.DataFrame, np.ndarray]:
    """Transplants that are the rare images themselves, each with its source."""
    rare = (real.frame["label"] == RARE).to_numpy()
    return plan("transplant", int(rare.sum()), real.frame["id"][rare].tolist()), real.features[rare]


def test_pictures_of_what_the_rare_class_shows_rank_its_images_high_and_others_do_not() -> None:
    """Pictures with the shift of the rare class, and pictures with a shift of another column."""
    other = features(40, 6)
    other[:, 1] += SHOWN
    rows = pd.concat([plan("procedural", 40), plan("from_common", 40)])
    found = measured(rows, np.concatenate([features(40, 5, SHOWN), other]))["methods"]
    assert list(found) == ["procedural", "from_common"]
    good, bad = found.values()
    assert good["auc"] > 0.93 and good["ci95"][0] > 0.85
    assert 0.3 < bad["auc"] < 0.7 and bad["ci95"][0] < 0.5 < bad["ci95"][1]
    assert {name: good[name] for name in ("n_rare", "n_groups", "n_pictures")} == {
        "n_rare": 24, "n_groups": 12, "n_pictures": 40,
    }  # fmt: skip
    assert not good["optimistic"] and bad["optimistic"]  # a model that was trained on the rare images drew the latter


def test_copies_of_rare_images_that_share_nothing_do_not_look_relevant() -> None:
    """Rare images are noise here: a picture is near its own original alone. Without their sources the same ones shine."""
    real = training(shift=0.0)
    rows, synthetic = copies(real)
    honest = measured(rows, synthetic, real)["methods"]["transplant"]
    fooled = measured(rows.assign(source=""), synthetic, real)["methods"]["transplant"]
    assert fooled["auc"] > 0.9
    assert honest["auc"] < 0.65 and honest["ci95"][0] < 0.5
    assert honest["n_rare"] == 24


@pytest.mark.parametrize("column", ["source", "condition", "donor"])
def test_the_record_a_picture_is_made_from_may_be_named_in_any_column(column: str) -> None:
    real = training(shift=0.0)
    rows, synthetic = copies(real)
    moved = rows.rename(columns={"source": column})
    assert measured(moved, synthetic, real) == measured(rows, synthetic, real)


def test_pictures_of_the_same_group_give_an_image_away_as_well() -> None:
    """Both images of a group are alike, and each picture shows the other one."""
    real = training(shift=0.0)
    rare = np.flatnonzero(real.frame["label"] == RARE)
    real.features[rare[1::2]] = real.features[rare[::2]]
    rows, synthetic = copies(real)
    assert measured(rows, synthetic, real)["methods"]["transplant"]["auc"] < 0.65


def test_pictures_on_an_ordinary_image_of_the_group_are_left_out_as_well() -> None:
    """One ordinary image of each rare group is the ground of pictures that give the rare images of the group away."""
    real = training(shift=0.0)
    real.frame["group"] = [*[f"r{row}" for row in range(12)], *real.frame["group"][12:]]
    rows, synthetic = copies(real)
    grounds = rows.assign(source="", ground=[f"c{row // 2}" for row in range(24)])
    assert measured(grounds, synthetic, real) == measured(rows, synthetic, real)


def test_ordinary_images_of_the_groups_of_rare_ones_do_not_hold_these_down() -> None:
    """Groups with a look of their own (column 2): a head that knows its ordinary images ranks the rare ones of it low."""
    real = training()
    real.frame["group"] = [f"r{row // 10}" for row in range(120)] + [f"r{row // 2}" for row in range(24)]
    look = np.random.default_rng(8).standard_normal((12, WIDTH)) * 2
    real = Real(real.frame, real.features + look[[int(group[1:]) for group in real.frame["group"]]].astype(np.float32))
    rows, synthetic = plan("procedural", 40), features(40, 5, SHOWN)
    apart = Real(real.frame.assign(group=[f"{row}" for row in range(len(real.frame))]), real.features)
    left_out, known = (measured(rows, synthetic, one)["methods"]["procedural"]["auc"] for one in (real, apart))
    assert left_out > known + 0.05


def test_real_images_in_place_of_pictures_are_ranked_by_other_groups() -> None:
    alike, noise = (measured(plan("procedural", 1), features(1, 5), training(shift=shift))["real"] for shift in (SHOWN, 0.0))
    assert alike["auc"] > 0.93 and alike["n_pictures"] == 24
    assert noise["auc"] < 0.65 and not noise["optimistic"]


def test_refused_pictures_do_not_count() -> None:
    rows = pd.concat([plan("procedural", 40), plan("procedural", 40).assign(accepted=False)])
    good, wrong = features(40, 5, SHOWN), features(40, 6, -SHOWN)
    found = measured(rows, np.concatenate([good, wrong]))
    assert found == measured(rows[:40], good)


def test_what_cannot_be_told_has_a_reason() -> None:
    rows, synthetic = plan("procedural", 40), features(40, 5, SHOWN)
    none, two = (measured(rows, synthetic, training(rare=count)) for count in (0, 2))
    assert none["methods"]["procedural"]["auc"] is none["real"]["auc"] is None
    assert [found["methods"]["procedural"]["reason"][-11:] for found in (none, two)] == ["there are 0", "there are 2"]
    assert measured(rows, synthetic, training(rare=3))["methods"]["procedural"]["n_rare"] == 3
    refused = measured(rows.assign(accepted=False), synthetic)["methods"]["procedural"]
    assert refused["auc"] is None and "accepted" in refused["reason"]
    rare_only = held_out()
    rare_only = rare_only.where((rare_only.frame["label"] == RARE).to_numpy())
    alone = measure_relevance(rows, synthetic, training(), rare_only, RARE, 0)["methods"]["procedural"]
    assert alone["auc"] is None and "validation" in alone["reason"]


def test_images_of_one_group_get_no_interval_and_pictures_made_from_them_no_value() -> None:
    real = training()
    real.frame.loc[real.frame["label"] == RARE, "group"] = "r0"
    drawn = measured(plan("procedural", 40), features(40, 5, SHOWN), real)["methods"]["procedural"]
    assert drawn["auc"] > 0.93 and drawn["ci95"] is None and drawn["n_groups"] == 1
    made = measured(*copies(real), real)["methods"]["transplant"]
    assert made["auc"] is None and "whose groups these pictures do not show" in made["reason"]
    few = training(rare=4)  # of two groups: pictures made from one can only rank the two images of the other
    rows, synthetic = copies(few)
    left = measured(rows[:2], synthetic[:2], few)["methods"]["transplant"]
    assert left["auc"] is None and left["reason"] == made["reason"]


def test_a_perfect_order_of_a_few_groups_is_not_certain() -> None:
    """Four groups without an exception: up to 1 - 0.05^(1/4) = 0.527 of all groups may be no better than chance."""
    real = training(rare=8, shift=40.0)
    found = measured(plan("procedural", 40), features(40, 5, 40.0), real)["methods"]["procedural"]
    assert found["auc"] == 1.0
    assert found["ci95"] == pytest.approx([1 - 0.527 / 2, 1.0], abs=1e-3)


def test_the_interval_draws_whole_groups() -> None:
    """Of two groups with 12 images each, one is ranked above all others and one below: a resample has 0, 1/2 or 1."""
    real = training(shift=0.0)
    rare = np.flatnonzero(real.frame["label"] == RARE)
    real.frame["group"] = [*real.frame["group"][: rare[0]], *["r0"] * 12, *["r1"] * 12]
    real.features[rare[:12], 0], real.features[rare[12:], 0] = 40, -40
    found = measured(plan("procedural", 40), features(40, 5, 40.0), real)["methods"]["procedural"]
    assert found["auc"] == pytest.approx(0.5) and found["ci95"] == [0.0, 1.0]


def test_the_interval_draws_whole_groups_of_ordinary_images_too() -> None:
    """Of three held-out groups one is ranked above all rare images: a resample has 0 to 3 of its kind."""
    others = Real(records(COMMON, [f"h{row // 10}" for row in range(30)], "h"), features(30, 3))
    others.features[:, 0] = np.repeat([-60, -60, 60], 10)
    rows = plan("procedural", 40)
    found = measure_relevance(rows, features(40, 5, SHOWN), training(), others, RARE, 0)["methods"]["procedural"]
    assert found["auc"] == pytest.approx(2 / 3) and found["ci95"] == pytest.approx([0.0, 1.0])


def test_images_that_cannot_be_told_apart_tie() -> None:
    """Half of the held-out images are the one rare picture that all show; the others lie below it: 0.5 * 0.5 + 0.5."""
    real = training(shift=0.0)
    rare = (real.frame["label"] == RARE).to_numpy()
    real.features[rare] = features(1, 9, SHOWN)
    others = Real(records(COMMON, [f"h{row}" for row in range(20)], "h"), np.repeat(features(1, 9, SHOWN), 20, axis=0))
    others.features[10:, 0] = -60
    found = measure_relevance(plan("procedural", 40), features(40, 5, SHOWN), real, others, RARE, 0)
    assert found["methods"]["procedural"]["auc"] == pytest.approx(0.75)


def test_few_pictures_weigh_as_much_as_many_ordinary_images() -> None:
    """Roots of the features: ordinary images -1 and 1, pictures 3 and 5. Of an image at 2, halfway, nothing can be told."""
    ordinary = np.tile(np.array([[-1], [1]], np.float32), (18, 1))
    pictures = np.tile(np.array([[9], [25]], np.float32), (2, 1))
    found = resemblance(ordinary, pictures, np.array([[0], [4], [16]], np.float32))
    assert found[1] == pytest.approx(0.5, abs=1e-3) and found[0] == pytest.approx(1 - found[2], abs=1e-3)


def test_folds_keep_groups_together_and_follow_from_the_seed() -> None:
    groups = np.array([f"g{row // 3}" for row in range(40)])
    folds = deal(groups, 0)
    assert set(folds) == set(range(FOLDS))
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert (deal(groups[::-1], 0)[::-1] == folds).all() and (deal(groups, 1) != folds).any()
    assert set(deal(np.array(["a", "b", "b"]), 0)) == {0, 1}


def part(auc: float | None, ci95: list[float] | None, optimistic: bool = False) -> dict[str, Any]:
    told = auc is not None
    one = {
        "auc": auc, "ci95": ci95, "n_rare": 5 * told, "n_groups": 2 * told, "n_pictures": 7 * told, "optimistic": optimistic,
        "parts": [auc] if told else [], "reason": None if told else "no picture was accepted",
    }  # fmt: skip
    return {"real": one, "methods": {"text": one}}


def test_parts_are_averaged_and_the_interval_is_as_wide_as_theirs() -> None:
    """Means of 0.6 and 0.8; ends 0.2 and 0.1 below, 0.1 and 0.1 above; a part without interval moves the mean alone."""
    found = pooled_relevance([part(0.6, [0.4, 0.7]), part(0.8, [0.7, 0.9], True), part(None, None), part(0.7, None)])
    text = found["methods"]["text"]
    assert text["auc"] == pytest.approx(0.7) and text["ci95"] == pytest.approx([0.55, 0.8])
    assert text["parts"] == [0.6, 0.8, 0.7] and text["optimistic"] and text["reason"] is None
    assert (text["n_rare"], text["n_groups"], text["n_pictures"]) == (15, 6, 21)
    assert found["real"] == text


def test_pooling_one_part_or_nothing_changes_nothing() -> None:
    for one in (part(0.6, [0.4, 0.7]), part(None, None), part(0.6, None), fake_relevance()):
        assert RelevanceTest.model_validate(pooled_relevance([one])) == RelevanceTest.model_validate(one)
    other = {**part(None, None), "real": {**part(None, None)["real"], "reason": "of the second part"}}
    assert pooled_relevance([part(None, None), other]) == part(None, None)  # the first part's reason is told
    assert list(pooled_relevance([part(0.6, None), {**part(0.7, None), "methods": {}}])["methods"]) == ["text"]


def told(auc: float | None, ci95: tuple[float, float] | None, optimistic: bool = False) -> Relevance:
    return Relevance.model_validate(part(auc, list(ci95) if ci95 else None, optimistic)["real"])


def test_one_rule_decides_the_warning_and_the_words() -> None:
    above, at, below = told(0.7, (0.501, 0.9)), told(0.7, (0.5, 0.9)), told(0.2, (0.1, 0.3))
    assert [relevant(found) for found in (above, at, below, told(0.9, None))] == [True, False, False, None]
    test = RelevanceTest(
        real=below,
        methods={"a": above, "b": at, "c": below, "d": told(0.9, None), "e": told(None, None)},
    )
    assert doubts(test, RARE) == [
        "the pictures of method b are not shown to resemble the real images of crack (AUC 0.70, 0.50 to 0.90; 0.50 is "
        "chance); an evaluation may well find that they do harm",
        "the pictures of method c are not shown to resemble the real images of crack (AUC 0.20, 0.10 to 0.30; 0.50 is "
        "chance); an evaluation may well find that they do harm",
    ]
    assert words(above) == "resemble the real rare images" and words(at) == words(below) != words(above)
    assert "optimistic" in words(told(0.7, (0.6, 0.8), True)) and "no picture was accepted" in words(told(None, None))
    assert "one group" in words(told(0.9, None))
    assert [row["name"] for row in relevance_rows(test)] == [*"abcde", "real images in place of pictures"]
