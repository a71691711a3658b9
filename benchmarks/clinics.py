"""Does a gain reach another clinic? HAM10000 by the source of its images: rare lesions of one clinic, tested on the other's.

python benchmarks/clinics.py /data/ham10000 draws=1 --tasks bcc-15-to-vidir_modern mel-40-to-rosendahl

Each task is a run of configs/dermatology.yaml with five folds by lesion. The real rare lesions come from one clinic, test
and threshold from the other, the other classes' training images from both. /data/ham10000 needs source.csv beside
metadata.csv.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
from gain import measured

from synthimg.config import Config
from synthimg.reading import load_config

CONFIG = Path(__file__).parents[1] / "configs" / "dermatology.yaml"
CLINICS = ("rosendahl", "vidir_modern")
TASKS = {
    f"{rare}-{lesions}-to-{there}": (rare, lesions, there)
    for rare, lesions, there in product(("bcc", "mel"), (15, 40), CLINICS)
}


def linked(ham10000: Path, outputs: Path) -> Path:
    """A folder with the images of both clinics, as links, and one table with their sources."""
    table = pd.read_csv(ham10000 / "metadata.csv", dtype=str).merge(pd.read_csv(ham10000 / "source.csv", dtype=str))
    folder = outputs / "clinics"
    folder.mkdir(parents=True, exist_ok=True)
    table[table["source"].isin(CLINICS)].to_csv(folder / "metadata.csv", index=False)
    for name in ("images", "masks"):
        if not (folder / name).exists():
            (folder / name).symlink_to((ham10000 / name).resolve())
    return folder


def configured(task: str, data: Path, overrides: list[str], name: str, outputs: Path) -> Config:
    rare, lesions, there = TASKS[task]
    own = [
        f"name={'-'.join(part for part in (task, name) if part)}", f"outputs={outputs}", f"dataset.path={data}", "folds=5",
        f"dataset.rare_class={rare}", f"dataset.rare_groups={lesions}", "dataset.attribute_columns=[source]",
        f"dataset.deployment={{source: [{there}]}}", "evaluate.portions=false",
    ]  # fmt: skip
    return load_config(CONFIG, [*own, *overrides])


def main(ham10000: Path, tasks: list[str], overrides: list[str], name: str, outputs: Path) -> None:
    data = linked(ham10000, outputs)
    measured((task, configured(task, data, overrides, name, outputs)) for task in tasks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ham10000", type=Path)
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--name", default="", help="added to the names of the runs, for other overrides")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/clinics"))
    main(**vars(parser.parse_args()))
