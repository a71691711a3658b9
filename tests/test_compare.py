"""Comparisons: refusals by name, warnings where recalls are not comparable, and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_run import fake_run, rewrite_metrics
from synthimg.reporting.repeats import configurations, group_repeats, lines

from synthimg.errors import UserError
from synthimg.evaluation.results_file import read_results
from synthimg.reporting.compare import compare_runs, table, warnings
from synthimg.reporting.runs import load
from synthimg.reporting.subgroups import worst_of


def two(tmp_path: Path) -> list[Path]:
    longer = {"finetune": {"steps": 2000}, "base": "models/größer"}
    return [
        fake_run(tmp_path, "one").folder,
        fake_run(tmp_path, "two", gain=-0.09, overrides=longer).folder,
    ]


def test_page_and_table(tmp_path: Path) -> None:
    runs = two(tmp_path)
    out = compare_runs(runs)
    assert out == runs[0].parent / "compare-one-two.html"
    html = out.read_text()
    assert "finetune.steps" in html
    assert "<code>models/größer</code>" in html
    assert "finetune.rank" not in html
    assert "Recall lowered" in html
    assert "Not comparable" not in html
    lines = table(load(runs)).splitlines()
    assert lines[2].split() == [
        "one",
        "Recall",
        "raised",
        "0.61",
        "0.66",
        "+0.05",
        "+0.01",
        "to",
        "+0.09",
        "12",
        "of",
        "24",
        "0.53",
        "poly,",
        "dark",
        "0.20",
    ]
    assert len(lines) == 4
    first = out.read_bytes()
    assert compare_runs(runs).read_bytes() == first


def subgroups_of(page: Path) -> str:
    """That section of a comparison, "" where it has none."""
    _, _, rest = page.read_text().partition('<section id="subgroups">')
    return rest.partition("</section>")[0]


def test_worst_subgroups_are_set_side_by_side(tmp_path: Path) -> None:
    runs = two(tmp_path)
    own, equal = subgroups_of(compare_runs(runs)).split("<h3>Where every arm has the wanted specificity on test</h3>")
    row = "<td>0.43<small>poly, dark</small></td><td>0.29<small>0.22 to 0.36</small></td>"  # the same control in both runs
    assert own.count(row) == 2 == equal.count(row)
    assert "<td>+0.10<small>+0.03 to +0.17</small></td>" in own

    def nothing(metrics: dict[str, Any]) -> None:
        for part in metrics["subgroups"].values():
            part["partitions"] = []

    rewrite_metrics(runs[0], nothing)
    assert subgroups_of(compare_runs(runs)).count(row) == 2  # one run, two kinds of thresholds
    assert table(load(runs)).splitlines()[2].split()[-2:] == ["-", "-"]
    rewrite_metrics(runs[1], nothing)
    assert subgroups_of(compare_runs(runs)) == ""


def test_the_worst_subgroup_is_the_worst_of_all_attributes(tmp_path: Path) -> None:
    table = read_results(fake_run(tmp_path).folder).subgroups.at_thresholds
    singles = table.model_copy(update={"partitions": table.partitions[:2]})
    found = worst_of(singles, "oversampled")
    assert found and found.name == "dark" and found.recall.mean == pytest.approx(0.51)  # poly: 0.53
    assert found.gap == table.partitions[1].arms["oversampled"].gap and found.change == table.partitions[1].change_of_worst
    assert worst_of(table, None) is None and worst_of(table, "augmented") is None


def test_refusals(tmp_path: Path) -> None:
    runs = two(tmp_path)
    with pytest.raises(UserError, match="two or more"):
        compare_runs(runs[:1])
    with pytest.raises(UserError, match="named twice"):
        compare_runs([runs[0], runs[0]])
    mine = tmp_path / "mine.html"
    mine.write_text("thesis")
    with pytest.raises(UserError, match=r"mine\.html"):
        compare_runs(runs, mine)
    assert mine.read_text() == "thesis"
    (runs[1] / "evaluate" / "predictions.parquet").unlink()
    with pytest.raises(UserError, match=r"two/evaluate/predictions\.parquet"):
        compare_runs(runs)
    (runs[1] / "evaluate" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"two/evaluate/metrics\.json"):
        compare_runs(runs)


def test_other_test_images_and_other_class_are_warned_of(tmp_path: Path) -> None:
    runs = two(tmp_path)
    path = runs[1] / "evaluate" / "predictions.parquet"
    frame = pd.read_parquet(path)
    last = frame.loc[frame.split == "test", "id"].iloc[-1]
    frame[frame.id != last].to_parquet(path)
    assert "tested on different images (10 shared of 10 and 11)" in table(load(runs))
    rewrite_metrics(runs[1], lambda metrics: metrics.update(rare_class="chipped"))
    assert "two measures recall of chipped" in compare_runs(runs).read_text()


def test_unmeasured_run_and_equal_names(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "a", "same").folder, fake_run(tmp_path / "b", "same").folder]
    rewrite_metrics(runs[0], lambda metrics: metrics["recall"].update(gain=None, best_control=None))
    html = compare_runs(runs).read_text()
    assert "not measured" in html
    assert [run.name for run in load(runs)] == ["a/outputs/same", "b/outputs/same"]


def repeated(tmp_path: Path, name: str, gains: list[float], **overrides: object) -> list[Path]:
    """Runs of one configuration from the seeds 0, 1, ..."""
    return [
        fake_run(tmp_path, f"{name}-seed{seed}", gain=gain, overrides={"seed": seed, **overrides}).folder
        for seed, gain in enumerate(gains)
    ]


def test_repeats_are_taken_together_and_ranked(tmp_path: Path) -> None:
    poor = repeated(tmp_path, "poor", [0.0, 0.01, -0.01])
    good = repeated(tmp_path, "good", [0.05, 0.056, 0.044], finetune={"steps": 2000})
    runs = load([*poor, *good])
    found = group_repeats(runs)
    assert [group.name for group in found] == ["good-seed0 and 2 more", "poor-seed0 and 2 more"]
    assert found[0].pooled["gain"]["mean"] == pytest.approx(0.05)
    text = lines(found)
    assert text[0].startswith("good-seed0 and 2 more: over 3 repeats synthetic images raised recall of defective: 0.61 with")
    assert "specificity 0.95 on validation (on test 0.94 without, 0.94 with)" in text[0]
    assert "cannot be shown to change" in text[1] and "more real images bring" not in text[1]
    assert "good-seed0 and 2 more and poor-seed0 and 2 more differ by +0.05" in text[2]
    assert "over 3 repeats: beyond chance." in text[2]
    html = compare_runs([*poor, *good]).read_text()
    assert "Over repeats" in html and text[0] in html


def test_the_interval_over_repeats_is_wider_the_larger_the_test_split_is_beside_the_training_split(tmp_path: Path) -> None:
    (found,) = group_repeats(load(repeated(tmp_path, "good", [0.04, 0.05, 0.06])))
    # 11 test and 18 training images; differences of variance 0.0001; t of two degrees of freedom is 4.3027
    reach = 4.3027 * (0.0001 * (1 / 3 + 11 / 18)) ** 0.5
    assert found.pooled["gain"]["ci95"] == pytest.approx([0.05 - reach, 0.05 + reach], abs=1e-5)


def test_a_gain_over_repeats_that_is_gone_at_equal_specificity_is_none(tmp_path: Path) -> None:
    runs = repeated(tmp_path, "good", [0.05, 0.056, 0.044])
    before = lines(group_repeats(load(runs)))[0]
    assert "Where every arm has that specificity on test: 0.60 with oversampling, the best there, 0.65" in before
    for run in runs:
        rewrite_metrics(run, lambda metrics: metrics["recall"]["matched"]["recall"].update(weighted=0.7))
    after = lines(group_repeats(load(runs)))[0]
    assert "cannot be shown to change" in after and "so the change is not called one" in after
    assert "0.70 with a class-weighted loss, the best there" in after and "more real images bring" not in after
    rewrite_metrics(runs[1], lambda metrics: metrics["recall"].update(matched=None))
    assert "synthetic images raised" in lines(group_repeats(load(runs)))[0]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 4, 0, 3, 2)])
def test_repeats_are_not_warned_of_whatever_their_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    one = repeated(tmp_path, "one", [0.05, 0.06])
    two = repeated(tmp_path, "two", [0.05, 0.06, 0.04], finetune={"steps": 2000})
    every = [*one, *two]
    assert warnings(load([every[index] for index in order])) == []
    alone = repeated(tmp_path / "other", "alone", [0.0, 0.0], base="models/other")[1]
    assert "tested on different images" in warnings(load([one[0], alone]))[0]


def test_groups_that_measure_different_things_are_not_compared(tmp_path: Path) -> None:
    one = repeated(tmp_path, "one", [0.05, 0.06])
    two = repeated(tmp_path, "two", [0.2, 0.3], finetune={"steps": 2000})
    for run in two:
        rewrite_metrics(run, lambda metrics: metrics["recall"].update(specificity=0.8))
    assert "do not measure the same: not comparable" in lines(group_repeats(load([*one, *two])))[2]


def test_equal_gains_are_no_certainty(tmp_path: Path) -> None:
    text = lines(group_repeats(load(repeated(tmp_path, "equal", [0.05, 0.05]))))
    assert "cannot be shown to change" in text[0] and "its spread is not known" in text[0]


def test_a_repeat_without_synthetic_images_is_named_not_left_out(tmp_path: Path) -> None:
    runs = repeated(tmp_path, "odd", [0.05, 0.06])
    rewrite_metrics(runs[1], lambda metrics: metrics["recall"]["arms"].pop("synthetic"))
    assert lines(group_repeats(load(runs))) == [
        "odd-seed0 and 1 more cannot be taken together: odd-seed1 measured no synthetic images."
    ]


def test_configurations_have_seeds_and_names_of_their_own(tmp_path: Path) -> None:
    config = fake_run(tmp_path, "base", overrides={"seed": 3})
    assert [(one.seed, one.name) for one in configurations(config, 2)] == [(3, "base-seed3"), (4, "base-seed4")]
