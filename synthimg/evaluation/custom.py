"""A classifier from outside the package, named in the configuration as `evaluate.classifier: module:function`.

The function is called once for each arm and seed, with images as they are, and returns class probabilities:

    def classify(training, queries, classes, seed):
        model = LogisticRegression(random_state=seed % 2**32)
        model.fit(thumbnails(training.inputs), training.labels, sample_weight=training.counts)
        found = np.zeros((len(queries), classes))
        found[:, model.classes_] = model.predict_proba(thumbnails(queries))
        return found

`training` is a `TrainingSet`: images uint8 [N, R, R, 3], labels int64 [N] from 0 to `classes` - 1, and how much each image
counts in the loss [N]. Weights and drawn rows of an arm are in it already; arms that change the loss itself (focal) or mix
images (mixup, combined) or work on features (smote) are left out. `queries` are images uint8 [M, R, R, 3].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..config import Config
from ..core import extensions
from ..core.seeds import derive
from ..data.generated import pictures
from ..data.prepared import Prepared
from ..errors import UserError
from ..vision.features import Pixels
from ..vision.views import Symmetry, symmetric
from .arms import TrainingSet, arms_of
from .inputs import SPLITS, classes_of, rare_rows, rows_of, views_of
from .training import Fit, Material, Probabilities, assemble, unrolled

Classifier = Callable[[TrainingSet, Pixels, int, int], Any]
"""(training set, queries [M, R, R, 3], number of classes, seed) -> probabilities [M, classes]."""
SLACK = 1e-3
"""How far the probabilities of one image may add up to another number than 1."""


def find_classifier(reference: str) -> Classifier:
    """The function that `module:function` names.

    Raises:
        UserError: it cannot be imported, or is no function.
    """
    found = extensions.resolve(reference, "evaluate.classifier")
    if not callable(found):
        raise UserError(f"evaluate.classifier: '{reference}' is no function but a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def custom_fit(config: Config, data: Prepared, accepted: list[str]) -> Fit:
    """Let the function from outside train and judge every arm; as `headed`."""
    settings, classify = config.evaluate, find_classifier(config.evaluate.classifier)
    names, _ = classes_of(data.frame, config.dataset.rare_class)
    queries = data.pixels[np.concatenate([rows_of(data.frame, "validation"), rows_of(data.frame, "test")])]
    arms, material = arms_of(settings.arms, settings.beside), _material(config, data)

    def fit(name: str, number: int, only: list[str]) -> Probabilities:
        arm, seed = arms[name], derive(config.seed, "classifier", number)
        training = assemble(arm, material, only, settings.synthetic_weight)
        if arm.resample:
            training = arm.resample(training, derive(seed, name))
        training = unrolled(training, arm.balance, seed, redraw=arm.balance == "draws")
        return checked(classify(training, queries, len(names), seed), len(queries), len(names), settings.classifier)

    return fit


def checked(found: Any, queries: int, classes: int, reference: str) -> Probabilities:
    """What a classifier from outside returned, once it is known to be probabilities.

    Raises:
        UserError: it is not; the message says in what.
    """
    where = f"evaluate.classifier: {reference} returned"
    try:
        values = np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} {type(found).__name__}, expected an array of numbers [{queries}, {classes}]") from error
    if values.shape != (queries, classes):
        raise UserError(
            f"{where} an array of shape {list(values.shape)}, expected [{queries}, {classes}]: a row for each image to "
            "judge, a column for each class"
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise UserError(f"{where} {values[row].tolist()} in row {row}, expected finite probabilities")
    wrong = (values < -SLACK).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > SLACK)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(f"{where} {values[row].tolist()} in row {row}, expected probabilities from 0 to 1 that add up to 1")
    return values


def _material(config: Config, data: Prepared) -> Material:
    """Images; those that only some arms need are made when they are first asked for."""
    names, labels = classes_of(data.frame, config.dataset.rare_class)

    @cache
    def views(split: str) -> list[Pixels]:
        return [np.concatenate(list(view)) for view in views_of(config, data, rows_of(data.frame, split))]

    def ways(split: str, which: Symmetry) -> Pixels:
        return np.concatenate(list(symmetric(data.pixels, rare_rows(config, data, split), which)))

    return Material(
        real={split: data.pixels[rows_of(data.frame, split)] for split in SPLITS[:2]},
        labels={split: labels[rows_of(data.frame, split)] for split in SPLITS[:2]},
        views=views,
        symmetric=ways,
        made=lambda only: np.concatenate(list(pictures(config.folder, only, config.resolution))),
        rare=names.index(config.dataset.rare_class),
    )
