"""Random data sets with several faults at once: does `prepare` read each as it is, or say why not?

python benchmarks/fuzz_input.py --trees 2000 --seed 0

Tree number i is drawn from seed + i by random_trees.py, which also writes a single one. What it holds is known, so of each
tree is asked: no traceback, no hang, bounded memory; every usable picture is a record with its label, and no other; the
account adds up to the files on disk; what must be refused is refused, and nothing else. Prints a line for each failure and a
summary; exits with 1 if there is a failure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
import unicodedata
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
from random_trees import Tree, grow

from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.prepare import prepare_dataset

SECONDS = 180
"""A tree that takes longer hangs; it takes one, or many where the machine has other work."""
MEMORY = 2.0
"""GiB that a process may take."""
BATCH = 100
"""Trees of one process."""


def on_disk(tree: Tree) -> int:
    """Files of the data set, counted apart from the program."""
    if tree.dataset["path"] != str(tree.root):
        folders = {os.path.dirname(path) for path in [*tree.labels, *tree.unlabelled]}
        return 1 + sum(not os.path.isdir(entry.path) for folder in folders for entry in os.scandir(folder))
    found = [(parent, name) for parent, subs, names in os.walk(tree.root) for name in [*subs, *names]]
    own = [os.path.join(parent, name) for parent, name in found]
    return sum(os.path.islink(path) or not os.path.isdir(path) for path in own) - tree.followed + tree.far


def wrong(tree: Tree, folder: Path) -> list[str]:
    """What does not hold of a prepared tree."""
    frame = pd.read_parquet(folder / "records.parquet")
    root = tree.root
    found = {os.path.realpath(root / path): label for path, label in zip(frame["path"], frame["label"], strict=True)}
    expected = {path: unicodedata.normalize("NFC", label).strip() for path, label in tree.labels.items()}
    problems = [f"missing: {path!r}" for path in expected.keys() - found.keys()]
    problems += [f"should not be used: {path!r} as {found[path]!r}" for path in found.keys() - expected.keys()]
    problems += [f"wrong label: {path!r} as {found[path]!r}" for path in found.keys() & expected.keys()
                 if found[path] != expected[path]]  # fmt: skip
    if len(found) < len(frame):
        problems.append(f"{len(frame)} records of {len(found)} files")
    account = json.loads((folder / "summary.json").read_text())["files"]
    parts = account["used"] + account["mask"] + account["left_out"] + account["ignored"]
    if not account["on_disk"] == parts == on_disk(tree) or account["used"] != len(frame):
        problems.append(f"account {account} of {on_disk(tree)} files and {len(frame)} records")
    left_out = pd.read_csv(folder / "excluded.csv", keep_default_na=False)
    if len(left_out) != account["left_out"] + account["absent"]:
        problems.append(f"{len(left_out)} rows of excluded.csv for {account}")
    return problems


def prepared(tree: Tree) -> Path:
    """The folder of the prepared tree; without a word."""
    section = {"prompts": "generic", "consent": {"licence": "CC0", "scope": ["research"]}, **tree.dataset}
    outputs = str(tree.place / "out")
    config = {"name": "t", "outputs": outputs, "resolution": 32, "folds": 1, "device": "cpu", "dataset": section}
    with Path(os.devnull).open("w") as quiet, redirect_stdout(quiet), redirect_stderr(quiet):
        return prepare_dataset(parse(config))


def check(seed: int, place: Path) -> tuple[str, list[str], list[str]]:
    """Outcome ("prepared", "refused" or "traceback"), problems and faults of one tree."""
    tree = grow(place, seed)
    try:
        folder = prepared(tree)
        return "prepared", ["accepted what has to be refused"] if tree.refused else wrong(tree, folder), tree.faults
    except UserError as error:
        return "refused", [] if tree.refused else [f"refused: {error}"], tree.faults
    except Exception:
        return "traceback", [traceback.format_exc()], tree.faults


def work(seeds: range, results: Any) -> None:
    """Check some trees and send what came out of each."""
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
            outcome = check(seed, Path(place))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        results.send((seed, *outcome, peak))


def fuzz(trees: int, seed: int) -> int:
    """Check the trees, in processes of their own; returns how many failed."""
    context = multiprocessing.get_context("fork")
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    failed, most, begun, start = 0, 0.0, time.perf_counter(), seed
    while start < seed + trees:
        seeds = range(start, min(start + BATCH, seed + trees))
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(seeds, sender))
        process.start()
        sender.close()
        for start in seeds:
            try:
                found = receiver.recv() if receiver.poll(SECONDS) else (start, "hang", [f"{SECONDS} s"], [], 0)
            except EOFError:
                found = (start, "killed", ["the process ended"], [], 0)
            _, outcome, problems, kinds, peak = found
            if peak > MEMORY:
                problems = [*problems, f"{peak:.1f} GiB"]
            outcomes[outcome], most = outcomes[outcome] + 1, max(most, peak)
            faults.update(kind.split()[0] for kind in kinds)
            if problems:
                failed += 1
                print(f"seed {start} ({', '.join(kinds)}): {outcome}: " + "\n  ".join(problems), flush=True)
            if outcome in ("hang", "killed"):
                process.kill()
                break
        process.join()
        start += 1
    seconds = time.perf_counter() - begun
    print(f"{trees} trees from seed {seed}: {dict(outcomes)}, {failed} failed; {seconds / trees:.2f} s each, {most:.2f} GiB")
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in faults.most_common()))
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="the first tree's seed")
    options = parser.parse_args()
    sys.exit(fuzz(options.trees, options.seed) > 0)


if __name__ == "__main__":
    main()
