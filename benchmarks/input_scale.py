"""How long `prepare` takes, and how much memory, for data sets that are large in some way.

    python benchmarks/input_scale.py equal 20000     # equal (black) pictures
    python benchmarks/input_scale.py small 200000    # different pictures of 64 x 64
    python benchmarks/input_scale.py table 1000000   # rows of a table of which dataset.limit takes 2,000 a class

The data set is made in a temporary folder, which counts neither for the time nor for the memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

RARE = 0.02
"""Share of the rare class."""
LIMIT = 2000
FOLDER = 1000
"""Files in a folder."""
CONFIG = """name: scale
outputs: out
resolution: {side}
dataset:
  path: data
  rare_class: rare
  prompts: generic
  consent: {{licence: CC0, scope: [research]}}
  {more}
"""


def picture(number: int) -> Image.Image:
    """A picture like no other, 64 x 64."""
    small = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize((64, 64))


def label_of(number: int, count: int) -> str:
    return "rare" if number < max(20, RARE * count) else "common"


def write_equal(folder: Path, count: int) -> str:
    """`count` black pictures of the common class beside 60 of other looks."""
    black = folder / "common" / "black.png"
    for number in range(60):
        save(picture(number), folder / ("rare" if number < 30 else "common") / f"{number}.png")
    Image.new("L", (64, 64)).save(black)
    data = black.read_bytes()
    for number in range(count):
        (folder / "common" / f"black{number:06}.png").write_bytes(data)
    return ""


def write_small(folder: Path, count: int) -> str:
    """`count` pictures in an image folder."""
    for number in tqdm(range(count), desc="written", unit="image"):
        save(picture(number), folder / label_of(number, count) / f"{number // FOLDER:04}" / f"{number:07}.png")
    return ""


def write_table(folder: Path, count: int) -> str:
    """A table with a path for each row; these lead to the same thousand pictures, by links to one folder."""
    for number in range(FOLDER):
        save(picture(number), folder / "originals" / f"{number:03}.png")
    (folder / "images").mkdir()
    for part in range(-(-count // FOLDER)):
        (folder / "images" / f"{part:04}").symlink_to(folder / "originals", target_is_directory=True)
    lines = (f"images/{n // FOLDER:04}/{n % FOLDER:03}.png,{label_of(n, count)},P{n // 3}\n" for n in range(count))
    (folder / "metadata.csv").write_text("file_name,label,patient\n" + "".join(lines))
    return f"group: patient\n  limit: {LIMIT}"


def save(image: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, compress_level=1)


def measure(kind: str, count: int, side: int) -> None:
    """Make one data set, prepare it, and print what it took."""
    write = {"equal": write_equal, "small": write_small, "table": write_table}[kind]
    with tempfile.TemporaryDirectory() as place:
        more = write(Path(place) / "data", count)
        (Path(place) / "scale.yaml").write_text(CONFIG.format(side=side, more=more))
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "synthimg", "prepare", "scale.yaml"], cwd=place, check=False)
        minutes = (time.monotonic() - started) / 60
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, gib = (spent.ru_utime + spent.ru_stime) / 60, spent.ru_maxrss / 2**20
    print(
        f"{kind} {count}: {minutes:.1f} minutes ({cpu:.1f} of CPU), peak memory {gib:.2f} GiB, exit status {done.returncode}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["equal", "small", "table"])
    parser.add_argument("count", type=int)
    parser.add_argument("--resolution", type=int, default=64)
    options = parser.parse_args()
    measure(options.kind, options.count, options.resolution)
