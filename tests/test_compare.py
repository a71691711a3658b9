"""Comparisons: refusals by name, warnings where recalls are not comparable, and a page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_run import fake_run, rewrite_metrics

from synthimg.config import PARTS
from synthimg.errors import UserError
from synthimg.evaluation.results_file import read_results
from synthimg.reporting.compare import compare_runs, table, warnings
from synthimg.reporting.runs import DECISIVE, load
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
    (runs[1] / "classify" / "predictions.parquet").unlink()
    with pytest.raises(UserError, match=r"two/classify/predictions\.parquet"):
        compare_runs(runs)
    (runs[1] / "evaluate" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"two/evaluate/metrics\.json"):
        compare_runs(runs)


def test_other_test_images_and_other_class_are_warned_of(tmp_path: Path) -> None:
    runs = two(tmp_path)
    path = runs[1] / "classify" / "predictions.parquet"
    frame = pd.read_parquet(path)
    last = frame.loc[frame.split == "test", "id"].iloc[-1]
    frame[frame.id != last].to_parquet(path)
    assert "tested on different images (10 shared of 10 and 11)" in table(load(runs))
    rewrite_metrics(runs[1], lambda metrics: metrics.update(rare_class="chipped"))
    assert "two measures recall of chipped" in compare_runs(runs).read_text()


def test_the_test_images_of_a_run_are_those_of_all_its_parts(tmp_path: Path) -> None:
    """Here each part tests some of the images that the other run tests in one."""
    runs = two(tmp_path)
    whole = pd.read_parquet(file := runs[1] / "classify" / "predictions.parquet")
    ids = sorted(set(whole.loc[whole.split == "test", "id"]))
    for number, own in enumerate((ids[:4], ids[4:])):
        part = runs[1] / PARTS / f"fold{number}-draw0" / "classify"
        part.mkdir(parents=True)
        whole[whole.id.isin(own)].to_parquet(part / "predictions.parquet")
    file.unlink()
    assert load(runs)[1].test == load(runs)[0].test == set(ids) and "different images" not in table(load(runs))
    shutil.rmtree(part)
    assert "tested on different images (4 shared of 4 and 11)" in table(load(runs))


@pytest.mark.parametrize("name", ["folds", "specificity", "beside"])
def test_runs_that_measure_different_things_are_warned_of(tmp_path: Path, name: str) -> None:
    runs, other = two(tmp_path), {"folds": 3, "specificity": 0.8, "beside": "weighted"}
    assert warnings(load(runs)) == []
    rewrite_metrics(runs[1], lambda metrics: metrics["recall"].update({name: other[name]}))
    assert [DECISIVE[name] in text for text in warnings(load(runs))] == [True]


def test_unmeasured_run_and_equal_names(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "a", "same").folder, fake_run(tmp_path / "b", "same").folder]
    rewrite_metrics(runs[0], lambda metrics: metrics["recall"].update(gain=None, best_control=None))
    html = compare_runs(runs).read_text()
    assert "not measured" in html
    assert [run.name for run in load(runs)] == ["a/outputs/same", "b/outputs/same"]
