"""metrics.json as a type: what an evaluation measured. docs/metrics.md is made from the docstrings here."""

from __future__ import annotations

from typing import Literal

from ..config import Section
from .results_quality import Compliance, Quality, RelevanceTest
from .results_subgroups import Interval, Prevalence, Subgroups

VERSION: Literal[2] = 2


class Spread(Section):
    """A mean over draws and seeds with its 95 % interval, which resamples whole groups of test images."""

    mean: float
    """Mean over draws and seeds."""
    ci95: Interval
    """Lower and upper end of the 95 % interval."""


class Change(Section):
    """A difference in recall of the rare class, paired by test image."""

    mean: float
    """Mean over draws and seeds; above 0, synthetic images raised recall."""
    ci95: Interval
    """Lower and upper end of the 95 % interval."""
    p: float | None
    """Exact McNemar test on the rare test images that most seeds find; null where no image changed sides, and where the run
    has several folds or draws."""


class Counts(Section):
    """Numbers of images. Those of training, reserve and validation are means over the parts of the run, those of the test
    count each image once, those of synthetic images are sums over the parts."""

    parts: int
    """Folds times draws; 1 for a single split."""
    train_rare: int
    """Rare training images."""
    train_rare_groups: list[int]
    """In each part: groups that the rare training images belong to."""
    train_other: int
    """Training images of the other classes."""
    reserve_rare: int
    """Rare images beyond the budget, which the oracle alone trains on."""
    validation_rare: int
    """Rare validation images."""
    validation_other: int
    """Validation images of the other classes; the thresholds rest on them."""
    test_rare: int
    """Rare test images."""
    test_other: int
    """Test images of the other classes."""
    test_rare_groups: int
    """Groups that the rare test images belong to: what counts as independent."""
    planned: int
    """Synthetic images in the plan."""
    generated: int
    """Synthetic images made."""
    accepted: int
    """Synthetic images that passed the filter."""
    rejected: dict[str, int]
    """Synthetic images refused, by reason."""


class PerSeed(Section):
    """The same measures of an arm for each draw and seed."""

    recall: list[float]
    """Recall at the default threshold."""
    recall_at_specificity: list[float]
    """Recall at the threshold for the wanted specificity."""


class TrainingCounts(Section):
    """How many different images an arm learns from; further views of an image do not count."""

    rare: int
    """Real rare images."""
    other: int
    """Real images of the other classes."""
    synthetic: int
    """Synthetic images."""


class ArmResult(Section):
    """What one arm does on the test images."""

    title: str
    """What the arm is, in the middle of a sentence."""
    words: str
    """What the arm is, for a table."""
    control: bool
    """Whether it is an alternative to synthetic images, one that the best control is chosen from."""
    recall: Spread
    """Share of the rare test images found by the default threshold (the most probable class)."""
    recall_at_specificity: Spread
    """Share of the rare test images found by the threshold that gives the wanted specificity on validation."""
    specificity: Spread
    """Share of the other test images not called rare, at the default threshold."""
    specificity_at_threshold: Spread
    """Share of the other test images not called rare, at the threshold from validation."""
    auc: Spread
    """Area under the ROC curve of the rare class against all others."""
    per_seed: PerSeed
    """Recall of each draw and seed."""
    n_train: TrainingCounts
    """Training images."""
    other_recall: dict[str, float]
    """Recall of every other class at the default threshold, a mean over the seeds."""


class Common(Section):
    """What the gain costs the other classes."""

    specificity_change: Spread | None
    """Specificity at the threshold, synthetic minus best control; null where one of them is missing."""


class Matched(Section):
    """The comparison where every arm's threshold gives the wanted specificity on the test images themselves."""

    best_control: str
    """`chosen control` with `evaluate.choose`, else the control with the highest recall there."""
    recall: dict[str, float]
    """Recall of every arm, a mean over the seeds."""
    gain: Change
    """Recall, synthetic minus that control."""


class CurveLine(Section):
    """Recall of one arm at each specificity of the curve, with a 95 % band."""

    mean: list[float]
    """Mean over the seeds."""
    low: list[float]
    """Lower end of the band."""
    high: list[float]
    """Upper end of the band."""


class Curve(Section):
    """Recall against specificity, both on the test images: a description, never the gain."""

    specificity: list[float]
    """Specificities, ascending."""
    arms: dict[str, CurveLine]
    """The best control, `synthetic` and `oracle`."""


class InnerScore(Section):
    """A candidate in inner cross-validation."""

    name: str
    """A control, or how synthetic images are used; `none` is the chosen control alone."""
    auc: float
    """How often a held-out rare training image outscores a held-out ordinary one."""
    behind: float
    """AUC of the best candidate less its own."""
    error: float
    """Standard error of that difference; within one, the candidate of least effort is chosen."""
    chosen: bool
    """Whether it is the chosen one."""


class Choices(Section):
    """What was chosen inside the training groups of each part of the run."""

    controls: dict[str, int]
    """Number of parts in which each control was chosen."""
    recipes: dict[str, int]
    """Number of parts in which synthetic images were used in each way; `none`: not at all."""
    notes: dict[str, int]
    """Number of parts in which something kept from choosing as usual, by what it was."""
    inner_controls: list[InnerScore]
    """The controls in the first part, least effort first."""
    inner_recipes: list[InnerScore]
    """The ways to use synthetic images in the first part, least effort first."""


class Recall(Section):
    """Recall of the rare class on real test images, by arm: the answer."""

    folds: int
    """Folds by group, each tested once; 1 for a single split."""
    draws: int
    """Draws of the rare training images."""
    seeds: int
    """Classifiers trained for each arm in every part."""
    classifier: str
    """`head`, `finetune`, or `module:function`."""
    specificity: float
    """The specificity wanted."""
    steps: int | None
    """Optimiser steps of a fine-tuned backbone; null for other classifiers."""
    batch_size: int | None
    """Images a step of a fine-tuned backbone; null for other classifiers."""
    synthetic_weight: float
    """How much a synthetic image counts beside a real one, where no weight is chosen."""
    beside: str
    """The control that the synthetic images, and the oracle's real ones, join, where none is chosen."""
    choice: Choices | None
    """What was chosen inside the training groups; null without `evaluate.choose`."""
    arms: dict[str, ArmResult]
    """Results by arm."""
    best_control: str | None
    """The control that the gain is measured against: `chosen control` with `evaluate.choose`, else the one with the highest
    `recall_at_specificity`; null without controls."""
    gain: Change | None
    """`recall_at_specificity`, synthetic minus best control; null where one of them is missing."""
    oracle_gap_closed: float | None
    """Gain as a share of the oracle's lead over the best control; null without an oracle or where it does not lead."""
    common: Common
    """What the gain costs the other classes."""
    matched: Matched | None
    """The comparison at equal specificity on test; null where there is no gain."""
    curve: Curve | None
    """Recall at other specificities; null where there is no gain."""
    confusion: dict[str, dict[str, dict[str, float]]] | None
    """Test images by arm (best control and synthetic), true label and predicted label, at the default threshold; a mean over
    the seeds. Null where there is no gain."""


class PortionSize(Section):
    """The synthetic arm with a random part of the images; smaller parts lie in larger ones."""

    ratio: float
    """Synthetic images for each real rare training image."""
    synthetic: int
    """Synthetic images."""
    gain: Change
    """Recall, synthetic minus best control."""


class PortionWithout(Section):
    """The synthetic arm without the images of one kind."""

    what: str
    """`method`, or an attribute."""
    value: str
    """The method or the attribute's value that is left out."""
    left_out: int
    """Synthetic images left out."""
    change: Change
    """Recall with all synthetic images minus recall without these."""


class Portions(Section):
    """Which synthetic images a change in recall comes from. A description: nothing is chosen by it."""

    sizes: list[PortionSize]
    """Growing parts, up to all images."""
    knee: float | None
    """Least ratio whose gain is within one standard error of the best; null where that holds for no image at all."""
    without: list[PortionWithout]
    """All images but those of one kind."""


class Results(Section):
    """`evaluate/metrics.json`: what an evaluation measured. Every interval covers the choice of test images alone."""

    version: Literal[2] = VERSION
    """Of this format. A file of another version is refused."""
    rare_class: str
    """The label whose recall is to rise."""
    n: Counts
    """Numbers of images."""
    quality: Quality
    """How close accepted synthetic images come to real ones."""
    compliance: dict[str, dict[str, Compliance] | None]
    """Whether images have what they were asked for, by attribute and method; null for an attribute that no estimator
    measures."""
    relevance: RelevanceTest
    """Whether the pictures of each method show what real rare images show."""
    recall: Recall
    """The answer."""
    subgroups: Subgroups
    """The answer by attributes of the test images."""
    prevalence: Prevalence
    """The answer in the field."""
    portions: Portions | None
    """Which images it comes from; null without `evaluate.portions`, synthetic images or a control."""
    extra: dict[str, float | dict[str, float] | None]
    """Scores of installed packages, by the names in `evaluate.metrics`."""
