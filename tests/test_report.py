"""The report on a fake run: complete, escaped, self-contained, the same bytes every time."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_run import fake_run, rewrite_metrics

from synthimg.errors import UserError
from synthimg.evaluation.judged import judged_parts
from synthimg.evaluation.results_file import read_results
from synthimg.reporting import charts, gallery, subgroups
from synthimg.reporting.formats import percentage, times
from synthimg.reporting.report import as_close, shared
from synthimg.stages.report import write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Balance(HTMLParser):
    """Notes every tag that closes another than the last one opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.images_without_alt = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images_without_alt += tag == "img" and not dict(attrs).get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def page(tmp_path: Path, **options: object) -> str:
    config = fake_run(tmp_path, **options)  # type: ignore[arg-type]
    write_report(config)
    return (config.folder / "report.html").read_text()


def test_page_is_whole_escaped_and_self_contained(tmp_path: Path) -> None:
    html = page(tmp_path)
    parser = Balance()
    parser.feed(html)
    assert not parser.wrong
    assert not parser.open
    assert parser.images_without_alt == 0
    assert "raised recall of defective from 0.61 to 0.66" in html
    assert "Dashed upright, the knee: with 1 synthetic images per real rare one" in html and "text (10)" in html
    assert "What test images are called, before and after" in html
    assert html.index("raised recall") < html.index('id="arms"')
    assert "functional/&lt;b&gt;odd&lt;/b&gt; &amp; broken.png" in html
    assert "<b>odd" not in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert "http" not in html.split("<pre>")[0].split("</style>")[1]
    assert "Fréchet distance (EfficientNet-Lite0 features)" in html
    assert "share one backbone (EfficientNet-Lite0), and the embedded model" in html
    assert "digests of the stages before it" in html
    assert "CC BY-NC-SA 4.0" in html
    assert len(html) < 6_000_000


def test_the_relevance_of_each_method_is_a_row_in_words(tmp_path: Path) -> None:
    html = page(tmp_path)
    block = html[html.index("Do the pictures show what real ones show?") : html.index("Measured attributes")]
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", block)
    assert ["text" in rows[0], "image" in rows[1], "real images in place of pictures" in rows[2]] == [True] * 3
    assert "0.83" in rows[0] and "0.71 to 0.92" in rows[0] and "resemble the real rare images; optimistic" in rows[0]
    assert "0.44 to 0.71" in rows[1] and "not shown to resemble the real rare images" in rows[1]
    assert "optimistic" not in rows[2] and "trained on these very images" in block
    config = fake_run(tmp_path / "none")
    none = {"auc": None, "ci95": None, "parts": [], "reason": "it takes 3 real rare training images, and there are 0"}
    rewrite_metrics(config.folder, lambda metrics: metrics["relevance"]["methods"]["text"].update(none))
    write_report(config)
    assert "not measured: it takes 3 real rare training images" in (config.folder / "report.html").read_text()


def test_how_many_real_images_the_accepted_ones_start_from(tmp_path: Path) -> None:
    config = fake_run(tmp_path)
    plan = pd.read_parquet(config.folder / "generate" / "plan.parquet")
    made = plan.merge(pd.read_parquet(config.folder / "filter" / "decisions.parquet"), on="id")
    started = made[made.accepted & (made.source != "")]
    write_report(config)
    html = (config.folder / "report.html").read_text()
    total = f"{len(started)} of the {int(made.accepted.sum())} accepted pictures start from a real image"
    assert len(started) > started.source.nunique() > 1
    assert f"{total} (a transplant shows its object); there are {started.source.nunique()} different ones" in html
    found = {row["value"]: row["sources"] for group in gallery.acceptance(made) for row in group["values"]}
    assert found["text"] == 0 and found["image"] == started.source.nunique()


def test_images_that_changed_sides_are_counted_and_shown(tmp_path: Path) -> None:
    config = fake_run(tmp_path)
    path = config.folder / "classify" / "predictions.parquet"
    predictions = pd.read_parquet(path)
    rare = sorted(set(predictions.id[(predictions.split == "test") & (predictions.label == "defective")]))
    found = {"synthetic": set(rare[:3]), "oversampled": set(rare[2:4])}
    hit = [row.id in found.get(row.arm, ()) and row.seed != 0 for row in predictions.itertuples()]  # most seeds, not all
    predictions.assign(score=np.where(hit, 0.9, 0.1)).to_parquet(path)
    write_report(config)
    html = (config.folder / "report.html").read_text()
    assert f"Of {len(rare)} real defective test images, 1 are found both by the best control" in html
    assert "2 only with them, 1 no longer with them" in html
    assert gallery.turned(judged_parts(config), "defective", None) is None


def test_attributes_that_are_not_followed_or_not_measured_are_named(tmp_path: Path) -> None:
    html = page(tmp_path)
    assert "follows the request in part" in html and "not measured: no estimator" in html and "cannot be told" in html
    config = fake_run(tmp_path / "deaf")
    rewrite_metrics(config.folder, lambda metrics: metrics["compliance"]["brightness"]["text"].update(share=0.35, p=0.4))
    write_report(config)
    assert "not shown to follow the request" in (config.folder / "report.html").read_text()


def test_same_bytes_from_another_folder_and_nothing_twice(tmp_path: Path) -> None:
    config = fake_run(tmp_path)
    folder = write_report(config)
    first, manifest = (config.folder / "report.html").read_bytes(), (folder / "manifest.json").read_bytes()
    stamp = (config.folder / "report.html").stat().st_mtime_ns
    assert write_report(config) == folder
    assert (config.folder / "report.html").stat().st_mtime_ns == stamp
    (config.folder / "report.html").unlink()
    (folder / "manifest.json").unlink()
    write_report(config)
    assert (config.folder / "report.html").read_bytes() == first
    assert (folder / "manifest.json").read_bytes() == manifest
    moved = config.model_copy(update={"outputs": str(tmp_path / "elsewhere")})
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    (moved.folder / "report.html").unlink()
    write_report(moved)
    assert (moved.folder / "report.html").read_bytes() == first


def test_unfinished_stage_is_named(tmp_path: Path) -> None:
    config = fake_run(tmp_path)
    (config.folder / "filter" / "manifest.json").unlink()
    with pytest.raises(UserError, match="filter: this stage has not finished"):
        write_report(config)


def test_nothing_accepted_and_no_scores(tmp_path: Path) -> None:
    config = fake_run(tmp_path, accepted=0)

    def empty(metrics: dict) -> None:  # type: ignore[type-arg]
        nothing = {"ks": None, "p": None, "wasserstein": None, "floor": {"ks": None, "wasserstein": None}}
        floor = {"fid": None, "kid": None, "n": [0, 0]}
        metrics["quality"].update(fid=None, kid=None, floor=floor, marginals={"brightness": nothing})
        missing = dict.fromkeys(("gain", "oracle_gap_closed", "matched", "curve", "confusion"))
        metrics["recall"].update(common={"specificity_change": None}, **missing)
        metrics["portions"] = None
        del metrics["recall"]["arms"]["synthetic"]

    rewrite_metrics(config.folder, empty)
    write_report(config)
    html = (config.folder / "report.html").read_text()
    assert "No synthetic image of defective was accepted out of 24 made" in html
    assert "none accepted" in html


def test_runs_without_curve_confusion_or_portions_have_a_page(tmp_path: Path) -> None:
    config = fake_run(tmp_path)

    def change(metrics: dict[str, Any]) -> None:
        for section, name in ((metrics["recall"], "curve"), (metrics["recall"], "confusion"), (metrics, "portions")):
            section[name] = None

    rewrite_metrics(config.folder, change)
    write_report(config)
    html = (config.folder / "report.html").read_text()
    assert "At other thresholds" not in html and "it comes from" not in html and "before and after" not in html


def section(html: str, name: str) -> str:
    return html.split(f'<section id="{name}">')[1].split("</section>")[0]


def test_the_worst_subgroup_of_each_arm_is_marked_and_said(tmp_path: Path) -> None:
    html = section(page(tmp_path), "subgroups")
    said = "With oversampling, least is found of poly, dark: 0.43; with synthetic images 0.53 there (+0.10, 95 % interval"
    assert said in html and "From worst to best it is 0.29 without them, 0.20 with them." in html
    assert "With a class-weighted loss, least is found of poly, dark" in html  # the best control at equal specificity
    assert html.count("3 test images whose category cannot be told") == 4
    rows = [row for row in html.split("<tr") if 'class="worst"' in row]
    assert [re.findall(r'scope="row">([^<]+)<', row)[0] for row in rows] == ["poly", "dark", "poly, dark"] * 2
    assert all(row.count('class="worst"') == 3 for row in rows)
    few = next(row for row in html.split("<tr") if "<small>30, 4</small>" in row)
    assert few.count("too few groups") == 4 and "worst" not in few


def test_rows_of_subgroups_begin_with_what_the_control_finds_least(tmp_path: Path) -> None:
    results = read_results(fake_run(tmp_path).folder)
    found = subgroups.tables(results)[0]["partitions"][2]["rows"]
    recalls = [row.recall["oversampled"].mean for _, row, _ in found]
    assert recalls == sorted(recalls) and found[0][0] == "poly, dark"


def test_without_attributes_the_section_says_so(tmp_path: Path) -> None:
    config = fake_run(tmp_path)

    def nothing(metrics: dict[str, Any]) -> None:
        for table in metrics["subgroups"].values():
            table["partitions"] = []

    rewrite_metrics(config.folder, nothing)
    write_report(config)
    html = section((config.folder / "report.html").read_text(), "subgroups")
    assert "The images have no attributes" in html and "<table" not in html


def test_what_a_find_costs_in_the_field(tmp_path: Path) -> None:
    html = section(page(tmp_path), "field")
    # 0.055 * 0.999 / (0.61 * 0.001) and / (0.66 * 0.001)
    assert "there 0.1 % are" in html and "a find costs 90 false alarms with oversampling, 83 with synthetic images" in html
    assert "too few other test images: 6, and it takes 5000" in html
    assert html.count("<td>0.945</td>") == 3 and "<td>3.5 %</td>" in html


def test_without_a_prevalence_there_is_no_precision(tmp_path: Path) -> None:
    config = fake_run(tmp_path)

    def unknown(metrics: dict[str, Any]) -> None:
        metrics["prevalence"]["prevalence"] = None
        for row in metrics["prevalence"]["rows"]:
            for arm in (row["arms"] or {}).values():
                arm.update(precision=None, false_alarms_per_find=None)

    rewrite_metrics(config.folder, unknown)
    write_report(config)
    html = section((config.folder / "report.html").read_text(), "field")
    assert "Set evaluate.prevalence" in html and "Precision" not in html and "with oversampling" not in html
    assert "<td>0.31<small>0.26 to 0.36</small></td><td>0.99</td>" in html


@pytest.mark.parametrize(
    ("value", "share", "ratio"),
    [(None, "–", "–"), (0.00012345, "0.012 %", "0.000123"), (1.0, "100 %", "1"), (0.5, "50 %", "0.5")],
)
def test_shares_and_ratios_of_any_size_can_be_read(value: float | None, share: str, ratio: str) -> None:
    assert percentage(value) == share and times(value) == ratio


def test_one_size_and_nothing_to_leave_out_say_nothing(tmp_path: Path) -> None:
    config = fake_run(tmp_path)

    def change(metrics: dict[str, Any]) -> None:
        metrics["portions"] |= {"sizes": metrics["portions"]["sizes"][-1:], "without": []}

    rewrite_metrics(config.folder, change)
    write_report(config)
    assert "it comes from" not in (config.folder / "report.html").read_text()


def test_inception_scores_are_called_fid(tmp_path: Path) -> None:
    config = fake_run(tmp_path)
    rewrite_metrics(config.folder, lambda metrics: metrics["quality"].update(extractor="inception"))
    folder = write_report(config)
    html = (config.folder / "report.html").read_text()
    assert '<th scope="row">FID</th>' in html
    assert "share one backbone" not in html
    assert json.loads((folder / "manifest.json").read_text())["page"]["report.html"]


def test_shared_backbone_names_the_autoencoder_of_the_embedded_model_only() -> None:
    settings: dict[str, Any] = {"base": "embedded", "finetune": {"decoder_steps": 0}, "generate": {"detail": 0.0}}
    assert "autoencoder" in shared("efficientnet-lite0", settings, {"text"})
    assert "autoencoder" not in shared("efficientnet-lite0", settings | {"base": "owner/model"}, {"text"})
    assert shared("inception", settings, {"text"}) == ""
    tuned = settings | {"finetune": {"decoder_steps": 9}, "generate": {"detail": 0.5}}
    assert "decoder was tuned" in shared("efficientnet-lite0", tuned, {"image", "transplant"})
    assert "they flatter" in shared("inception", tuned, {"image"})
    # what no model drew owes nothing to the decoder's training
    assert "decoder" not in (alone := shared("efficientnet-lite0", tuned, {"transplant"}))
    assert "autoencoder" not in alone and "they flatter" not in alone and "Transplants" in alone
    assert "Procedural" in shared("inception", settings, {"procedural"})


@pytest.mark.parametrize(
    ("ks", "p", "within"),
    [(0.1, 0.3, True), (0.1, 0.01, None), (0.3, 0.01, False), (0.3, 0.3, None), (0.1, None, None)],
)
def test_as_close_as_real_images_needs_the_floor_and_the_test(ks: float, p: float | None, within: bool | None) -> None:
    assert as_close(ks, 0.2, p) is within


def test_charts_escape_and_survive_odd_numbers() -> None:
    svg = charts.dots([charts.Dot("<a> & a very long name of a run", 0.5, 0.5, 0.5)], "t<")
    assert "<a>" not in svg
    assert "…" in svg
    assert charts.dots([], "none") == "" == charts.clusters([], "none")
    both = charts.clusters([("<b> of both", [charts.Dot("", 0.0, 0.0, 0.0), charts.Dot("", 1.0, 1.0, 1.0)])], "t<")
    assert "<b>" not in both and "nan" not in both and both.count('class="mean real"') == 2
    assert "nan" not in charts.histogram([1.0, 1.0, float("nan")], [], "constant")
    assert charts.histogram([], [], "empty") == ""
    assert charts.curve([1], [1.0], "short") == ""
    assert "nan" not in charts.curve(range(10), [float("nan"), *np.ones(9)], "one lost")
    assert charts.bar([("a", 0)], "none") == ""
    assert charts.nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
