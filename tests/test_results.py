"""metrics.json is read through its type: whole, or refused by name; its page is made from the type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_run import fake_metrics, fake_run, rewrite_metrics

from synthimg.errors import UserError
from synthimg.evaluation.results_file import page, parse_results, read_results, write_results
from synthimg.reporting.runs import load


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    results = parse_results(fake_metrics())
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert json.loads((tmp_path / "evaluate" / "metrics.json").read_text()) == fake_metrics()


@pytest.mark.parametrize("version", [None, 0, 1, 3, "2"])
def test_another_version_is_refused_by_name(tmp_path: Path, version: Any) -> None:
    config = fake_run(tmp_path)
    rewrite_metrics(config.folder, lambda metrics: metrics.update(version=version))
    with pytest.raises(UserError, match=rf"metrics\.json: holds results of version {version}, expected 2"):
        load([config.folder])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda tree: tree["recall"].pop("gain"), r"recall\.gain"),
        (lambda tree: tree["n"].update(train_rare="many"), r"n\.train_rare"),
        (lambda tree: tree["quality"].update(beauty=1.0), r"quality\.beauty"),
        (lambda tree: tree["recall"]["arms"]["real"]["recall"].update(ci95=[0.1]), r"recall\.arms\.real\.recall\.ci95"),
    ],
)
def test_the_first_wrong_key_is_named(change: Any, key: str) -> None:
    tree = fake_metrics()
    change(tree)
    with pytest.raises(UserError, match=f"damaged or written by hand: key '{key}"):
        parse_results(tree)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluate" / "metrics.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"metrics\.json: (cannot be read as JSON|holds results of version None)"):
        read_results(tmp_path)


def test_the_page_on_metrics_is_made_from_the_type() -> None:
    committed = Path(__file__).parents[1] / "docs" / "metrics.md"
    assert committed.read_text(encoding="utf-8") == page(), "python -m synthimg.evaluation.results_file > docs/metrics.md"
    assert "None" not in page()  # every field has its sentence
