"""Comparisons: refusals by name, warnings where recalls are not comparable, and a page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from fake_run import fake_run, rewrite_metrics

from synthimg.compare import compare, load, table
from synthimg.errors import UserError


def two(tmp_path: Path) -> list[Path]:
    longer = {"finetune": {"steps": 2000}, "base": "models/größer"}
    return [
        fake_run(tmp_path, "one").folder,
        fake_run(tmp_path, "two", gain=-0.09, overrides=longer).folder,
    ]


def test_page_and_table(tmp_path: Path) -> None:
    runs = two(tmp_path)
    out = compare(runs)
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
    ]
    assert len(lines) == 4
    first = out.read_bytes()
    assert compare(runs).read_bytes() == first


def test_refusals(tmp_path: Path) -> None:
    runs = two(tmp_path)
    with pytest.raises(UserError, match="two or more"):
        compare(runs[:1])
    with pytest.raises(UserError, match="named twice"):
        compare([runs[0], runs[0]])
    mine = tmp_path / "mine.html"
    mine.write_text("thesis")
    with pytest.raises(UserError, match=r"mine\.html"):
        compare(runs, mine)
    assert mine.read_text() == "thesis"
    (runs[1] / "evaluate" / "predictions.parquet").unlink()
    with pytest.raises(UserError, match=r"two/evaluate/predictions\.parquet"):
        compare(runs)
    (runs[1] / "evaluate" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"two/evaluate/metrics\.json"):
        compare(runs)


def test_other_test_images_and_other_class_are_warned_of(tmp_path: Path) -> None:
    runs = two(tmp_path)
    path = runs[1] / "evaluate" / "predictions.parquet"
    frame = pd.read_parquet(path)
    last = frame.loc[frame.split == "test", "id"].iloc[-1]
    frame[frame.id != last].to_parquet(path)
    assert "tested on different images (10 shared of 10 and 11)" in table(load(runs))
    rewrite_metrics(runs[1], lambda metrics: metrics.update(rare_class="chipped"))
    assert "two measures recall of chipped" in compare(runs).read_text()


def test_unmeasured_run_and_equal_names(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / "a", "same").folder, fake_run(tmp_path / "b", "same").folder]
    rewrite_metrics(runs[0], lambda metrics: metrics["recall"].update(gain=None, best_control=None))
    html = compare(runs).read_text()
    assert "not measured" in html
    assert [run.name for run in load(runs)] == ["a/outputs/same", "b/outputs/same"]
