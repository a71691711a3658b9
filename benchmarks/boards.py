"""Does the product do no harm where its drawings do not resemble the defects? Circuit boards, with the recipe chosen inside.

python benchmarks/boards.py /data/base-corpus draws=1 --tasks mouse-bite-5 pin-hole-20

Each task is a run over five folds by board. One kind of defect is rare, with 5 or 20 real images; the other class is boards
without a defect. The pictures are generic `surface` defects, drawn on boards without a defect. `evaluate.choose` picks the
control and the use of the pictures inside each part's training groups. /data/base-corpus needs metadata.jsonl with the
pictures of DeepPCB (MIT licence), whose `original` begins with the five digits of the board.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
from gain import CONFIG, measured

from synthimg.config import Config
from synthimg.reading import load_config

KINDS = ("mouse bite", "pin hole", "short circuit")
TASKS = {f"{kind.replace(' ', '-')}-{images}": (kind, images) for kind, images in product(KINDS, (5, 20))}


def linked(corpus: Path, kind: str, outputs: Path) -> Path:
    """A folder with one kind of defect and boards without any, as links, and a table with labels and boards."""
    table = pd.read_json(corpus / "metadata.jsonl", lines=True)
    table = table[table["source"] == "deeppcb"]
    label = table["text"].str.extract(r"with a (.+?) defect$", expand=False).fillna("intact")
    table = table.assign(label=label, board=table["original"].str[:5])
    folder = outputs / f"boards-{kind.replace(' ', '-')}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = table.loc[table["label"].isin(["intact", kind]), ["file_name", "label", "board"]]
    kept.to_csv(folder / "metadata.csv", index=False)
    if not (folder / "images").exists():
        (folder / "images").symlink_to((corpus / "images").resolve())
    return folder


def configured(task: str, corpus: Path, overrides: list[str], outputs: Path) -> Config:
    kind, images = TASKS[task]
    own = [
        f"name={task}", f"outputs={outputs}", f"dataset.path={linked(corpus, kind, outputs)}", "dataset.group=board",
        f"dataset.rare_class={kind}", f"dataset.classes=[intact, {kind}]", f"dataset.rare_budget={images}",
        "dataset.rare_groups=null", "dataset.prompts=generic", "dataset.consent={licence: MIT, scope: [research]}",
        "generate.count=120", "generate.defects=surface", "evaluate.choose=true", "evaluate.subgroups=[]",
    ]  # fmt: skip
    return load_config(CONFIG, [*own, *overrides])


def main(corpus: Path, tasks: list[str], overrides: list[str], outputs: Path) -> None:
    measured((task, configured(task, corpus, overrides, outputs)) for task in tasks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--outputs", type=Path, default=Path("outputs/boards"))
    main(**vars(parser.parse_args()))
