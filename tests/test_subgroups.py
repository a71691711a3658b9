"""Recall by subgroup: counted by hand, parts that make up the whole, and pairs of attributes that are not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_run import fake_run
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.config import Config
from synthimg.errors import UserError
from synthimg.evaluation.results_subgroups import Partition, Subgroups
from synthimg.evaluation.subgroups import MOST_CATEGORIES, check_pairs, subgrouped
from synthimg.metrics import comparison
from synthimg.metrics.comparison import Outcome, arrange, compare_arms
from synthimg.metrics.subgroups import LEAST_GROUPS, Hits, by_subgroup
from synthimg.reading import parse
from synthimg.stages.evaluate import evaluate_run
from synthimg.stages.prepare import prepare_dataset


def measured(hits: Hits, categories: dict[str, list[str]], draws: int = 400) -> Partition:
    held = {name: np.array(values, str) for name, values in categories.items()}
    return Partition.model_validate(by_subgroup(hits, held, draws, seed=0))


def eight_and_eight_and_two() -> tuple[Hits, dict[str, list[str]]]:
    """Sixteen groups of one image, eight of each type; then one group of two images of a third type."""
    control = [*(1, 1, 1, 1, 1, 1, 1, 0), *(1, 1, 0, 0, 0, 0, 0, 0), *(0, 0)]
    synthetic = [*(1, 1, 1, 1, 1, 1, 0, 0), *(1, 1, 1, 1, 0.5, 0.5, 0, 0), *(0, 1)]
    groups = [f"g{row}" for row in range(16)] + ["g16", "g16"]
    shares = {"real": np.array(control, float), "synthetic": np.array(synthetic, float)}
    return Hits("real", shares, np.array(groups)), {"type": ["mono"] * 8 + ["poly"] * 8 + ["thin"] * 2}


def test_recall_of_each_category_and_what_changed_there_can_be_counted() -> None:
    found = measured(*eight_and_eight_and_two())
    assert found.attributes == ["type"] and found.untold == 0
    mono, poly, thin = found.subgroups
    assert [part.categories for part in found.subgroups] == [["mono"], ["poly"], ["thin"]]
    assert (mono.images, mono.groups, thin.images, thin.groups) == (8, 8, 2, 1)
    assert mono.recall["real"].mean == 7 / 8 and mono.recall["synthetic"].mean == 6 / 8
    assert poly.recall["real"].mean == 2 / 8 and poly.recall["synthetic"].mean == 5 / 8
    assert mono.change and mono.change.mean == -1 / 8
    assert poly.change and poly.change.mean == 3 / 8
    # thin is found least, but a single group is no subgroup to judge by
    assert thin.recall["real"].mean == 0 and thin.recall["real"].ci95 is None
    assert thin.change and thin.change.ci95 is None and thin.change.mean == 0.5
    control, synthetic = found.arms["real"], found.arms["synthetic"]
    assert (control.worst, control.best) == (["poly"], ["mono"])
    assert control.gap and control.gap.mean == 5 / 8
    assert (synthetic.worst, synthetic.best) == (["poly"], ["mono"])
    assert synthetic.gap and synthetic.gap.mean == 1 / 8
    assert found.change_of_worst == poly.change


def test_the_gap_is_as_uncertain_as_its_two_ends_together() -> None:
    hits, categories = eight_and_eight_and_two()
    gap = measured(hits, categories, 4000).arms["real"].gap
    assert gap and gap.ci95
    error = np.sqrt((7 / 8 * 1 / 8 + 2 / 8 * 6 / 8) / 8)  # of eight images each
    assert gap.ci95[0] == pytest.approx(5 / 8 - 1.96 * error, abs=0.05)
    assert gap.ci95[1] == pytest.approx(5 / 8 + 1.96 * error, abs=0.05)
    # all of eight groups against none of six: resampling has nothing to vary, and the smaller one says how sure that is
    certain = Hits("real", {"real": np.array([1.0] * 8 + [0.0] * 6)}, np.array([f"g{row}" for row in range(14)]))
    gap = measured(certain, {"type": ["mono"] * 8 + ["poly"] * 6}).arms["real"].gap
    assert gap and gap.ci95 and gap.mean == 1 == gap.ci95[1]
    assert gap.ci95[0] == pytest.approx(0.05 ** (1 / 6))


def test_the_change_is_that_of_the_controls_worst_subgroup_not_of_the_synthetic_arms() -> None:
    hits, categories = eight_and_eight_and_two()
    turned = Hits("real", hits.shares | {"synthetic": np.array([0.0] * 8 + [1.0] * 8 + [0, 0])}, hits.groups)
    found = measured(turned, categories)
    assert found.arms["synthetic"].worst == ["mono"] and found.arms["real"].worst == ["poly"]
    assert found.change_of_worst and found.change_of_worst.mean == 6 / 8


def test_a_change_is_paired_by_image_and_groups_are_resampled_whole() -> None:
    """Forty images, half of them found by both arms: recall is uncertain, the change of 0 is not."""
    shares = np.tile([1.0, 0.0], 20)
    alone = np.array([f"g{row:02}" for row in range(40)])
    twins = np.array([f"g{row // 20}{row % 2}{row // 10}" for row in range(40)])  # all of a group are found, or none
    once = measured(Hits("real", {"real": shares, "synthetic": shares}, alone), {"a": ["x"] * 40}, 2000).subgroups[0]
    assert once.change and once.change.ci95 and once.change.mean == 0
    low, high = once.recall["real"].ci95 or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), abs=0.04)
    # no two images differ between the arms: as sure as forty groups without an exception are, and no surer
    assert once.change.ci95[1] == pytest.approx(1 - 0.05 ** (1 / 40))
    grouped = measured(Hits("real", {"real": shares}, twins), {"a": ["x"] * 40}, 2000).subgroups[0]
    assert grouped.groups == len(set(twins)) == 8 and grouped.change is None
    wide = grouped.recall["real"].ci95 or (0, 0)
    assert wide[1] - wide[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 8), abs=0.09)


@pytest.mark.parametrize(("groups", "has"), [(LEAST_GROUPS - 1, False), (LEAST_GROUPS, True)])
def test_six_groups_make_an_interval(groups: int, has: bool) -> None:
    hits = Hits("real", {"real": np.tile([0.0, 1.0], 6)}, np.array([f"g{row % groups}" for row in range(12)]))
    found = measured(hits, {"a": ["x"] * 12})
    assert (found.subgroups[0].recall["real"].ci95 is not None) is has
    assert (found.arms["real"].worst is not None) is has
    assert found.arms["real"].gap is None  # there is one subgroup at most


def test_a_recall_of_nothing_or_of_all_has_an_interval_that_ends_there() -> None:
    groups = np.array([f"g{row}" for row in range(10)])
    found = measured(Hits("real", {"real": np.zeros(10), "synthetic": np.ones(10)}, groups), {"type": ["mono"] * 10})
    nothing, everything = found.subgroups[0].recall["real"], found.subgroups[0].recall["synthetic"]
    rule_of_three = 1 - 0.05 ** (1 / 10)
    assert nothing.ci95 == pytest.approx((0, rule_of_three))
    assert everything.ci95 == pytest.approx((1 - rule_of_three, 1))


def test_images_whose_category_cannot_be_told_are_counted_and_left_out() -> None:
    hits = Hits("real", {"real": np.array([1.0, 0, 0, 1])}, np.array(list("abcd")))
    found = measured(hits, {"type": ["mono", "", "poly", "mono"], "light": ["dim", "dim", "", "bright"]})
    assert found.attributes == ["type", "light"] and found.untold == 2
    assert [part.categories for part in found.subgroups] == [["mono", "bright"], ["mono", "dim"]]
    assert [part.images for part in found.subgroups] == [1, 1]
    nothing = measured(hits, {"type": [""] * 4})
    assert nothing.untold == 4 and not nothing.subgroups and nothing.arms["real"].worst is None


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["dark", "medium", "bright"]), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0]),
        st.integers(0, 12),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


def hits_of(rows: list[tuple[str, float, float, int]]) -> tuple[Hits, dict[str, list[str]]]:
    light, control, synthetic, groups = zip(*rows, strict=True)
    shares = {"real": np.array(control), "synthetic": np.array(synthetic)}
    return Hits("real", shares, np.array([f"g{group}" for group in groups])), {"light": list(light)}


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_the_subgroups_of_an_attribute_make_up_the_whole(rows: list[tuple[str, float, float, int]]) -> None:
    hits, categories = hits_of(rows)
    found = measured(hits, categories, 20)
    assert sum(part.images for part in found.subgroups) == len(rows)
    for arm, shares in hits.shares.items():
        weighted = sum(part.images * part.recall[arm].mean for part in found.subgroups) / len(rows)
        assert weighted == pytest.approx(shares.mean())
    for spread in (part.recall["real"] for part in found.subgroups):
        assert spread.ci95 is None or 0 <= spread.ci95[0] <= spread.mean <= spread.ci95[1] <= 1


@settings(max_examples=50, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(rows: list[tuple[str, float, float, int]], shuffle: Any) -> None:
    mixed = list(rows)
    shuffle.shuffle(mixed)
    one, other = measured(*hits_of(rows), draws=50), measured(*hits_of(mixed), draws=50)
    assert one.model_copy(update={"subgroups": []}) == other.model_copy(update={"subgroups": []})
    assert one.subgroups == other.subgroups


def few_of(**evaluate: object) -> Config:
    dataset = {"path": "x", "rare_class": "rare", "prompts": "solar-cell"}
    return parse({"name": "few", "dataset": dataset, "evaluate": {"bootstrap": 50, "specificity": 0.5, **evaluate}})


def cells(rare: int = 8, other: int = 4) -> tuple[pd.DataFrame, dict[str, Outcome], comparison.Test]:
    """Both controls rank bright rare cells above all others, the synthetic arm all rare ones. With their own thresholds
    the weighted control alone finds any.
    """
    light = np.array(["bright", "dark"] * (rare // 2) + ["dark"] * other)
    labels = np.array(["rare"] * rare + ["other"] * other)
    groups = np.array([f"g{row}" for row in range(len(labels))])
    frame = pd.DataFrame({
        "group": groups, "attribute.light": light, "attribute.type": ["mono"] * len(labels),
        "attribute.serial": groups,
    })  # fmt: skip
    score = np.where(labels == "rare", np.where(light == "bright", 0.6, 0.1), 0.3)[None]
    better = np.where(labels == "rare", 0.9, 0.3)[None]
    outcomes = {
        name: Outcome(scores, np.where(scores > 0.5, "rare", "other").astype(str), np.array([threshold]))
        for name, scores, threshold in (("real", score, 0.8), ("weighted", score * 0.9, 0.5), ("synthetic", better, 0.95))
    }
    return frame, outcomes, arrange(labels, groups, "rare", 50, seed=0)


def test_each_kind_of_threshold_has_its_table() -> None:
    frame, outcomes, test = cells()
    config = few_of(subgroups=[["light", "type"]])
    recall = compare_arms(outcomes, test, 0.5)
    found = Subgroups.model_validate(subgrouped(config, frame, outcomes, test, recall))
    own, exact = found.at_thresholds, found.at_equal_specificity
    assert (own.best_control, exact.best_control) == ("weighted", "real")
    assert [part.attributes for part in own.partitions] == [["light"], ["type"], ["serial"], ["light", "type"]]
    light = {part.categories[0]: part.recall for part in own.partitions[0].subgroups}
    assert light["bright"]["weighted"].mean == 1 and light["bright"]["synthetic"].mean == 0
    light = {part.categories[0]: part.recall for part in exact.partitions[0].subgroups}
    assert light["bright"]["real"].mean == 1 and light["dark"]["real"].mean == 0
    assert light["dark"]["synthetic"].mean == 1
    assert [part.categories for part in own.partitions[-1].subgroups] == [["bright", "mono"], ["dark", "mono"]]
    assert own.partitions[-1].subgroups[0].recall == own.partitions[0].subgroups[0].recall


def test_a_column_of_names_is_no_attribute_unless_asked_for() -> None:
    for rare, names in ((MOST_CATEGORIES, ["light", "type", "serial"]), (MOST_CATEGORIES + 2, ["light", "type"])):
        frame, outcomes, test = cells(rare)
        recall = compare_arms(outcomes, test, 0.5)
        found = subgrouped(few_of(), frame, outcomes, test, recall)
        assert [part["attributes"] for part in found["at_thresholds"]["partitions"]] == [[name] for name in names]
    found = subgrouped(few_of(subgroups=[["serial", "light"]]), frame, outcomes, test, recall)
    assert len(found["at_thresholds"]["partitions"][-1]["subgroups"]) == MOST_CATEGORIES + 2


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (
            ["type", "brightnes"],
            r"evaluate\.subgroups: no attribute 'brightnes' \(did you mean 'brightness'\?\); there are: type, brightness",
        ),
        (["type", "type"], r"evaluate\.subgroups: \[type, type\]: expected two different attributes"),
    ],
)
def test_pairs_of_unknown_or_equal_attributes_are_refused(pair: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_pairs(few_of(subgroups=[pair]), ["attribute.type", "brightness"])


def test_unknown_pairs_are_refused_before_anything_is_prepared_or_trained(tmp_path: Any) -> None:
    config = fake_run(tmp_path, overrides={"evaluate": {"subgroups": [["type", "hue"]]}})
    with pytest.raises(UserError, match=r"evaluate\.subgroups: no attribute 'hue'; there are: type, brightness"):
        evaluate_run(config)
    with pytest.raises(UserError, match=r"evaluate\.subgroups: no attribute 'hue'; there are: type, brightness"):
        prepare_dataset(config)


def test_three_attributes_are_no_pair() -> None:
    with pytest.raises(UserError, match=r"evaluate\.subgroups"):
        few_of(subgroups=[["type", "brightness", "size"]])
