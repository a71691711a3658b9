"""Pairs of pictures before and after an edit, with the instruction: what a model that edits learns from."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .. import scenes
from ..attributes import captions
from ..core.seeds import derive

BATCH = 50
"""Scenes that share one seed."""
GLOBAL = ("light", "texture", "tone")
"""What changes a scene everywhere."""


class Asked(NamedTuple):
    """What an edit is asked for: an attribute and its category, or `captions.LABEL` and a label."""

    name: str
    value: str


class Pairs(NamedTuple):
    """N pairs; row i of each field belongs to the same one.

    Attributes:
        before, after: uint8 [N, R, R, 3].
        mask: bool [N, R, R], where a change is meant to be.
        texts: the instructions.
        asked: what they ask for.
        records: ids of the records that a pair shows; none for scenes.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    texts: list[str]
    asked: list[Asked]
    records: list[tuple[str, ...]]


def join(parts: list[Pairs]) -> Pairs:
    """All pairs of several sets, at least one, in their order."""
    before, after, mask = (np.concatenate([part[field] for part in parts]) for field in range(3))
    texts, asked, records = (list(chain.from_iterable(part[field] for part in parts)) for field in range(3, 6))
    return Pairs(before, after, mask, texts, asked, records)


def of_scenes(count: int, side: int, seed: int) -> Pairs:
    """Pairs of procedural scenes, each kind of edit about equally often; wordings are those of prompts/scenes.yaml.

    Args:
        side: of the pictures in pixels.
    """
    prompts, parts = captions.load("scenes"), []
    each = -(-count // len(scenes.EDITS))
    size = min(BATCH, each)
    for turn in range(-(-each // size)):
        for name, kind in scenes.EDITS:
            parts.append(_of_scene(prompts, name, kind, size, side, derive(seed, "scene pairs", name, kind, turn)))
    every = join(parts)
    chosen = np.sort(np.random.default_rng(derive(seed, "scene pairs")).permutation(len(every.texts))[:count])
    return _rows(every, chosen)


def _of_scene(prompts: captions.Prompts, name: str, kind: str, count: int, side: int, seed: int) -> Pairs:
    """Pairs of one kind of scene and edit."""
    both = scenes.pairs(count, torch.Generator().manual_seed(seed), name, kind)
    (first, objects), (second, later) = (scenes.render(scene, side) for scene in both)
    before, after = scenes.quantised(first), scenes.quantised(second)
    changes = (objects + later)[:, 0].numpy() > 0
    changes |= True if name in GLOBAL else (before != after).any(3)  # borders are soft
    truths = scenes.attributes(both[1])
    if name == "defect":
        asked = [Asked(captions.LABEL, scenes.state(truth)) for truth in truths]
    else:
        asked = [Asked(name, truth[name]) for truth in truths]
    random = np.random.default_rng(derive(seed, "wording"))
    texts = [captions.instruction(prompts, int(random.integers(1000)), *each, {}) for each in asked]
    return Pairs(before, after, changes, texts, asked, [()] * count)


def _rows(pairs: Pairs, rows: NDArray[np.intp]) -> Pairs:
    texts, asked, records = ([part[row] for row in rows] for part in (pairs.texts, pairs.asked, pairs.records))
    return Pairs(pairs.before[rows], pairs.after[rows], pairs.mask[rows], texts, asked, records)
