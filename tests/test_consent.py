from datetime import date

import pandas as pd
import pytest

from synthimg.config import Consent
from synthimg.data import consent
from synthimg.errors import UserError

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
