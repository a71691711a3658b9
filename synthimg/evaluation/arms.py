"""The arms of the comparison, in one table: what each trains on, how it meets class imbalance, and its words in the report.

Arms share seeds, settings and judged images, and differ in nothing but their row. An installed package can add its own row
by an entry point of the group `synthimg.arms`; docs/extending.md has an example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import extensions
from ..core.seeds import derive
from ..errors import UserError, did_you_mean

GROUP = "synthimg.arms"
NEIGHBOURS = 5
"""Of SMOTE; the paper's."""

Labels = NDArray[np.int64]
Balance = Literal["none", "loss", "draws", "focal"]
"""How class imbalance is met: not at all, by weights in the loss, by drawing every class equally often, or by the focal
loss, in which what is told apart easily counts little (Lin et al., 2017)."""
OneClass = Literal["distance", "patches", "outlier"]
"""A score of how far an image is from the ordinary ones, which needs no rare image: the distance of its features to the
nearest of theirs, the same of its patches, or both averaged (evaluation/distance.py)."""


class TrainingSet(NamedTuple):
    """What a classifier is trained on; row i of each part belongs together."""

    inputs: NDArray[Any]
    """Images, uint8 [N, R, R, 3] RGB, or their features, float32 [N, D]."""
    labels: Labels
    """[N], from 0 to the number of classes less 1."""
    counts: NDArray[np.float64]
    """[N], above 0: how much each row counts in the loss beside a real image."""


Resample = Callable[[TrainingSet, int], TrainingSet]
"""(training set, seed) -> the training set in its place."""


def smote(training: TrainingSet, seed: int) -> TrainingSet:
    """Every class filled up to the largest by features between neighbours of one class (Chawla et al., 2002).

    A class of a single row has no neighbours and stays as it is.

    Args:
        training: with features [N, D]; its counts are not used.

    Returns:
        The rows given, then the new ones. Together they count as much as the rows given, so that the head's penalty is as
        strong as without the new ones.
    """
    from imblearn.over_sampling import SMOTE  # slow to import, and the table is read with every configuration

    features, labels, _ = training
    sizes = np.bincount(labels)
    found, codes = [features], [labels]
    for code in np.flatnonzero((sizes > 1) & (sizes < sizes.max())):
        fill = SMOTE(
            sampling_strategy={int(code): int(sizes.max())},
            k_neighbors=min(NEIGHBOURS, int(sizes[code]) - 1),
            random_state=derive(seed, int(code)) % 2**32,
        )
        made = fill.fit_resample(features, labels)[0][len(labels) :]
        found.append(made.astype(np.float32))
        codes.append(np.full(len(made), code, np.int64))
    filled = np.concatenate(found)
    return TrainingSet(filled, np.concatenate(codes), np.full(len(filled), len(features) / len(filled)))


@dataclass(frozen=True)
class Arm:
    """One row of the table: a training set and a treatment of it, beside the real training split that all arms have."""

    words: str
    """What it is, for the report's table. It may use the fields {beside} and {weight}, as in `evaluate`."""
    title: str
    """What it is in the middle of a sentence: "the best control, oversampling"."""
    balance: Balance = "none"
    augment: bool = False
    """Whether it also learns from RandAugment views of the real images."""
    symmetries: int = 0
    """How many of vision/views.py's SYMMETRIES show the rare images once more."""
    mix: bool = False
    """Mixup."""
    resample: Resample | None = None
    """Applied to the finished training set, once for each seed."""
    synthetic: bool = False
    """Whether it also trains on the accepted synthetic images."""
    reserve: bool = False
    """Whether it also trains on the real rare images held in reserve."""
    head_only: bool = False
    """Whether it works on features, which only the linear head has."""
    joins: bool = True
    """Whether synthetic images can join it (`evaluate.beside`)."""
    one_class: OneClass | None = None
    """The one-class score that is averaged with its classifier's, if any."""
    classified: bool = True
    """Whether it has a classifier; without one, the one-class score stands alone."""

    @property
    def control(self) -> bool:
        """Whether it is an alternative to synthetic images: the gain is measured against the best of these."""
        return not (self.synthetic or self.reserve)

    @property
    def needs_rare(self) -> bool:
        """Whether it needs real rare images in the training split. Synthetic images, or those of the reserve, do as well."""
        return self.classified and self.control

    def suits(self, classifier: str) -> bool:
        """Whether it is defined for this classifier; one from outside has its own loss, and gets whole images."""
        if classifier == "head" or not self.classified:
            return True
        outside = classifier != "finetune"
        return not self.head_only and not (outside and (self.mix or self.balance == "focal"))


ARMS = {
    "real": Arm("real images only, classes as they come", "real images alone"),
    "weighted": Arm("real images, loss weighted by class", "a class-weighted loss", balance="loss"),
    "focal": Arm("real images, focal loss", "the focal loss", balance="focal"),
    "oversampled": Arm("real images, rare class drawn more often", "oversampling", balance="draws"),
    "augmented": Arm("real images, strongly augmented, classes as they come", "stronger augmentation", augment=True),
    "mirrored": Arm("real images, and mirror images of the rare ones: three of each", "mirror images", symmetries=3),
    "turned": Arm(
        "real images, and the rare ones mirrored and turned by quarters: seven of each",
        "mirror images and quarter turns",
        symmetries=7,
    ),
    "mixup": Arm("real images, mixed in pairs", "mixup", mix=True),
    "smote": Arm(
        "real images, features of every class interpolated up to the largest",
        "SMOTE",
        resample=smote,
        head_only=True,
        joins=False,
    ),
    "combined": Arm(
        "real images, strongly augmented and mixed, rare class drawn more often",
        "augmentation, mixup and oversampling together",
        balance="draws",
        augment=True,
        mix=True,
    ),
    "distance": Arm(
        "no classifier: distance of the features to those of the nearest ordinary images",
        "the distance to the ordinary images",
        joins=False,
        one_class="distance",
        classified=False,
    ),
    "patches": Arm(
        "no classifier: distance of the patches to the nearest ones of ordinary images",
        "the distance to the patches of ordinary images",
        joins=False,
        one_class="patches",
        classified=False,
    ),
    "outlier": Arm(
        "no classifier: both distances to ordinary images, of the whole and of the patches, averaged",
        "both distances to ordinary images",
        joins=False,
        one_class="outlier",
        classified=False,
    ),
    "synthetic": Arm(
        "the set of {beside}, and accepted synthetic images, each counting {weight:g} of a real one",
        "synthetic images",
        synthetic=True,
        joins=False,
    ),
    "oracle": Arm(
        "the set of {beside}, and the rare images held in reserve: what more real images would bring",
        "more real images",
        reserve=True,
        joins=False,
    ),
}
"""The arms of the package, in the order of the report. `synthetic` is compared with the best control; `oracle` shows what
more real images would bring."""
AVERAGED: dict[OneClass, tuple[str, str]] = {
    "distance": ("its score averaged with the distance to the ordinary images", "the distance to the ordinary images"),
    "patches": ("its score averaged with the distance of the patches", "the distance of the patches"),
    "outlier": ("its score averaged with both distances to ordinary images", "both distances to ordinary images"),
}
"""What `<arm>+<one-class score>` adds to the words and the title of the arm."""
DEFAULT = (
    *(name for name, arm in ARMS.items() if arm.control and arm.classified),
    *("distance", "patches", "oversampled+patches", "mirrored+patches", "mixup+patches", "outlier"),
    *("synthetic", "oracle"),
)
"""The arms of an evaluation that names none. Of the one-class scores, `patches` was the best partner of a classifier on
solar cells (docs/experiments/one-class.md)."""


def find_arm(name: str) -> Arm:
    """An arm of the package or of an installed one. `<arm>+distance` is a control whose classifier is averaged with this
    one-class score; likewise `<arm>+patches` and `<arm>+outlier`.

    Raises:
        KeyError: there is no arm of this name; the message names one that is like it.
        UserError: an installed package's arm cannot be imported, or is no `Arm`.
    """
    base, score = parts_of(name)
    if score:
        return _averaged(base, score)
    found = ARMS.get(name) or extensions.load(GROUP, name)
    if found is None:
        known = [*ARMS, *(f"{arm}+{score}" for arm in ARMS for score in AVERAGED), *extensions.names(GROUP)]
        raise KeyError(f"no arm has this name{did_you_mean(name, known)}")
    if not isinstance(found, Arm):
        raise UserError(f"{GROUP}: {name}: expected a synthimg.evaluation.arms.Arm, found {type(found).__name__}")
    try:
        found.words.format(beside="", weight=0.0)
    except (LookupError, ValueError) as error:
        raise UserError(f"{GROUP}: {name}: words '{found.words}': expected no fields but {{beside}}, {{weight}}") from error
    return found


def parts_of(name: str) -> tuple[str, OneClass | None]:
    """Of `<arm>+<one-class score>` the two; of another name the name alone."""
    for score in AVERAGED:
        if name.endswith(f"+{score}"):
            return name.removesuffix(f"+{score}"), score
    return name, None


def _averaged(name: str, score: OneClass) -> Arm:
    arm = find_arm(name)
    if arm.one_class or not (arm.joins and arm.control):
        raise KeyError(f"'{name}' is no control whose classifier can be averaged with a one-class score")
    words, title = AVERAGED[score]
    return replace(arm, words=f"{arm.words}; {words}", title=f"{arm.title} averaged with {title}", one_class=score)


def in_order(names: Iterable[str]) -> list[str]:
    """Arms in the order of the table, averaged ones after the one-class score alone; those of other packages by name."""
    known = {name: number for number, name in enumerate(ARMS)}

    def place(name: str) -> tuple[int, int, str]:
        base, score = parts_of(name)
        return known.get(score or base, len(known)), known.get(base, len(known)) if score else -1, name

    return sorted(names, key=place)


def arms_of(names: Iterable[str], beside: str) -> dict[str, Arm]:
    """The arms of these names; `synthetic` and `oracle` train as the arm `beside` does, on more images, and with the
    same one-class score.
    """
    base, found = find_arm(beside), {name: find_arm(name) for name in names}
    for name in ("synthetic", "oracle"):
        if name in found:
            own = found[name]
            found[name] = replace(base, **{part: getattr(own, part) for part in ("words", "title", "synthetic", "reserve")})
    return found


def available(arms: dict[str, Arm], classifier: str, *, accepted: bool, reserve: bool, rare: bool) -> dict[str, Arm]:
    """The arms that can be trained, in the order of the table and then of their names.

    Args:
        arms: those asked for, as `arms_of` gives them.
        accepted: whether there are synthetic images; reserve: whether real rare ones were held back; rare: whether there
            are real rare ones in the training split.
    """
    return {
        name: arms[name]
        for name in in_order(arms)
        if arms[name].suits(classifier)
        and (accepted or not arms[name].synthetic)
        and (reserve or not arms[name].reserve)
        and (rare or not arms[name].needs_rare)
    }
