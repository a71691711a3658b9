"""Which control to compare with, and which synthetic images to use, chosen inside one part's training groups.

Inner cross-validation: the training groups are dealt into inner folds, and each candidate is trained as a linear head on all
but one of them. Its scores rank the held-out rare images among the held-out ordinary ones (AUC). The images that the part
tests on, sets thresholds on or holds in reserve are never looked at.

The candidate that takes least effort among those within one standard error of the best is chosen (Breiman et al., 1984). The
controls are chosen among themselves. Then the use of synthetic images: none, those of each method and all together, at some
weights, beside the chosen control, with and without the distance to the ordinary images.

Rare images of a single group are all held out at once, with its ordinary images: others of the same group would give them
away. No control can be trained then. Synthetic images are used if they alone rank that group better than the distance to
the ordinary images does.

Two things cannot be taken back in an inner fold. A model that was fine-tuned on all training images, and the filter, have
seen the held-out ones, so pictures that a model drew look somewhat better here than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..config import Config
from ..core.seeds import derive
from ..data.splits import dealt, is_there
from ..methods.base import ordered
from ..metrics.ranking import Ranked, Ranking, least_effort, rank
from ..metrics.recall import Array
from .arms import Arm, find_arm
from .choice import NONE, Choice, Recipe, applied
from .distance import neighbour_distance, standardised
from .head import Extracted, heads
from .inputs import classes_of, rows_of
from .outcomes import log_odds

FOLDS = 3
"""Inner folds, at most: a dozen candidates then take some forty heads."""
LEAST = 3
"""Real rare training images without which nothing is chosen."""
WEIGHTS = (0.2, 0.5)
"""Of a synthetic image beside a real one, tried beside the configured weight."""
ONE_GROUP = (
    "all rare training images are of one group, so no control could be chosen: the configured one was kept, and the use of "
    "synthetic images was chosen by whether they find that group without any of its images"
)
DISTANCE = "+distance"
"""What the name of a control ends in whose classifier is averaged with the distance to the ordinary images."""


class Inside(NamedTuple):
    """What candidates are trained and judged on."""

    config: Config
    frames: list[pd.DataFrame]
    """The records as each inner fold sees them."""
    extracted: Extracted
    made: pd.DataFrame
    """Rows of the plan, in the order of `extracted.made`."""


def make_choice(
    config: Config, frame: pd.DataFrame, extracted: Extracted, made: pd.DataFrame, arms: Mapping[str, Arm]
) -> Choice:  # fmt: skip
    """Choose a control and a recipe for one part.

    Args:
        config: the part's. Without enough rare images its recipe is kept, and its `evaluate.beside` as control, or else the
            first control there is.
        frame: the records, with the part's splits.
        extracted: features of the images, `made` those of the rows of the plan in `made`.
        made: rows of the plan, of accepted images.
        arms: those that are trained in this part, in the order of the table: that of their effort.
    """
    settings, methods, rare = config.evaluate, ordered(made["method"]), config.dataset.rare_class
    controls = [name for name, arm in arms.items() if arm.control]
    frames, note = inner_frames(config, frame)
    taught = all(((inner["split"] == "train") & (inner["label"] == rare)).any() for inner in frames)
    candidates = [name for name in controls if is_candidate(arms[name]) and (taught or not arms[name].needs_rare)]
    kept = settings.beside if settings.beside in controls else next(iter(controls), None)
    if not frames or (taught and not candidates):
        recipe = Recipe(tuple(methods), settings.synthetic_weight, settings.beside)
        return Choice(kept, recipe, note or "no control can be chosen; the configured recipe was kept", {}, {})
    images = held_out(frames, rare)
    scores = scored(Inside(config, frames, extracted, made), images)
    ranks = {name: rank(scores(Recipe((), settings.synthetic_weight, name)), images) for name in candidates}
    best, shown = least_effort(ranks, images) if ranks else ("", {})
    control = best if taught else kept
    joins = taught and arms[best].joins
    none = Recipe((), settings.synthetic_weight, best if joins else settings.beside)
    averaged = any(name.endswith(DISTANCE) for name in controls)
    recipes = recipes_of(methods, none, averaged) if "synthetic" in arms else []
    found = {recipe: rank(scores(recipe), images) for recipe in recipes}
    blind = rank(np.zeros(len(images.rare)), images)
    alone = ranks[best] if taught or (ranks and ranks[best].auc > blind.auc) else blind
    chosen, compared = least_effort({NONE: alone} | in_order(found), images)
    return Choice(control, {recipe.name: recipe for recipe in [none, *recipes]}[chosen], note, shown, compared)


def is_candidate(arm: Arm) -> bool:
    """Whether a control can be chosen. RandAugment views would take as long as all other controls together, and distances of
    patches minutes in every inner fold.
    """
    return arm.control and not arm.augment and arm.one_class in (None, "distance")


def recipes_of(methods: list[str], none: Recipe, averaged: bool) -> list[Recipe]:
    """The candidates: each method, and all together, at each weight, beside the control of `none`.

    Args:
        averaged: whether each is also tried averaged with the distance to the ordinary images, as some controls are.
    """
    sets = [(method,) for method in methods] + ([tuple(methods)] if len(methods) > 1 else [])
    base = none.beside.removesuffix(DISTANCE)
    besides = [base, base + DISTANCE] if averaged and not find_arm(base).one_class else [none.beside]
    return [Recipe(*parts) for parts in product(sets, sorted({*WEIGHTS, none.weight}), besides)]


def in_order(ranks: Mapping[Recipe, Ranking]) -> dict[str, Ranking]:
    """By name, least effort first: fewer methods, then less weight, then no averaging. Of those that take the same effort
    the better comes first.
    """

    def effort(recipe: Recipe) -> tuple[int, float, bool, float]:
        return len(recipe.methods), recipe.weight, recipe.beside.endswith(DISTANCE), -ranks[recipe].auc

    return {recipe.name: ranks[recipe] for recipe in sorted(ranks, key=effort)}


def inner_frames(config: Config, frame: pd.DataFrame) -> tuple[list[pd.DataFrame], str]:
    """The records as each inner fold sees them, and a note where this is another way than usual.

    The split of the held-out images is `test` for rare ones and `validation` for ordinary ones, that of the other training
    images `train`; all else is `unused`. Rare images of a single group make one inner fold, that group.

    With a deployment the rare training images are from elsewhere, so only ordinary images from elsewhere are ranked beside
    them: else a classifier that tells the places apart would look good.

    Args:
        frame: columns `id`, `label`, `group`, `split`, and the attributes of the deployment.

    Returns:
        No frame where there are too few rare images.
    """
    known, rare = frame[frame["split"] == "train"], config.dataset.rare_class
    is_rare = known["label"] == rare
    if is_rare.sum() < LEAST:
        return [], f"{is_rare.sum()} rare training images are too few to choose by; the configured recipe was kept"
    groups = known["group"].astype(str)
    folds = min(FOLDS, groups[is_rare].nunique())
    if folds == 1:
        of, note = ["0" if group in set(groups[is_rare]) else "" for group in groups], ONE_GROUP
    else:
        shares, note = {str(fold): 1 / folds for fold in range(folds)}, ""
        of = dealt(list(known["label"]), list(groups), rare, shares, derive(config.seed, "choose"))
    there = is_there(frame, config.dataset.deployment) & bool(config.dataset.deployment)
    frames = []
    for fold in map(str, range(folds)):
        split = pd.Series("unused", frame.index)
        split[known.index] = "train"
        held = known[[part == fold for part in of]]
        split[held.index] = np.where(held["label"] == rare, "test", np.where(there[held.index], "unused", "validation"))
        frames.append(frame.assign(split=split))
    served = [inner for inner in frames if {"test", "validation"} <= set(inner["split"])]
    if not served:
        note = "no inner fold holds out both rare and ordinary images; the configured recipe was kept"
    return served, note


def held_out(frames: list[pd.DataFrame], rare: str) -> Ranked:
    """The held-out images of all inner folds, in the order in which a `Fit` judges them: fold by fold, validation first."""
    held = [
        frame[frame["split"] == split].assign(inner=number)
        for number, frame in enumerate(frames)
        for split in ("validation", "test")
    ]
    images = pd.concat(held)
    return Ranked((images["label"] == rare).to_numpy(), images["inner"].to_numpy(np.int64), images["group"].to_numpy(str))


def scored(inside: Inside, images: Ranked) -> Callable[[Recipe], Array]:
    """A function from a recipe to scores [N] of the held-out images of all inner folds. A recipe without methods is a
    control.

    An average with the distance takes no head of its own: it is made from the scores of the two, as distance.py does.
    """
    rare = inside.config.dataset.rare_class

    @cache
    def classified(name: str, recipe: Recipe) -> Array:
        config, found = applied(inside.config, recipe, [name]), []
        for frame in inside.frames:
            fit, names = heads(config, frame, inside.extracted, list(inside.made["id"])), classes_of(frame, rare)[0]
            found.append(log_odds(fit(name, 0, usable(frame, inside.made, recipe.methods))[:, names.index(rare)]))
        return np.concatenate(found)

    @cache
    def distance() -> Array:
        return np.concatenate([_distance(frame, inside.extracted, rare) for frame in inside.frames])

    def scores(recipe: Recipe) -> Array:
        if recipe.beside == "distance":
            return distance()
        base = recipe.beside.removesuffix(DISTANCE)
        found = classified("synthetic" if recipe.methods else base, recipe._replace(beside=base))
        return found if base == recipe.beside else averaged(found, distance(), images)

    return scores


def _distance(frame: pd.DataFrame, extracted: Extracted, rare: str) -> Array:
    known = rows_of(frame, "train")
    held = np.concatenate([rows_of(frame, split) for split in ("validation", "test")])
    return neighbour_distance(extracted.real[known[(frame["label"] != rare).to_numpy()[known]]], extracted.real[held])


def averaged(classified: Array, distance: Array, images: Ranked) -> Array:
    """Log-odds and distance, both standardised on the held-out ordinary images of their inner fold, added."""
    total = np.zeros(len(classified))
    for fold in np.unique(images.folds):
        rows = np.flatnonzero(images.folds == fold)
        ordinary = np.flatnonzero(~images.rare[rows])
        total[rows] = standardised(classified[rows], ordinary) + standardised(distance[rows], ordinary)
    return total


def usable(frame: pd.DataFrame, made: pd.DataFrame, methods: tuple[str, ...]) -> list[str]:
    """Ids of the methods' pictures that are not made from an image which the inner fold holds out.

    A picture is made from a record if any column of its row holds the record's id, as `source` and `ground` do.
    """
    held = set(frame.loc[frame["split"] != "train", "id"])
    return list(made.loc[made["method"].isin(methods) & ~made.isin(held).any(axis=1), "id"])
