import json
import shutil
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import tiny

from synthimg.config import Consent
from synthimg.data import consent
from synthimg.errors import UserError
from synthimg.pipeline import run
from synthimg.reading import parse
from synthimg.stages.classify import classify_images
from synthimg.stages.evaluate import evaluate_run
from synthimg.stages.filter import filter_images
from synthimg.stages.finetune import finetune_model
from synthimg.stages.generate import generate_images
from synthimg.stages.report import write_report
from synthimg.tools.augment import augment_dataset
from synthimg.tools.preview import preview_grid

TODAY = date(2026, 5, 1)


def reasons(entry, **columns):
    size = len(next(iter(columns.values()), [0]))
    frame = pd.DataFrame({"where": [f"t.csv row {n + 1}" for n in range(size)], **columns})
    return consent.reasons(frame, entry, TODAY)


def test_without_any_entry_the_message_says_how_to_mend():
    with pytest.raises(UserError, match=r"no consent entry(.|\n)*licence: (.|\n)*scope: \[research\]"):
        consent.effective(Consent(), None)


@pytest.mark.parametrize(
    "part", [{"licence": "x"}, {"scope": ["research"]}, {"licence": "x", "scope": ["any"], "expires": "soon"}]
)
def test_half_an_entry_is_refused(part):
    with pytest.raises(UserError, match=r"dataset\.consent\."):
        consent.effective(Consent(**part), None)


def test_the_sources_own_licence_serves_unless_one_is_configured():
    own = Consent(licence="CC", scope=["research"])
    assert consent.effective(Consent(use="commercial"), own).licence == "CC"
    assert reasons(consent.effective(Consent(use="commercial"), own), x=[1])[0].startswith(
        "consent: does not cover commercial"
    )
    assert consent.effective(Consent(licence="contract", scope=["any"]), own).licence == "contract"


def test_scope_per_record_wins_and_empty_means_none():
    entry = Consent(licence="x", scope=["any"], scope_column="s", expires_column="e")
    found = reasons(entry, scope=["research;teaching", "", "teaching", " ANY ", "Research"], expires=[""] * 5)
    assert [reason.split(" (")[0] for reason in found] == [
        "",
        "consent: none",
        "consent: does not cover research",
        "",
        "",
    ]


def test_dates():
    entry = Consent(licence="x", scope=["research"], expires_column="e")
    found = reasons(entry, expires=["2026-05-01", "2026-04-30", "1.5.2030", "", "2030-01-01T00:00:00"])
    assert [reason.split(" (")[0] for reason in found] == ["", "consent: expired", "consent: unreadable date", "", ""]
    assert "t.csv row 3: '1.5.2030'" in found[2]
    assert reasons(Consent(licence="x", scope=["any"], expires="2026-04-30"), x=[1])[0].startswith("consent: expired")


STAGES = [finetune_model, generate_images, filter_images, classify_images, evaluate_run, write_report, preview_grid]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run without a model that is done up to its report; its images lie in `data`, beside `outputs`."""
    place = tmp_path_factory.mktemp("consent")
    tree = tiny.settings(tiny.photographs(place / "data", rare=12, common=16), place / "outputs", "embedded")
    tree["generate"] |= {"methods": {"text": 0, "procedural": 1}}
    tree["dataset"]["consent"]["expires_column"] = "until"
    table = place / "data" / "metadata.csv"
    rows = pd.read_csv(table, dtype=str)
    rows.assign(until="").to_csv(table, index=False)
    config = parse(tree)
    run(config)
    return config


@pytest.fixture
def expired(finished):
    """The same run on the day after consent to one of its test images ended."""
    table = Path(finished.dataset.path) / "metadata.csv"
    before, rows = table.read_bytes(), pd.read_csv(table, dtype=str, keep_default_na=False)
    rows.loc[3, "until"] = "2001-01-01"
    rows.to_csv(table, index=False)
    yield finished
    table.write_bytes(before)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
@pytest.mark.parametrize("done", [True, False])
def test_every_stage_asks_each_time(stage, done, expired, tmp_path):
    """When its work is done, too: what it returns is an invitation to use it."""
    shutil.copytree(expired.folder, tmp_path / expired.name)
    config = expired.model_copy(update={"outputs": str(tmp_path)})
    if not done:
        for manifest in config.folder.glob("*/manifest.json"):
            if manifest.parent.name != "dataset":
                manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "stage": "another"}))
    with pytest.raises(UserError, match=r"1 of the 28 images of this run are no longer covered, .*expired"):
        stage(config)


def test_augment_asks_too(expired, tmp_path):
    with pytest.raises(UserError, match=r"1 of the 28 images of this run are no longer covered, .*expired"):
        augment_dataset(expired.folder, tmp_path / "out")
