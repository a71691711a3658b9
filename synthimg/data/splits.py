"""Which record is for training, validation or test: by group, stratified by class, from the seed alone.

With folds, `fold_of` deals out the groups once, and `split_of` says what a fold's images are for in one part of the run. All
are pure functions of (id, label, group, attributes, seed): the order of the rows does not matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..config import Config, Dataset, Part, Split
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
    # as objects: an array of text takes for each the room of the longest
    member, names = pd.factorize(np.array([str(group) for group in groups], object), sort=True)
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
    found = sum(label == rare_class for label in strata(labels, groups, rare_class).values())
    _check_rare(rare_class, found, labels, shares)
    return dealt(labels, groups, rare_class, shares.model_dump(), seed)  # each above 0: _check_rare sees to it


def dealt(
    labels: Sequence[str], groups: Sequence[str], rare_class: str, shares: dict[str, float], seed: int,
    place: Sequence[str] | None = None,
) -> list[str]:  # fmt: skip
    """Whole groups dealt out to parts of these shares; returns each record's part.

    Args:
        place: further strata, such as the site, per record; a group counts where most of its images are.
    """
    stratum = strata(labels, groups, rare_class)
    sizes = Counter(group for label, group in zip(labels, groups, strict=True) if label == stratum[group])
    places: dict[str, Counter[str]] = defaultdict(Counter)
    for group, name in zip(groups, place or [""] * len(groups), strict=True):
        places[group][name] += 1
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group, label in stratum.items():
        members[label, min(places[group], key=lambda name: (-places[group][name], name))].append(group)
    chosen: dict[str, str] = {}
    for (label, _), own in members.items():
        order = sorted(own, key=lambda group: (derive(seed, "split", label, group), group))
        chosen |= _fill({group: sizes[group] for group in order}, shares)
    return [chosen[group] for group in groups]


def fold_of(frame: pd.DataFrame, rare: str, deployment: Mapping[str, Sequence[str]], folds: int, seed: int) -> list[int]:
    """The fold of every record: whole groups, every class spread evenly, within the deployment's conditions and elsewhere.

    Args:
        frame: columns `label`, `group`, and the attributes that `deployment` names.

    Raises:
        UserError: where the classifier will be used, a class has too few groups for a test and a threshold in every fold.
    """
    there = is_there(frame, deployment)
    for what, rows in ((f"'{rare}'", frame["label"] == rare), ("the other classes", frame["label"] != rare)):
        found = frame.loc[rows & there, "group"].nunique()
        if found < folds:
            where = " of dataset.deployment" if deployment else ""
            raise UserError(
                f"folds: {folds} folds need as many groups of {what}{where}, there are {found}; "
                "choose fewer folds, or add images of other groups"
            )
    shares = {str(fold): 1 / folds for fold in range(folds)}
    return [
        int(fold) for fold in dealt(list(frame["label"]), list(frame["group"]), rare, shares, seed, list(there.astype(str)))
    ]


def is_there(frame: pd.DataFrame, deployment: Mapping[str, Sequence[str]]) -> pd.Series[bool]:
    """Which records show the conditions of the deployment; all of them where it names none."""
    found = pd.Series(True, frame.index)
    for name, categories in deployment.items():
        found &= frame[f"attribute.{name}"].isin(list(categories))
    return found


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


def check_splits(frame: pd.DataFrame, rare: str, budget: int | None = None) -> None:
    """Refuse splits on which recall at a fixed specificity cannot be measured.

    Args:
        frame: columns `label` and `split`, and `fold` where the run has folds.
        budget: with 0, no rare training image is asked for.
    """
    is_rare = frame["label"] == rare
    if is_rare.all():
        raise UserError(f"dataset.classes: every image is '{rare}'; recall needs images of other classes to tell it from")
    for split, wanted, what in (
        *([] if budget == 0 else [("train", is_rare, f"images of '{rare}'")]),
        ("train", ~is_rare, "images of other classes"),
        ("validation", ~is_rare, "images of other classes (they set the threshold)"),
        ("test", is_rare, f"images of '{rare}'"),
        ("test", ~is_rare, "images of other classes"),
    ):
        if not ((frame["split"] == split) & wanted).any():
            key, mend = (
                ("folds", "choose fewer folds") if "fold" in frame else ("dataset.split", f"raise dataset.split.{split}")
            )
            raise UserError(f"{key}: no {what} in {split}; {mend} or add groups")


def _fill(sizes: dict[str, int], shares: dict[str, float]) -> dict[str, str]:
    """Give each group, in the order given, to the part that lacks most of its share, among those it fits into."""
    total, rank = sum(sizes.values()), {name: number for number, name in enumerate(shares)}
    room = {name: share * total for name, share in shares.items()}
    chosen: dict[str, str] = {}
    for group, size in sizes.items():
        fits = [name for name in room if room[name] >= size - 0.5]
        lack = {name: room[name] / (shares[name] * total) for name in fits} or room
        name = max(lack, key=lambda name: (lack[name], -rank[name]))
        chosen[group] = name
        room[name] -= size
    least = min(LEAST, len(sizes) // len(shares))
    for name in shares:
        while (counts := Counter(chosen.values()))[name] < least:
            donor = max(shares, key=lambda other: (counts[other], -rank[other]))
            moved = min((group for group in chosen if chosen[group] == donor), key=lambda group: (sizes[group], group))
            chosen[moved] = name
    return chosen


def split_of(frame: pd.DataFrame, config: Config) -> list[str]:
    """What every record is for in one part of the run: train, validation, test, reserve (for the oracle), or unused.

    Args:
        frame: columns `id`, `label`, `group`, the attributes of the deployment, and `fold` where the run has folds.
    """
    dataset, part = config.dataset, config.part or Part()
    if part == "final":
        return _final(frame, config)
    if config.folds == 1:
        groups = list(frame["group"])
        first = assign(list(frame["label"]), groups, dataset.rare_class, dataset.split, config.seed)
    else:
        ahead = (frame["fold"] - part.fold) % config.folds
        first = ["test" if step == 0 else "validation" if step == 1 else "train" for step in ahead]
    found = np.array(first, object)
    there, rare = is_there(frame, dataset.deployment).to_numpy(), (frame["label"] == dataset.rare_class).to_numpy()
    found[~there & (found != "train")] = "unused"
    offered = (found == "train") & rare & ~(there & bool(dataset.deployment))
    kept = drawn(frame[offered], dataset, derive(config.seed, "budget", part.fold, part.draw))
    lost = (found == "train") & rare & ~frame["id"].isin(kept).to_numpy()
    # with a deployment the oracle shows what images from there would bring
    found[lost] = np.where(there[lost], "reserve", "unused") if dataset.deployment else "reserve"
    return list(found)


def _final(frame: pd.DataFrame, config: Config) -> list[str]:
    """All images train, but for rare ones beyond the budget."""
    rare = frame["label"] == config.dataset.rare_class
    kept = drawn(frame[rare], config.dataset, derive(config.seed, "budget", "final"))
    return list(np.where(~rare | frame["id"].isin(kept), "train", "reserve"))


def drawn(rare: pd.DataFrame, dataset: Dataset, seed: int) -> set[str]:
    """Ids of the rare training images that stay.

    Without `rare_groups` they are drawn at random from all; with it, from the first groups of an order drawn by seed which
    hold the budget, at least so many.

    Args:
        rare: columns `id` and `group` of all that could be taken.
    """
    budget, least = dataset.rare_budget, dataset.rare_groups
    pool = rare
    if least is not None:
        sizes = rare["group"].value_counts()
        order = sorted(sizes.index, key=lambda group: (derive(seed, "group", group), group))
        held = np.cumsum([sizes[group] for group in order])
        enough = 0 if budget is None else int(np.searchsorted(held, budget)) + 1
        pool = rare[rare["group"].isin(order[: max(enough, least)])]
    order = sorted(pool["id"], key=lambda name: (derive(seed, name), name))
    return set(order[: len(order) if budget is None else budget])


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
