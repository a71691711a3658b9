"""What becomes of objects when their photographs become square: those that are lost or halved, by their masks.

Every image is cropped by one rule that needs no mask. A crop around masks would tell the rare class by its framing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..errors import UserError
from .images import Fit
from .suspicions import Suspicion

HALF = 0.5
LONG = 1.5
"""Longer side over shorter side from which a crop to the centre leaves out a third of the picture or more."""
MANY, FEW = 0.1, 0.02
"""Shares of such pictures, and of lost or halved objects, above which another fit is proposed."""


def kept(present: np.ndarray, drawn: np.ndarray, how: Fit) -> float:
    """The share of an object's area that is left when its image becomes square.

    Args:
        present: bool [H, W], the object before.
        drawn: [R, R], its mask in the square: an object of which no pixel is drawn is lost, too.

    Returns:
        0 to 1; 1 where there is no object.
    """
    if not present.any():
        return 1.0
    if not drawn.any():
        return 0.0
    if how != "crop":
        return 1.0
    high, wide = present.shape
    side = min(high, wide)
    top, left = (high - side) // 2, (wide - side) // 2
    return float(present[top : top + side, left : left + side].sum() / present.sum())


def losses(frame: pd.DataFrame) -> pd.DataFrame:
    """How many objects the square loses or halves.

    Args:
        frame: columns `label`, `split`, `shows`, `kept`.

    Returns:
        `label`, `split`, `objects`, `lost` (nothing is left), `halved` (less than half of the area is left); one row for
        each label and split with objects.
    """
    held = frame[frame["shows"].isin(["an object", "inverted", "everything"])]
    facts = held.assign(objects=1, lost=held["kept"] == 0, halved=(held["kept"] > 0) & (held["kept"] < HALF))
    summed = facts.groupby(["label", "split"], sort=True)[["objects", "lost", "halved"]].sum().astype(int)
    return summed.reset_index()


def loss_lines(table: pd.DataFrame) -> list[str]:
    """The table of `losses` in words, one line for each label that loses something."""
    lines = []
    for label, own in table.groupby("label"):
        if own[["lost", "halved"]].to_numpy().any():
            parts = [f"{row.split} {row.lost} lost and {row.halved} halved of {row.objects}" for row in own.itertuples()]
            lines.append(f"objects of '{label}' after dataset.fit: {'; '.join(parts)}")
    return lines


def suspect_losses(frame: pd.DataFrame, how: Fit) -> list[Suspicion]:
    """Objects lost or halved, one warning for each class that has any.

    Args:
        frame: columns `path`, `label`, `shows`, `kept`.
    """
    found = []
    for label, own in frame.groupby("label"):
        hit = own[own["kept"] < HALF]
        if len(hit):
            table = losses(own.assign(split=""))
            objects, lost, halved = (int(table[name].sum()) for name in ("objects", "lost", "halved"))
            found.append(Suspicion("warning", "objects cut away",
                f"{lost} of {objects} objects of '{label}' are lost and {halved} halved by dataset.fit: {how}, "
                f"for example in {hit['path'].iloc[0]}{_remedy(how)}"))  # fmt: skip
    return found


def refuse_losses(frame: pd.DataFrame, rare: str, how: Fit, allowed: float) -> None:
    """Stop before a rare class is learnt from images that show nothing of it.

    Args:
        frame: columns `path`, `label`, `shows`, `kept`.
        allowed: share of the rare class's objects that may be lost or halved.

    Raises:
        UserError: more are.
    """
    own = frame[(frame["label"] == rare) & ~frame["shows"].isin(["", "nothing"])]
    share = float((own["kept"] < HALF).mean()) if len(own) else 0.0
    if share > allowed:
        (found,) = suspect_losses(own, how)
        enough = math.ceil(round(100 * share, 6)) / 100
        raise UserError(f"{found.text}. Or allow it: dataset.fit_loss: {enough:g} (now {allowed:g})")


def _remedy(how: Fit) -> str:
    return "; pad and stretch keep them" if how == "crop" else "; they are too small for this resolution: raise it"


def proposed_fit(sizes: Sequence[tuple[int, int]], left: Sequence[float]) -> Fit:
    """How photographs become square with little loss: by a crop, unless that cuts much away, else by padding.

    Args:
        sizes: widths and heights. They decide where no masks are known: by how many photographs are far from square.
        left: what a crop leaves of objects (`kept`); they decide where they are known.
    """
    cut = [share < HALF for share in left] or [max(size) / min(size) > LONG for size in sizes]
    return "pad" if cut and float(np.mean(cut)) > (FEW if left else MANY) else "crop"
