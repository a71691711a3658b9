"""Which records may be used: every one needs a consent entry whose scope covers the use and that has not expired.

Entries in the table win over the data-set-wide one. Where a scope column is named, an empty cell means no consent.
An empty expiry cell means that the row sets no end of its own; the data-set-wide end, if there is one, then holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pandas as pd

from ..config import Consent, Dataset
from ..errors import UserError
from . import spelling
from .records import Source, make_records, open_source

MEND = (
    "add to the configuration, under dataset.consent, `licence: <the licence or consent form that covers these images>` and "
    "`scope: [research]`, or name the table's column with each record's allowed uses: `scope_column: <column>`"
)


def effective(configured: Consent, own: Consent | None) -> Consent:
    """The configured entry, completed by the licence that comes with the source where none is configured.

    Raises:
        UserError: no entry at all, a licence without scope (or the reverse), or an end that is not a date.
    """
    if own and not configured.licence and not configured.scope and not configured.scope_column:
        configured = configured.model_copy(update={"licence": own.licence, "scope": own.scope})
    if configured.licence and not configured.scope:
        raise UserError("dataset.consent.scope: is missing beside licence; name the uses it allows, e.g. [research]")
    if configured.scope and not configured.licence:
        raise UserError("dataset.consent.licence: is missing beside scope; name the licence or consent form")
    if not configured.licence and not configured.scope_column:
        raise UserError(f"dataset.consent: the data set has no consent entry, so no image may be used; {MEND}")
    if configured.expires and parse_day(configured.expires) is None:
        raise UserError(f"dataset.consent.expires: expected a day (YYYY-MM-DD), found '{configured.expires}'")
    return configured


def parse_day(text: str) -> date | None:
    """A day written YYYY-MM-DD (a time of day after it is ignored), or None where it is not one."""
    head = text.strip()[:10]
    try:
        return date.fromisoformat(head) if len(head) == 10 else None
    except ValueError:
        return None


def reasons(records: pd.DataFrame, consent: Consent, today: date) -> list[str]:
    """Why each record is left out, "" where it may be used. What follows " (" names the row.

    Args:
        records: frame with `where`, and `scope`, `expires` where the configuration names such columns.
        consent: the effective entry.
        today: the day on which the run is made; an entry holds up to and including its last day.
    """
    wide = ";".join(consent.scope)
    scopes = records["scope"].tolist() if consent.scope_column else [wide] * len(records)
    ends = records["expires"].tolist() if consent.expires_column else [""] * len(records)
    found = zip(records["where"].tolist(), scopes, ends, strict=True)
    return [_reason(where, scope, end.strip() or consent.expires or "", consent.use, today)
            for where, scope, end in found]  # fmt: skip


def _reason(where: str, scope: str, end: str, use: str, today: date) -> str:
    allowed = {word.strip().lower() for word in scope.split(";")} - {""}
    if not allowed:
        return f"consent: none ({where})"
    if not allowed & {use.lower(), "any"}:
        return f"consent: does not cover {use} ({where} allows {'; '.join(sorted(allowed))})"
    last = parse_day(end) if end else date.max
    if last is None:
        return f"consent: unreadable date ({where}: '{end}', expected YYYY-MM-DD)"
    return f"consent: expired ({where}: {last})" if last < today else ""


def recheck(dataset: Dataset, paths: Iterable[str]) -> Source:
    """Refuse records whose consent has expired or been withdrawn since they were prepared; opens no image.

    Args:
        paths: every record of the run, whichever its split.

    Returns:
        The data set as it is now.

    Raises:
        UserError: how many records are no longer covered, and the first; or the data set cannot be read any more.
    """
    source = open_source(dataset.path, dataset.table)
    found = make_records(source, dataset)
    why = reasons(found, effective(dataset.consent, source.consent), date.today())
    now = dict(zip(found["path"], why, strict=True))
    meant: dict[str, str] = {}  # prepare may have found a file under another spelling than the table's
    for path, reason in now.items():
        meant[spelling.loose(path)] = meant.get(spelling.loose(path)) or reason
    every, gone = list(paths), f"no longer in {source.where}"
    ended = [(path, reason) for path in every if (reason := now.get(path, meant.get(spelling.loose(path), gone)))]
    if ended:
        path, reason = ended[0]
        raise UserError(
            f"dataset.consent: {len(ended)} of the {len(every)} images of this run are no longer covered, "
            f"the first is {path}: {reason}; run prepare under another name"
        )
    return source
