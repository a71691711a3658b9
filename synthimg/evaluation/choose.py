"""Which control to compare with, and which synthetic images to use, chosen inside one part's training groups.

Inner cross-validation: the training groups are dealt into inner folds, and each candidate is trained as a linear head on all
but one of them. Its scores rank the held-out rare images among the held-out ordinary ones (AUC). The images that the part
tests on, sets thresholds on or holds in reserve are never looked at.

The candidate that takes least effort among those within one standard error of the best is chosen (Breiman et al., 1984). The
controls are chosen among themselves. Then the use of synthetic images: none, those of each method and all together, at some
weights, beside the chosen control.

Two things cannot be taken back in an inner fold. A model that was fine-tuned on all training images, and the filter, have
seen the held-out ones, so pictures that a model drew look somewhat better here than they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..config import Config
from ..core.seeds import derive
from ..data.splits import dealt, is_there
from ..methods.base import ordered
from ..metrics.ranking import Ranked, Ranking, least_effort, ranking
from ..metrics.recall import Array
from .arms import Arm
from .choice import NONE, Choice, Recipe, applied
from .head import Extracted, heads
from .inputs import classes_of
from .outcomes import log_odds

FOLDS = 3
"""Inner folds, at most: a dozen candidates then take some forty heads."""
LEAST = 3
"""Real rare training images without which nothing is chosen."""
WEIGHTS = (0.2, 0.5)
"""Of a synthetic image beside a real one, tried beside the configured weight."""


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
    settings, methods = config.evaluate, ordered(made["method"])
    controls = [name for name, arm in arms.items() if arm.control]
    candidates = [name for name in controls if is_candidate(arms[name])]
    frames, note = inner_frames(config, frame)
    if not frames or not candidates:
        kept = settings.beside if settings.beside in controls else next(iter(controls), None)
        recipe = Recipe(tuple(methods), settings.synthetic_weight, settings.beside)
        return Choice(kept, recipe, note or "no control can be chosen; the configured recipe was kept", {}, {})
    inside, images = Inside(config, frames, extracted, made), held_out(frames, config.dataset.rare_class)
    ranks = {name: ranking(control_scores(inside, name), images) for name in candidates}
    control, shown = least_effort(ranks, images)
    beside = control if arms[control].joins else settings.beside
    recipes = recipes_of(methods, settings.synthetic_weight, beside) if "synthetic" in arms else []
    found = {recipe: ranking(recipe_scores(inside, recipe), images) for recipe in recipes}
    chosen, compared = least_effort({NONE: ranks[control]} | in_order(found), images)
    named = {recipe.name: recipe for recipe in [Recipe((), settings.synthetic_weight, beside), *recipes]}
    return Choice(control, named[chosen], note, shown, compared)


def is_candidate(arm: Arm) -> bool:
    """Whether a control can be chosen: one that a linear head has and that needs no RandAugment views, which would take as
    long as all the others together.
    """
    return arm.control and not arm.augment


def recipes_of(methods: list[str], configured: float, beside: str) -> list[Recipe]:
    """The candidates: each method, and all together, at each weight."""
    sets = [(method,) for method in methods] + ([tuple(methods)] if len(methods) > 1 else [])
    return [Recipe(some, weight, beside) for some, weight in product(sets, sorted({*WEIGHTS, configured}))]


def in_order(ranks: Mapping[Recipe, Ranking]) -> dict[str, Ranking]:
    """By name, least effort first: fewer methods, then less weight. Of those that take the same effort, the better first."""

    def effort(recipe: Recipe) -> tuple[int, float, float]:
        return len(recipe.methods), recipe.weight, -ranks[recipe].auc

    return {recipe.name: ranks[recipe] for recipe in sorted(ranks, key=effort)}


def inner_frames(config: Config, frame: pd.DataFrame) -> tuple[list[pd.DataFrame], str]:
    """The records as each inner fold sees them, and a note where this is another way than usual.

    The split of the held-out images is `test` for rare ones and `validation` for ordinary ones, that of the other training
    images `train`; all else is `unused`. With a deployment the rare training images are from elsewhere, so only ordinary
    images from elsewhere are held out beside them: else a classifier that tells the places apart would look good.

    Args:
        frame: columns `id`, `label`, `group`, `split`, and the attributes of the deployment.

    Returns:
        No frame where there are too few rare images.
    """
    known, rare = frame[frame["split"] == "train"], config.dataset.rare_class
    is_rare = known["label"] == rare
    if is_rare.sum() < LEAST:
        return [], f"{is_rare.sum()} rare training images are too few to choose by; the configured recipe was kept"
    groups, note = known["group"].astype(str), ""
    if groups[is_rare].nunique() == 1:
        groups = groups.where(~is_rare, known["id"])
        note = "all rare training images are of one group, so the inner folds hold out single ones of them"
    folds = min(FOLDS, groups[is_rare].nunique())
    shares = {str(fold): 1 / folds for fold in range(folds)}
    of = dealt(list(known["label"]), list(groups), rare, shares, derive(config.seed, "choose"))
    there = is_there(frame, config.dataset.deployment) & bool(config.dataset.deployment)
    frames = []
    for fold in shares:
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


def control_scores(inside: Inside, name: str) -> Array:
    """Log-odds of the rare class for the held-out images of all inner folds [N], by a control."""
    return _scores(inside, inside.config, name, ())


def recipe_scores(inside: Inside, recipe: Recipe) -> Array:
    """The same by the synthetic arm."""
    return _scores(inside, applied(inside.config, recipe), "synthetic", recipe.methods)


def _scores(inside: Inside, config: Config, name: str, methods: tuple[str, ...]) -> Array:
    rare, found = config.dataset.rare_class, []
    for frame in inside.frames:
        names, _ = classes_of(frame, rare)
        fit = heads(config, frame, inside.extracted, list(inside.made["id"]))
        found.append(log_odds(fit(name, 0, usable(frame, inside.made, methods))[:, names.index(rare)]))
    return np.concatenate(found)


def usable(frame: pd.DataFrame, made: pd.DataFrame, methods: tuple[str, ...]) -> list[str]:
    """Ids of the methods' pictures that are not made from an image which the inner fold holds out.

    A picture is made from a record if any column of its row holds the record's id, as `source` and `ground` do.
    """
    held = set(frame.loc[frame["split"] != "train", "id"])
    return list(made.loc[made["method"].isin(methods) & ~made.isin(held).any(axis=1), "id"])
