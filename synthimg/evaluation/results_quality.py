"""The types of the sections of metrics.json that judge synthetic images themselves: quality, compliance, relevance."""

from __future__ import annotations

from typing import Literal

from ..config import Section
from .results_subgroups import Interval


class KernelDistance(Section):
    """A kernel distance over random subsets."""

    mean: float
    """Mean over the subsets."""
    std: float
    """Standard deviation between the subsets."""


class QualityCounts(Section):
    """Images behind the distances."""

    synthetic: int
    """Accepted synthetic images."""
    real: int
    """Real rare training and reserve images."""


class QualityFloor(Section):
    """What real images score against each other: two disjoint halves of the rare ones, no group in both."""

    fid: float | None
    """Fréchet distance of the halves; null where they are too small."""
    kid: KernelDistance | None
    """Kernel distance of the halves; null where they are too small."""
    n: tuple[int, int]
    """Images in the halves."""


class MarginalFloor(Section):
    """Distances of one measured attribute between two disjoint halves of the real images."""

    ks: float | None
    """Kolmogorov-Smirnov distance."""
    wasserstein: float | None
    """Wasserstein distance in standard deviations of all real values."""


class Marginal(Section):
    """One measured attribute of real rare images against accepted synthetic ones; null where a side is empty."""

    ks: float | None
    """Kolmogorov-Smirnov distance."""
    p: float | None
    """P value of the Kolmogorov-Smirnov test."""
    wasserstein: float | None
    """Wasserstein distance in standard deviations of the real values; null where these do not vary."""
    floor: MarginalFloor
    """The same between real images."""


class Quality(Section):
    """How close accepted synthetic images come to the real rare training and reserve images."""

    extractor: Literal["efficientnet-lite0", "inception"]
    """Network of the features. Only scores of the latter compare with published ones."""
    fid: float | None
    """Fréchet distance (Heusel et al., 2017); null where there are too few images."""
    kid: KernelDistance | None
    """Kernel distance (Binkowski et al., 2018); null where there are too few images."""
    n: QualityCounts
    """Images behind `fid` and `kid`."""
    floor: QualityFloor
    """What real images score against each other."""
    warning: str | None
    """A sentence where there are too few images for a score, else null."""
    marginals: dict[str, Marginal]
    """Distances of measured attributes, by name."""


class Compliance(Section):
    """Whether the images of one method have the value of an attribute that they were asked for, before the filter."""

    n: int
    """Images."""
    share: float | None
    """Share whose measured category is the one asked for; null without images, as are the next three."""
    ci95: Interval | None
    """Wilson interval of the share."""
    chance: float | None
    """Share expected of the same requests and the same measured categories, paired at random."""
    p: float | None
    """Exact binomial test, one-sided, of more matches than by chance."""
    table: dict[str, dict[str, int]]
    """Number of images by category asked for, then by category measured ("" where it cannot be told)."""


class Relevance(Section):
    """How well a head that knows ordinary images and some pictures, but no real rare image, ranks real rare training images
    above held-out ordinary ones. Each is ranked by a head that saw nothing of its group. Over several folds or draws of the
    rare images: a mean, and counts added up."""

    auc: float | None
    """Area under the ROC curve; 0.5 is chance. Null where it cannot be told."""
    ci95: Interval | None
    """95 % interval, which resamples whole groups of both sides; null where the rare images are of one group."""
    n_rare: int
    """Real rare images that were ranked."""
    n_groups: int
    """Groups they belong to."""
    n_pictures: int
    """Pictures that the heads learn from: the accepted ones."""
    optimistic: bool
    """Whether a model drew the pictures that was itself trained on these rare images; the value then flatters."""
    parts: list[float]
    """The value in each fold and draw."""
    reason: str | None
    """Why there is no value; null where there is one."""


class RelevanceTest(Section):
    """Whether pictures show what real rare images show."""

    real: Relevance
    """With the real rare images in place of pictures, each ranked by those of other groups: the yardstick."""
    methods: dict[str, Relevance]
    """With the pictures of each method."""
