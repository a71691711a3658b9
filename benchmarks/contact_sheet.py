"""A contact sheet of a part's accepted synthetic images, a row per method.

python benchmarks/contact_sheet.py outputs/quickstart/parts/fold0-draw0 sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from synthimg.data.generated import accepted

COLUMNS, SIDE = 10, 128


def main(run: Path, to: Path) -> None:
    """Draw the first accepted images of every method, in plan order."""
    rows = [part["id"].head(2 * COLUMNS) for _, part in accepted(run).groupby("method", sort=False)]
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
