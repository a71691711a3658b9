"""The types of two sections of metrics.json, `subgroups` and `prevalence`; results.py has the others."""

from __future__ import annotations

from typing import Literal

from ..config import Section

Interval = tuple[float, float]
"""Lower and upper end."""


class PartSpread(Section):
    """A recall, or a difference of two, among a part of the rare test images."""

    mean: float
    """Mean over the seeds."""
    ci95: Interval | None
    """95 % interval, which resamples whole groups within the part; null for a subgroup of fewer than six groups."""


class Subgroup(Section):
    """The rare test images of one category, or of one pair of categories."""

    categories: list[str]
    """One of each attribute."""
    images: int
    """Rare test images."""
    groups: int
    """Groups that they belong to."""
    recall: dict[str, PartSpread]
    """Share of them that is found, by arm."""
    change: PartSpread | None
    """Recall, synthetic minus best control, paired by image; null where one of them is missing."""


class Extremes(Section):
    """Where one arm finds least and most, among subgroups of six groups or more. Both are picked by the test images."""

    worst: list[str] | None
    """Categories of the subgroup with the lowest recall; null where no subgroup has six groups."""
    best: list[str] | None
    """Categories of the subgroup with the highest recall."""
    gap: PartSpread | None
    """Recall of the best minus recall of the worst; null where there are not two."""


class Partition(Section):
    """Recall by the categories of one attribute, or of a pair of attributes."""

    attributes: list[str]
    """One name or two."""
    untold: int
    """Rare test images left out, as a category cannot be told."""
    subgroups: list[Subgroup]
    """In alphabetical order."""
    arms: dict[str, Extremes]
    """Worst and best subgroup of each arm."""
    change_of_worst: PartSpread | None
    """The change in the best control's worst subgroup. Chance has a share in which one is the worst, so recall tends to rise
    there a little with any other classifier."""


class SubgroupTable(Section):
    """Recall by subgroup of the best control, `synthetic` and `oracle`, all at thresholds of one kind."""

    best_control: str | None
    """The best control at these thresholds, over all subgroups; null without controls."""
    partitions: list[Partition]
    """Every attribute, then the pairs in `evaluate.subgroups`. A column of more than 40 values is no attribute by itself."""


class Subgroups(Section):
    """Recall of the rare class by the attributes of the test images."""

    at_thresholds: SubgroupTable
    """At the thresholds from validation."""
    at_equal_specificity: SubgroupTable
    """At the thresholds that give every arm the wanted specificity on all other test images."""


class FieldResult(Section):
    """What one arm does at a threshold, and what that means in the field."""

    recall: PartSpread
    """Share of the rare test images found."""
    specificity: float
    """What false alarms are counted with: with thresholds of validation as measured on test, else the one of the row."""
    precision: float | None
    """Share of finds among all alarms (positive predictive value); null without a prevalence, or without alarms."""
    false_alarms_per_find: float | None
    """Ordinary images called rare for each rare one that is found; null without a prevalence, or without finds."""


class FieldRow(Section):
    """The arms at one specificity."""

    thresholds: Literal["validation", "test"]
    """Which images the thresholds are set on: all other validation images, or all other test images."""
    specificity: float
    """The one asked for."""
    best_control: str | None
    """The best control at thresholds set on these images for the wanted specificity."""
    arms: dict[str, FieldResult] | None
    """Best control, `synthetic` and `oracle`; null where fewer than five false alarms are to be expected among the other
    test images (100 images for 0.95, 500 for 0.99, 5000 for 0.999): too few to say anything."""


class Prevalence(Section):
    """What the figures mean in the field, where the rare class is rare."""

    prevalence: float | None
    """Share of the rare class there, `evaluate.prevalence`."""
    ordinary: int
    """Test images of the other classes."""
    rows: list[FieldRow]
    """At the wanted specificity with thresholds of validation; then at it, at 0.99 and at 0.999 with thresholds of test."""
