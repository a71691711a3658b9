"""Does a model that edits do what it is told, and nothing else? On procedural scenes that no training has seen.

python benchmarks/edits.py --model embedded
python benchmarks/edits.py --model outputs/my-run --image-guidance 1.2 1.5 2 3 --sheet docs/edits.png

The judge is the network of benchmarks/base_model.py, which saw rendered scenes alone and no instruction. "true" is what it
finds in the true second picture, sent through the same autoencoder: the most that an edit can reach.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import base_model
import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from synthimg import scenes
from synthimg.attributes import captions
from synthimg.core.seeds import derive
from synthimg.diffusion import base, sample
from synthimg.metrics import edits
from synthimg.tools.edit import editor

UNSEEN = 5 * 10**6
"""Seeds from here on are the benchmark's."""
GLOBAL = ("light", "texture", "tone")
OF_DEFECT = ("mark", "count", "area", "size", "border", "place")


class Task(NamedTuple):
    """One kind of edit of one kind of scene; row i of each field belongs to the same edit."""

    name: str
    kind: str
    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray
    texts: list[str]
    truths: list[dict[str, str]]


def tasks(count: int, side: int) -> list[Task]:
    """`count` edits of each kind, all of scenes that no training sees."""
    prompts, found = captions.load("scenes"), []
    for number, (name, kind) in enumerate(scenes.EDITS):
        both = scenes.pairs(count, torch.Generator().manual_seed(UNSEEN + number), name, kind)
        (first, objects), (second, later) = (scenes.render(scene, side) for scene in both)
        before, after = scenes.quantised(first), scenes.quantised(second)
        mask = np.ones(before.shape[:3], bool) if name in GLOBAL else (objects + later)[:, 0].numpy() > 0
        if name not in GLOBAL:
            mask |= (before != after).any(3)
        truths = scenes.attributes(both[1])
        asked = [(captions.LABEL, scenes.state(truth)) if name == "defect" else (name, truth[name]) for truth in truths]
        texts = [captions.instruction(prompts, row, *each, {}) for row, each in enumerate(asked)]
        found.append(Task(name, kind, before, after, mask, texts, truths))
    return found


def edited(pipeline: Any, task: Task, guidance: float, image_guidance: float) -> np.ndarray:
    """What the model makes of the first pictures, uint8 [n, R, R, 3]; nothing is pasted back."""
    prompts, parts = base.encode_prompts(pipeline, ["", *task.texts]), []
    solver = sample.Solver(base_model.SOLVER_STEPS, guidance, task.before.shape[1])
    for start in range(0, len(task.texts), base_model.BATCH):
        rows = list(range(start, min(start + base_model.BATCH, len(task.texts))))
        parts.append(sample.sample_images(
            pipeline, prompts.rows([row + 1 for row in rows]), prompts.rows([0] * len(rows)),
            [derive(UNSEEN, task.name, task.kind, row) for row in rows],
            solver, sample.Edit(task.before[rows], image_guidance),
        ))  # fmt: skip
    return np.concatenate(parts)


def judged(judge: Any, pictures: np.ndarray, task: Task) -> tuple[float, float]:
    """The share of pictures in which the judge finds what was asked for, and that of all other attributes it finds."""
    measured = base_model._measure(judge, pictures)
    right, kept = [], []
    for row, truth in enumerate(task.truths):
        found = {name: scenes.VALUES[name][int(measured[name][row])] for name in truth if name != "kind"}
        if task.name == "defect":
            right.append(scenes.state({**found, "kind": task.kind}) == scenes.state(truth))
            others = [name for name in found if name not in OF_DEFECT]
        else:
            right.append(found[task.name] == truth[task.name])
            others = [name for name in found if name != task.name]
        kept += [found[name] == truth[name] for name in others]
    return float(np.mean(right)), float(np.mean(kept))


def main(options: argparse.Namespace) -> None:
    """Print one table for each image guidance."""
    pipeline, side = editor(options.model)
    judge = base_model._judge(base.load("embedded", base_model.CPU), options.folder)
    every = tasks(options.count, side)
    strips = []
    for image_guidance in options.image_guidance:
        print(f"\nguidance {options.guidance}, image guidance {image_guidance}, {options.count} edits a line\n")
        print("| edit | asked found | true | others kept | true | change inside | outside | autoencoder outside |")
        print("|---|---|---|---|---|---|---|---|")
        for task in tqdm(every, unit="edit"):
            found = edited(pipeline, task, options.guidance, image_guidance)
            lost, truth = (base_model._reconstructed(pipeline, part) for part in (task.before, task.after))
            (right, kept), (most, steady) = judged(judge, found, task), judged(judge, truth, task)
            moved, own = edits.change(task.before, found, task.mask), edits.change(task.before, lost, task.mask)
            cells = [moved.inside, moved.outside, own.outside]
            told = " | ".join("" if np.isnan(cell).all() else f"{np.nanmean(cell):.1f}" for cell in cells)
            print(f"| {task.name} of {task.kind} | {right:.2f} | {most:.2f} | {kept:.2f} | {steady:.2f} | {told} |")
            strips.append(np.concatenate([np.concatenate(list(part[:6]), 1) for part in (task.before, found, task.after)]))
    if options.sheet:
        Image.fromarray(np.concatenate(strips)).save(options.sheet)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="a run with finetune.edits, or a base that can edit")
    parser.add_argument("--count", type=int, default=48, help="edits of each kind")
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--image-guidance", type=float, nargs="+", default=[1.5])
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks"), help="where the trained judge is kept")
    parser.add_argument("--sheet", type=Path, help="a picture of lines of first, edited and true second pictures")
    main(parser.parse_args())
