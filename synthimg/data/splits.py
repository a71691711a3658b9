"""Which record is for training, validation or test: by group, stratified by class, from the seed alone.

Pure functions of (id, label, group, seed): the order of the rows does not matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..config import Split
from ..core.seeds import derive
from ..errors import UserError

NAMES = ("train", "validation", "test")
LEAST = 2
"""Groups that the rare class needs in each split: of a single one, no spread can be told."""


def unite(groups: Sequence[str], pairs: np.ndarray) -> list[str]:
    """Groups joined across duplicates; each united group takes the first of its members' names.

    Args:
        groups: group name per record.
        pairs: int [M, 2], records that show the same thing.
    """
    names, member = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    if not len(names):
        return []
    first, second = member[pairs[:, 0]], member[pairs[:, 1]]
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    leader = {number: str(name) for number, name in reversed(list(zip(component, names, strict=True)))}
    return [leader[component[index]] for index in member]


def strata(labels: Sequence[str], groups: Sequence[str], rare_class: str) -> dict[str, str]:
    """The class under which each group is drawn: the rare class if it holds one, else the rarest of its labels."""
    counts = Counter(labels)
    found: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        found[group].add(label)
    return {group: min(held, key=lambda label: (label != rare_class, counts[label], label))
            for group, held in found.items()}  # fmt: skip


def assign(labels: Sequence[str], groups: Sequence[str], rare_class: str, shares: Split, seed: int) -> list[str]:
    """`train`, `validation` or `test` per record; no group is in two of them.

    Each class fills the three splits by its own images, group by group in an order drawn from the seed; of a group that
    holds the rare class only its rare images are counted. A class of three groups or more is in every split.

    Raises:
        UserError: the rare class has too few groups to be in all three.
    """
    stratum = strata(labels, groups, rare_class)
    sizes = Counter(group for label, group in zip(labels, groups, strict=True) if label == stratum[group])
    members: dict[str, list[str]] = defaultdict(list)
    for group, label in stratum.items():
        members[label].append(group)
    _check_rare(rare_class, len(members[rare_class]), labels, shares)
    wanted = shares.model_dump()  # each above 0: _check_rare sees to it
    chosen: dict[str, str] = {}
    for label, own in members.items():
        order = sorted(own, key=lambda group: (derive(seed, "split", label, group), group))
        chosen |= _fill({group: sizes[group] for group in order}, wanted)
    return [chosen[group] for group in groups]


def _check_rare(rare_class: str, found: int, labels: Sequence[str], shares: Split) -> None:
    if not found:
        there = ", ".join(sorted(set(labels))) or "none"
        raise UserError(f"dataset.rare_class: no usable image is labelled '{rare_class}'; the classes are: {there}")
    missing = [name for name in NAMES if not getattr(shares, name)]
    if missing:
        raise UserError(f"dataset.split.{missing[0]}: is 0, so the rare class would be absent from it; "
                        "every split needs a share")  # fmt: skip
    if found < LEAST * len(NAMES):
        raise UserError(
            f"dataset.rare_class: '{rare_class}' has {found} group{'s' * (found != 1)} "
            f"({labels.count(rare_class)} images); "
            f"at least {LEAST * len(NAMES)} are needed, {LEAST} each for training, validation and test. "
            "Images of one group (or duplicates) must stay together; add images of other groups, "
            "or choose another rare class"
        )  # fmt: skip


def check_splits(frame: pd.DataFrame, rare: str) -> None:
    """Refuse splits on which recall at a fixed specificity cannot be measured.

    Args:
        frame: columns `label` and `split`.
    """
    is_rare = frame["label"] == rare
    if is_rare.all():
        raise UserError(f"dataset.classes: every image is '{rare}'; recall needs images of other classes to tell it from")
    for split, wanted, what in (
        ("train", is_rare, f"images of '{rare}'"),
        ("train", ~is_rare, "images of other classes"),
        ("validation", ~is_rare, "images of other classes (they set the threshold)"),
        ("test", is_rare, f"images of '{rare}'"),
        ("test", ~is_rare, "images of other classes"),
    ):
        if not ((frame["split"] == split) & wanted).any():
            raise UserError(f"dataset.split: no {what} in {split}; raise dataset.split.{split} or add groups")


def _fill(sizes: dict[str, int], shares: dict[str, float]) -> dict[str, str]:
    """Give each group, in the order given, to the split that lacks most of its share, among those it fits into."""
    total = sum(sizes.values())
    room = {name: share * total for name, share in shares.items()}
    chosen: dict[str, str] = {}
    for group, size in sizes.items():
        fits = [name for name in room if room[name] >= size - 0.5]
        lack = {name: room[name] / (shares[name] * total) for name in fits} or room
        name = max(lack, key=lambda name: (lack[name], -NAMES.index(name)))
        chosen[group] = name
        room[name] -= size
    least = min(LEAST, len(sizes) // len(shares))
    for name in shares:
        while (counts := Counter(chosen.values()))[name] < least:
            donor = max(shares, key=lambda other: (counts[other], -NAMES.index(other)))
            moved = min((group for group in chosen if chosen[group] == donor), key=lambda group: (sizes[group], group))
            chosen[moved] = name
    return chosen


def reserve(
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], splits: Sequence[str],
    rare_class: str, budget: int | None, seed: int,
) -> list[str]:  # fmt: skip
    """The splits with the rare training images beyond the budget moved to `reserve`.

    Groups are kept in an order drawn from the seed until the budget is reached; the one that overshoots is cut in
    two, which leaks nothing, because neither part is tested on.
    """
    rare = [index for index, found in enumerate(labels) if found == rare_class and splits[index] == "train"]
    if budget is None or len(rare) <= budget:
        return list(splits)
    rare.sort(key=lambda index: (derive(seed, "budget", groups[index]), groups[index], ids[index]))
    beyond = set(rare[budget:])
    return ["reserve" if index in beyond else split for index, split in enumerate(splits)]


def within_limit(labels: Sequence[str], groups: Sequence[str], limit: int | None, seed: int) -> list[bool]:
    """Which records are kept: at most `limit` per class, whole groups only, drawn by seed."""
    if limit is None:
        return [True] * len(labels)
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        held[group][label] += 1
    taken: Counter[str] = Counter()
    kept: set[str] = set()
    for group in sorted(held, key=lambda group: (derive(seed, "limit", group), group)):
        if all(taken[label] + count <= limit for label, count in held[group].items()):
            taken += held[group]
            kept.add(group)
    return [group in kept for group in groups]
