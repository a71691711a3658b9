"""Which small faults in the statistics would the tests notice? A seeded sample of mutants, each run against its tests.

python benchmarks/mutations.py                              # 150 mutants, at most 40 minutes
python benchmarks/mutations.py --sample 20 --seed 1 synthimg/metrics/recall.py

A mutant is the package with one change in one place: another comparison, a constant one more or less, `or` for `and`, a
condition turned round, a keyword argument left out, None returned. It is killed if a test fails or runs out of time, and
survives otherwise. benchmarks/mutations.yaml says which test files belong to which module, and which mutants change nothing
that could be noticed: those count neither way. docs/mutations.md has the last score.
"""

from __future__ import annotations

import argparse
import ast
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "argmax": "argmin", "argmin": "argmax", "ceil": "floor"}
UNSEEN = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)
"""Messages and imports: a change there is no fault of statistics."""
SPARED = ("strict", "device", "desc", "disable", "unit", "allow_pickle")
"""Keyword arguments without which results are the same: guards, devices and what progress bars show."""
FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["accelerate", "diffusers", "hypothesis", "imblearn.over_sampling", "pandas", "PIL.Image", "pydantic", "pytest",
             "scipy.stats", "sklearn.linear_model", "torchvision", "tqdm.auto", "yaml"]  # fmt: skip
"""What takes the tests seconds to import, and is the same for each mutant: a server imports it once and is forked."""
HIDDEN_FIELDS = ("annotation", "returns", "decorator_list", "type_params")


class Place(NamedTuple):
    """One possible change of a parsed module; `apply` makes it, in the tree it was found in."""

    line: int
    what: str
    apply: Callable[[], None]


class Mutant(NamedTuple):
    module: str
    source: str
    """The module's whole text, as it is and with the change: the checkout may go on while the tests run."""
    changed: str
    line: int
    text: str
    """The source line and the change: what mutations.yaml names a mutant by."""


def places(tree: ast.AST) -> Iterator[Place]:
    """Every possible change, in the order of the source."""
    for name, value in ast.iter_fields(tree):
        if name in HIDDEN_FIELDS:
            continue
        for child in value if isinstance(value, list) else [value]:
            spared = isinstance(child, ast.keyword) and child.arg in SPARED
            if isinstance(child, ast.AST) and not isinstance(child, UNSEEN) and not spared:
                line = child.target.lineno if isinstance(child, ast.comprehension) else getattr(child, "lineno", 0)
                yield from (Place(line, what, apply) for what, apply in changes(child))
                yield from places(child)


def changes(node: ast.AST) -> Iterator[tuple[str, Callable[[], None]]]:
    """What can be changed about one node."""
    match node:
        case ast.Compare():
            for index, found in enumerate(node.ops):
                yield from swapped(found, lambda new, index=index: node.ops.__setitem__(index, new))
        case ast.BinOp(right=ast.Constant(value=str()) | ast.JoinedStr()):
            pass  # a path or a text put together: any other operator is an error at once
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            yield from swapped(node.op, lambda new: setattr(node, "op", new))
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", lambda: setattr(node, "value", not value)
        case ast.Constant(value=int(value) | float(value)):
            for new in (value + 1, value - 1):
                yield f"{value} -> {new}", lambda new=new: setattr(node, "value", new)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            # twice is not at all
            yield f"{type(node.op).__name__} removed", lambda: setattr(node, "operand", ast.UnaryOp(node.op, node.operand))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "returns None", lambda: setattr(node, "value", ast.Constant(None))
        case ast.If() | ast.IfExp() | ast.While():
            yield "condition negated", lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension(ifs=[_, *_]):
            yield "condition of the loop left out", lambda: node.ifs.clear()
        case ast.Call():
            for index, keyword in enumerate(node.keywords):
                if keyword.arg not in (None, *SPARED):
                    yield f"{keyword.arg}= left out", lambda index=index: node.keywords.pop(index) and None
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in NAMES:
                yield f"{called.attr} -> {NAMES[called.attr]}", lambda: setattr(called, "attr", NAMES[called.attr])
            if isinstance(called, ast.Name) and called.id in NAMES:
                yield f"{called.id} -> {NAMES[called.id]}", lambda: setattr(called, "id", NAMES[called.id])


def swapped(found: ast.AST, put: Callable[[Any], None]) -> Iterator[tuple[str, Callable[[], None]]]:
    if new := SWAPS.get(type(found)):
        yield f"{type(found).__name__} -> {new.__name__}", lambda: put(new())


def mutants(module: str) -> list[Mutant]:
    """All mutants of a module that differ from it and from each other."""
    source = (ROOT / module).read_text()
    lines, seen, names = ["", *source.splitlines()], {ast.unparse(ast.parse(source))}, Counter[str]()
    found = []
    for number, place in enumerate(places(ast.parse(source))):
        if (changed := mutated(source, number)) not in seen:
            seen.add(changed)
            text = f"{lines[place.line].strip()} [{place.what}]"
            names[text] += 1  # the same change can be made in several places of a line
            found.append(Mutant(module, source, changed, place.line, text + f" ({names[text]})" * (names[text] > 1)))
    return found


def mutated(source: str, number: int) -> str:
    """A module's source with one change."""
    tree = ast.parse(source)
    list(places(tree))[number].apply()
    return ast.unparse(ast.fix_missing_locations(tree))


def copied(folder: Path) -> Path:
    """A copy of the repository to change; the embedded model, which is large, is only linked."""
    model = ROOT / "synthimg" / "base_model"
    for name in ("synthimg", "tests", "prompts", "configs", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("base_model", "__pycache__"))
    for file in [*ROOT.glob("*.toml"), *ROOT.glob("*.md")]:
        shutil.copy(file, folder)
    (folder / "synthimg" / "base_model").symlink_to(model)
    return folder


def passes(folder: Path, tests: list[str], limit: float | None = None) -> bool:
    """Whether the tests pass in this copy; running out of time, in seconds, is failing."""
    process = FORKS.Process(target=tested, args=(folder, tests))
    process.start()
    process.join(limit)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)  # with what the tests have started
        process.join()
    return process.exitcode == 0


def tested(folder: Path, tests: list[str]) -> None:
    """Run the tests in this process, a fork of one that has imported PRELOADED, and leave with their exit status."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    import pytest

    sys.exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:randomly",
                          "--hypothesis-seed=0", *tests]))  # fmt: skip


def outcomes(drawn: list[Mutant], tests: dict[str, list[str]], minutes: float, jobs: int) -> Iterator[bool | None]:
    """Whether each mutant survives, in order; None where it was not its turn in time."""
    end, copies = time.monotonic() + 60 * minutes, SimpleQueue[Path]()

    def unchanged(files: tuple[str, ...]) -> float:
        """Seconds some tests take; those that take twice as long and half a minute more run for ever."""
        folder, started = copies.get(), time.monotonic()
        if not passes(folder, list(files)):
            raise SystemExit(f"{' '.join(files)}: fails without any mutant")
        copies.put(folder)
        return time.monotonic() - started

    def survives(mutant: Mutant) -> bool | None:
        if time.monotonic() > end:
            return None
        folder = copies.get()
        try:
            (folder / mutant.module).write_text(mutant.changed)
            own = tests[mutant.module]
            return passes(folder, own, 2 * seconds[tuple(own)] + 30)
        finally:
            (folder / mutant.module).write_text(mutant.source)
            copies.put(folder)

    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            copies.put(copied(Path(scratch) / str(number)))
        lists = sorted({tuple(tests[mutant.module]) for mutant in drawn})  # several modules share one
        seconds = dict(zip(lists, pool.map(unchanged, lists), strict=True))
        yield from pool.map(survives, drawn)


def main(modules: list[str], known: dict[str, Any], asked: argparse.Namespace) -> None:
    """Draw, run, and print the survivors and the score."""
    everything = [mutant for module in modules for mutant in mutants(module)]
    sample = random.Random(asked.seed).sample(everything, min(asked.sample, len(everything)))
    drawn = [mutant for mutant in sample if mutant.text not in known["equivalent"]]
    print(f"{len(everything)} mutants of {len(modules)} modules, {len(sample)} drawn", flush=True)
    tally: Counter[bool | None] = Counter()
    for mutant, survives in zip(drawn, outcomes(drawn, known["tests"], asked.minutes, asked.jobs), strict=True):
        tally[survives] += 1
        print(f"{tally.total()} of {len(drawn)}", end="\r", file=sys.stderr)
        if survives:
            print(f"survives: {mutant.module}:{mutant.line}: {mutant.text}", flush=True)
    tried = tally[True] + tally[False]
    print(f"score {tally[False] / max(tried, 1):.2f}: {tally[False]} of {tried} killed; {len(sample) - len(drawn)} change "
          f"nothing that could be noticed, {tally[None]} not tried for want of time")  # fmt: skip


if __name__ == "__main__":
    known = yaml.safe_load((Path(__file__).with_suffix(".yaml")).read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="default: all that mutations.yaml names")
    parser.add_argument("--sample", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=40, help="mutants not begun by then are left out")
    parser.add_argument("--jobs", type=int, default=2, help="test runs at a time")
    arguments = parser.parse_args()
    chosen = arguments.modules or list(known["tests"])
    for name in chosen:
        if not (ROOT / name).is_file():
            parser.error(f"{name}: no such file; mend benchmarks/mutations.yaml")
        if name not in known["tests"]:
            parser.error(f"{name}: benchmarks/mutations.yaml names no tests for it")
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    FORKS.set_forkserver_preload(PRELOADED)
    main(chosen, known, arguments)
