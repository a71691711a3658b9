"""Which object a transplant shows: one that can be brought to the size asked for and, if there is such a one, is seen at it.

The estimator that sees it is the one that judges the finished pictures; the trials are other pictures of the same object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from ..attributes import captions
from ..attributes.estimators import lesion_size
from ..core.seeds import derive
from ..data.prepared import Prepared
from ..errors import UserError
from . import pasting

MARGIN = 0.25
"""How far from the edges of its category the size of a transplant stays, as a share of the edge: what is measured on the
picture is often that far from what was aimed at (docs/experiments/transplants.md)."""
TRIALS = 4
"""Pictures on half of which an object must be seen at a size to be given to recipients of that size: on the ground of such
recipients, drawn with replacement. Of pale objects the estimator sees too little on most skin, whatever it sees on their own
(docs/experiments/transplants.md)."""
Choose = Callable[[str, int], tuple[str, float]]
"""(id of the recipient, seed) -> id of the donor, factor on the lengths of its object."""


def sizes_of(prompts: captions.Prompts, axes: list[str]) -> captions.Attribute | None:
    """The attribute among the axes (none: all there are) that is the size of the object; the first, if there are several."""
    names = [name for name, estimator in prompts.estimators.items() if estimator == "lesion_size"]
    asked = [name for name in names if name in axes or not axes]
    return prompts.attributes[asked[0]] if asked else None


def with_objects(prepared: Prepared, sizes: captions.Attribute | None) -> pd.DataFrame:
    """The records with what their masks say: `mask` (is there an object), its `area` and `size` as shares of the image, its
    share of the `edge` of what the image shows between black bars, the size that a transplant in its place `aims` at and its
    category, which it `asks` for (0 and "", no size in particular, where there is no object or no category), and whether the
    image `gives` an object to transplants or `takes` one.
    """
    frame, pixels, masks = prepared
    assert masks is not None  # reading.parse sees to it
    shown = [(mask > 0) & pasting.inside(image) for image, mask in zip(pixels, masks, strict=True)]
    area = np.array([mask.mean() for mask in shown])
    edge = np.array([pasting.frame_share(mask[pasting.content(image)]) for image, mask in zip(pixels, shown, strict=True)])
    held = frame["mask"] & (area > 0)  # an empty one leaves nothing to paint
    # asked for is a size as the estimator sees it, where it is one of those that the prompts measure
    size = frame.get("measured.lesion_size", pd.Series(area, frame.index)).where(area > 0, 0)
    gives = (area >= pasting.COVER[0]) & (area <= pasting.COVER[1]) & (edge <= pasting.CUT) & (size > 0)
    # a mask that is missing hides an object, unless no image of the class has one
    takes = (held | ~frame["label"].isin(frame["label"][held])) & (area <= pasting.COVER[1])
    aims = captions.well_inside(sizes, size.to_numpy(), MARGIN) if sizes else size.to_numpy()  # what is 0 stays 0
    asks = np.where(aims > 0, captions.categories(sizes, aims), "") if sizes else ""
    return frame.assign(mask=held, area=area, edge=edge, size=size, aims=aims, asks=asks, gives=gives, takes=takes)


def chooser(prepared: Prepared, sizes: captions.Attribute | None, rare: str, seed: int) -> Choose:
    """What draws the rare training image whose object is transplanted.

    Objects that need not be shrunk or enlarged beyond LIMITS come first, then the nearest, each in an order by chance. The
    first is taken that is seen at the size asked for in half of its TRIALS; if none is, the first of all.

    Args:
        prepared: with the records as `with_objects` gives them.
        seed: of the trials.

    Raises:
        UserError: no rare training image has an object to give.
    """
    frame, pixels, masks = prepared
    assert masks is not None  # or there would be no such records
    train = frame["split"] == "train"
    givers = frame[train & (frame["label"] == rare) & frame["gives"]]
    takers = frame[train & (frame["label"] != rare) & frame["takes"]]
    row_of, area, size = prepared.row_of(), givers["area"].to_numpy(), givers["size"].to_numpy()
    if givers.empty:
        raise UserError(_no_donor(frame[train & (frame["label"] == rare)]))

    def tried(number: int, taker: pd.Series, seed: int) -> np.ndarray:
        a, b = row_of[givers["id"].iloc[number]], row_of[taker["id"]]
        scale, symmetry = float(scales(area, size, taker["aims"])[0][number]), derive(seed, "symmetry") % 8
        return pasting.transplanted(pixels[a], masks[a] > 0, pixels[b], masks[b] > 0, scale, symmetry)

    @cache
    def seen(number: int, asked: str) -> bool:
        if sizes is None or not asked:
            return True
        places = takers[takers["asks"] == asked]
        seeds = [derive(seed, "trial", givers["id"].iloc[number], asked, i) for i in range(TRIALS)]
        pictures = np.stack([tried(number, places.iloc[one % len(places)], one) for one in seeds])
        return 2 * captions.categories(sizes, lesion_size(pictures)).count(asked) >= TRIALS

    def choose(recipient: str, seed: int) -> tuple[str, float]:
        place = frame.iloc[row_of[recipient]]
        kept, lost = scales(area, size, place["aims"])
        order = np.lexsort((np.random.default_rng(derive(seed, "donor")).random(len(givers)), lost))
        chosen = next((i for i in order.tolist() if seen(i, place["asks"])), int(order[0]))
        return str(givers["id"].iloc[chosen]), float(kept[chosen])

    return choose


def _no_donor(rows: pd.DataFrame) -> str:
    """Why none of the rare training images gives an object."""
    (low, high), area = pasting.COVER, rows["area"]
    reasons = {
        "without an object in their mask": area == 0,
        f"with one that covers less than {100 * low:g} %": (area > 0) & (area < low),
        f"with one that covers more than {100 * high:g} %": area > high,
        "with one that runs along the edge": area.between(low, high) & (rows["edge"] > pasting.CUT),
    }
    counts = ", ".join(f"{own.sum()} {why}" for why, own in reasons.items() if own.any())
    return (
        f"generate.methods.transplant: no rare training image whose mask covers {100 * low:g} % to {100 * high:g} % of it "
        f"and does not run along its edge; of {len(rows)} there are {counts or 'none that the estimator sees'}"
    )


def scales(area: np.ndarray, size: np.ndarray, wanted: float) -> tuple[np.ndarray, np.ndarray]:
    """Factors on the lengths of objects that bring them as near to a size as they may go, and how far off that stays.

    Args:
        area, size: by the mask and as the estimator sees it, shares of the image [N].
        wanted: share of the image; 0, no size in particular.

    Returns:
        Factors [N]; absolute logarithm of what they miss [N].
    """
    # a mask may take in a halo that the estimator does not see, the estimator a shade that the mask leaves out
    exact = np.array([pasting.enlargement(own, wanted) for own in np.minimum(area, size)])
    least, most = pasting.LIMITS
    kept = np.clip(exact, least, np.minimum(most, np.sqrt(pasting.COVER[1] / area)))
    return kept, np.abs(np.log(exact / kept))
