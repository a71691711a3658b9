"""A contact sheet of a run's accepted synthetic images, one row per method of generation.

python benchmarks/contact_sheet.py outputs/embedded docs/contact-sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from PIL import Image

COLUMNS, SIDE = 10, 128


def main(run: Path, to: Path) -> None:
    """Draw the first accepted images of every method, in plan order."""
    plan = pd.read_parquet(run / "generate" / "plan.parquet")
    decided = pd.read_parquet(run / "filter" / "decisions.parquet")
    accepted = plan[plan["id"].isin(decided.loc[decided["accepted"], "id"])]
    rows = [part["id"].head(2 * COLUMNS) for _, part in accepted.groupby("method", sort=False)]
    lines = [ids[start : start + COLUMNS] for ids in rows for start in range(0, len(ids), COLUMNS)]
    sheet = Image.new("RGB", (COLUMNS * SIDE, len(lines) * SIDE), "white")
    for y, line in enumerate(lines):
        for x, name in enumerate(line):
            with Image.open(run / "generate" / "images" / f"{name}.png") as image:
                sheet.paste(image.resize((SIDE, SIDE)), (x * SIDE, y * SIDE))
    sheet.save(to)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("to", type=Path)
    main(**vars(parser.parse_args()))
