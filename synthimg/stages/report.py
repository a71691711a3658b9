"""Stage `report`: one self-contained HTML page that answers whether synthetic images helped, and shows all it rests on."""

from __future__ import annotations

import time
from pathlib import Path

from ..config import Config
from ..core import files, stage
from ..data import consent
from ..data.prepared import load
from ..errors import UserError
from ..reporting.page import render
from ..reporting.report import STAGES, describe, folders


def write_report(config: Config) -> Path:
    """Write `<run>/report.html`, and `<run>/report/manifest.json` when it is complete.

    Raises:
        UserError: naming the stage that has not finished, or consent to an image has ended.
    """
    config = config.whole
    started, run = time.monotonic(), config.root
    folder, page, before = run / "report", run / "report.html", folders(config)
    for missing in (path for path in before if not (path / "manifest.json").exists()):
        raise UserError(f"{missing}: this stage has not finished; the report needs all of {', '.join(STAGES)}")
    sections = [name for name in config.model_dump() if name not in ("outputs", "part")]
    consent.recheck(config.dataset, load(config).frame["path"])
    wanted = stage.key(config, "report", sections, before)
    with stage.alone(folder):
        if not (stage.is_done(folder, wanted) and page.exists()):
            files.write_bytes(page, render("report.html.j2", **describe(config)))
            stage.finish(folder, wanted, started, extra={"page": {"report.html": files.digest(page)}})
    return folder
