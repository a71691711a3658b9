"""Which real training images a method may start from, and in which order they are tried."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..data.prepared import Prepared
from ..data.splits import is_there
from ..errors import UserError
from .base import Material, Method, Wish


def records(method: Method, material: Material) -> pd.DataFrame:
    """The training records that a method may start from; none for a method that starts from nothing.

    Where the other classes have training images from where the classifier will be used, those alone are the grounds.
    """
    frame, dataset = material.prepared.frame, material.config.dataset
    labels = {"rare": frame["label"] == dataset.rare_class, "common": frame["label"] != dataset.rare_class, "nothing": False}
    found = frame[labels[method.starts_from] & (frame["split"] == "train")]
    there = is_there(found, dataset.deployment)
    return found[there] if method.starts_from == "common" and there.any() else found


def with_object(pool: pd.DataFrame, prepared: Prepared) -> pd.DataFrame:
    """The records whose masks show something. Without masks: none."""
    if prepared.masks is None:
        return pool[:0]
    row_of = prepared.row_of()
    shown = [bool(prepared.masks[row_of[name]].any()) for name in pool["id"]]
    return pool[pool["mask"] & np.array(shown, bool)]


def by_agreement(pool: pd.DataFrame, wish: Wish) -> Iterator[str]:
    """Ids of all records of a pool: first those with most of the attributes asked for, equals in turn from the seed on.

    Raises:
        UserError: the pool is empty.
    """
    if pool.empty:
        raise UserError(f"generate.methods.{wish.method}: no training image to start from")
    agreement = np.zeros(len(pool), int)
    for name, category in wish.cell.items():
        agreement += (pool[f"attribute.{name}"] == category).to_numpy()
    ids = pool["id"].to_numpy()
    for level in sorted(set(agreement.tolist()), reverse=True):
        equals = ids[agreement == level]
        yield from map(str, np.roll(equals, -(wish.seed % len(equals))))


def nearest(pool: pd.DataFrame, wish: Wish) -> str:
    """The first id of `by_agreement`."""
    return next(by_agreement(pool, wish))
