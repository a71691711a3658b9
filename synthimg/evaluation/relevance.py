"""The relevance test: do the pictures of a method show what real rare images show?

A linear head learns ordinary training images against the pictures of one method alone. Then it ranks the real rare training
images, which it has not seen, among ordinary validation images. AUC 0.5 is what pictures without relevance give.

It is "train on synthetic, test on real" (Esteban, Hyland and Rätsch, 2017, arXiv:1706.02633) without a test image, so that a
user learns the answer before the evaluation.

A picture made from a rare image would give that image away, and so would an ordinary image of its group. Therefore each rare
image is ranked by a head that saw nothing of its group: the groups are dealt into folds, and a fold's head learns without
the ordinary images of its groups and without the pictures made from them. A model that was trained on the rare images cannot
be taken back like this, and its pictures have passed a judge who knows these images, too. So their AUC is marked as
optimistic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.seeds import derive
from ..methods.base import composed
from ..metrics.recall import Array, Mask, interval, resample
from ..vision.features import Features
from .arms import TrainingSet
from .head import fit_head, power_normaliser

FOLDS = 5
RESAMPLES = 2000
LEAST = 3
"""Real rare images without which no AUC is given."""


class Real(NamedTuple):
    """Real images; row i of both parts is the same image."""

    frame: pd.DataFrame
    """Columns `id`, `label`, `group`, as in records.parquet."""
    features: Features
    """[N, D], as the network gives them."""

    def where(self, chosen: Mask) -> Real:
        return Real(self.frame[chosen], self.features[chosen])


class _Test(NamedTuple):
    """What every method is asked."""

    rare: Real
    ordinary: Real
    """Of the training split."""
    held_out: Real
    """Ordinary images that no head learns from."""
    folds: NDArray[np.int64]
    """Fold of each rare image [N]; no group is in two of them."""
    seed: int


def measure_relevance(
    rows: pd.DataFrame, synthetic: Features, training: Real, held_out: Real, rare: str, seed: int
) -> dict[str, Any]:
    """The relevance of each method's accepted pictures: the section `relevance` of metrics.json for one filter stage.

    Args:
        rows: the plan, and a column `accepted`. A picture is made from a record if any column of its row holds the
            record's id.
        synthetic: features of its pictures [N, D].
        held_out: of another split than `training`; only its ordinary images are used.

    Returns:
        `methods`: by name, in plan order. `real`: the same with the real rare images in place of pictures, each ranked by
        those of other groups: what pictures as good as these few real images would reach. Each is a `results.Relevance`.
    """
    is_rare = (training.frame["label"] == rare).to_numpy()
    known = training.where(is_rare)
    test = _Test(
        known,
        training.where(~is_rare),
        held_out.where((held_out.frame["label"] != rare).to_numpy()),
        deal(known.frame["group"].to_numpy(str), seed),
        seed,
    )
    accepted, method = rows["accepted"].to_numpy(bool), rows["method"].to_numpy(str)
    drawn = set(method) - composed(method)
    found = {}
    for name in dict.fromkeys(method.tolist()):
        own = accepted & (method == name)
        found[name] = _answer(test, rows[own], synthetic[own], optimistic=name in drawn)
    return {"real": _answer(test, known.frame[["id"]], known.features), "methods": found}


def deal(groups: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """A fold [N] for each image: whole groups in turn, in an order drawn by the seed; at most FOLDS."""
    order = sorted(set(groups.tolist()), key=lambda group: (derive(seed, "relevance", group), group))
    fold = {group: turn % FOLDS for turn, group in enumerate(order)}
    return np.array([fold[group] for group in groups.tolist()], np.int64)


def pooled_relevance(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What `measure_relevance` found in each part of a run (a fold with one draw of the rare images) as one.

    The AUC is the mean over the parts. Parts share most of their images, so their intervals must not be averaged as if they
    were independent: the pooled interval is as wide as theirs are on average, which is never too narrow, since the standard
    deviation of a mean is at most the mean of the standard deviations. Counts are added up.
    """
    names = dict.fromkeys(name for part in parts for name in part["methods"])
    methods = {name: _pooled([part["methods"][name] for part in parts if name in part["methods"]]) for name in names}
    return {"real": _pooled([part["real"] for part in parts]), "methods": methods}


def _pooled(found: list[dict[str, Any]]) -> dict[str, Any]:
    told = [one for one in found if one["auc"] is not None]
    if not told:
        return found[0]
    auc, ends = float(np.mean([one["auc"] for one in told])), [one for one in told if one["ci95"] is not None]
    return {
        "auc": auc,
        "ci95": _within(
            auc - float(np.mean([one["auc"] - one["ci95"][0] for one in ends])),
            auc + float(np.mean([one["ci95"][1] - one["auc"] for one in ends])),
        ) if ends else None,
        **{name: sum(one[name] for one in told) for name in ("n_rare", "n_groups", "n_pictures")},
        "optimistic": any(one["optimistic"] for one in told),
        "parts": [auc for one in told for auc in one["parts"]],
        "reason": None,
    }  # fmt: skip


def _answer(test: _Test, made: pd.DataFrame, features: Features, optimistic: bool = False) -> dict[str, Any]:
    """The AUC of one method.

    Args:
        made: rows of its pictures, of which `features` are.
    """
    found: dict[str, Any] = {"auc": None, "ci95": None, "n_rare": 0, "n_groups": 0, "n_pictures": len(made)}
    found |= {"optimistic": optimistic, "parts": []}
    reason = _missing(test, made)
    if reason:
        return {**found, "reason": reason}
    ranked, wins = _ranked(test, made, features)
    if len(wins) < LEAST:
        return {**found, "reason": f"fewer than {LEAST} real rare images are left whose groups these pictures do not show"}
    groups, auc = test.rare.frame["group"].to_numpy(str)[ranked], float(wins.mean())
    spread = _spread(auc, wins, groups, test.held_out.frame["group"].to_numpy(str), test.seed)
    counts = {"n_rare": len(wins), "n_groups": len(set(groups.tolist()))}
    return {**found, **counts, "auc": auc, "ci95": spread, "parts": [auc], "reason": None}


def _missing(test: _Test, made: pd.DataFrame) -> str:
    """Why there is nothing to ask; else ""."""
    if len(test.rare.frame) < LEAST:
        return f"it takes {LEAST} real rare training images, and there are {len(test.rare.frame)}"
    if not len(test.held_out.frame):
        return "there is no ordinary validation image"
    return "" if len(made) else "no picture was accepted"


def _ranked(test: _Test, made: pd.DataFrame, features: Features) -> tuple[Mask, Array]:
    """Which rare images can be ranked [N], and whether each of these outscores each held-out image [n, M]; ties are half."""
    groups, ranked = test.rare.frame["group"].to_numpy(str), np.zeros(len(test.folds), bool)
    wins = np.zeros((len(test.folds), len(test.held_out.frame)))
    for fold in np.unique(test.folds):
        mine = test.folds == fold
        away = test.ordinary.frame["group"].isin(groups[mine]).to_numpy()
        seen = [*test.rare.frame["id"][mine], *test.ordinary.frame["id"][away]]
        pictures, ordinary = features[~made.isin(seen).any(axis=1).to_numpy()], test.ordinary.features[~away]
        if len(pictures) and len(ordinary):
            queries = np.concatenate([test.rare.features[mine], test.held_out.features])
            scores = resemblance(ordinary, pictures, queries)
            rare, other = scores[: mine.sum(), None], scores[None, mine.sum() :]
            wins[mine], ranked[mine] = (rare > other) + 0.5 * (rare == other), True
    return ranked, wins[ranked]


def resemblance(ordinary: Features, pictures: Features, queries: Features) -> Array:
    """How much each query [M, D] looks like a picture rather than an ordinary image [M]; both sides weigh the same."""
    ready, labels = power_normaliser(ordinary), np.repeat([0, 1], [len(ordinary), len(pictures)])
    known = TrainingSet(ready(np.concatenate([ordinary, pictures])), labels, np.ones(len(labels)))
    return np.asarray(fit_head(known, 2, ready(queries), balance="loss")[:, 1], np.float64)


def _spread(auc: float, wins: Array, rare: NDArray[np.str_], other: NDArray[np.str_], seed: int) -> list[float] | None:
    """95 % interval of the mean of `wins` [n, M] over resamples of whole groups of both sides; None if `rare` is one group.

    Where all resamples agree, as at AUC 1, a width of 0 would claim certainty. Of n groups without an exception, up to
    1 - 0.05^(1/n) of all groups may be exceptions (the rule of three, see `interval`). One that does not resemble the
    pictures has AUC 0.5, so the mean may lie half as far off.
    """
    count = len(set(rare.tolist()))
    if count < 2:
        return None
    rows = resample(rare, RESAMPLES, derive(seed, "relevance", "rare"))
    columns = resample(other, RESAMPLES, derive(seed, "relevance", "other"))
    resampled = ((rows @ wins) * columns).sum(axis=1) / (rows.sum(axis=1) * columns.sum(axis=1))
    reach = (1 - 0.05 ** (1 / count)) / 2 if np.ptp(resampled) < 1e-12 else 0.0
    low, high = interval(auc, resampled)
    return _within(low - reach, high + reach)


def _within(low: float, high: float) -> list[float]:
    return [max(0.0, low), min(1.0, high)]
