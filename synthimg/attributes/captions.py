"""Prompts files: templates of captions and instructions, the words for labels, and the attributes that are varied."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..core import files, templates
from ..core.seeds import derive
from ..core.words import Label
from ..errors import UserError
from . import estimators

PACKAGE = Path(__file__).parent.parent
FOLDERS = (PACKAGE.parent / "prompts", PACKAGE / "prompts")
"""Where prompts files are found by name: in the repository, and in an installed package."""
LABEL = "label"
TURN = ("turn it into {label}",)
"""The instruction towards a label, where a prompts file has none of its own."""


class Attribute(BaseModel):
    """One property of an image: where its value comes from, and the words for each of its categories."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: Literal["column", "measured"]
    estimator: str | None = None
    edges: list[float] = []
    values: dict[Label, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "column" and (self.edges or self.estimator):
            raise ValueError("'edges' and 'estimator' belong to source: measured")
        if self.source == "measured" and len(self.edges) != len(self.values) - 1:
            raise ValueError(f"{len(self.values)} values need {len(self.values) - 1} edges, found {len(self.edges)}")
        if self.edges != sorted(set(self.edges)):
            raise ValueError("edges must rise")
        return self


class Prompts(BaseModel):
    """A prompts file; its keys are described in docs/architecture.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    captions: list[str] = Field(min_length=1)
    labels: dict[Label, str] = {}
    negative: str = ""
    measure: list[str] = []
    attributes: dict[str, Attribute] = {}
    edits: dict[str, Annotated[list[str], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in [*self.measure, *self.estimators.values()]:
            try:
                estimators.find(name)
            except UserError as error:
                raise ValueError(str(error)) from error
        for template in self.captions:
            self._check_fields("caption", template)
        for key, phrases in self.edits.items():
            name, _, value = key.partition(".")
            if name != LABEL and name not in self.attributes:
                raise ValueError(f"edits '{key}': no attribute '{name}'")
            if value and name != LABEL and value not in self.attributes[name].values:
                raise ValueError(f"edits '{key}': {name} has no value '{value}'")
            for template in phrases:
                if name not in self._check_fields("instruction", template) and not value:
                    raise ValueError(f"instruction '{template}': lacks {{{name}}}, so it does not say what is asked for")
        return self

    def _check_fields(self, kind: str, template: str) -> list[str]:
        """The fields of a template, all of which must be known."""
        try:
            names = templates.fields(template)
        except ValueError as error:
            raise ValueError(f"{kind} '{template}' is not a template: {error}") from error
        for field in names:
            if field not in {LABEL, *self.attributes}:
                raise ValueError(f"{kind} '{template}': no attribute '{field}'")
        return names

    @property
    def columns(self) -> tuple[str, ...]:
        """The attributes that come from the data set's table."""
        return tuple(name for name, attribute in self.attributes.items() if attribute.source == "column")

    @property
    def estimators(self) -> dict[str, str]:
        """Estimator of each measured attribute."""
        found = self.attributes.items()
        return {name: attribute.estimator or name for name, attribute in found if attribute.source == "measured"}

    @property
    def measured(self) -> tuple[str, ...]:
        """Every estimator whose value is wanted, each once."""
        return tuple(dict.fromkeys([*self.measure, *self.estimators.values()]))


def find(name: str) -> Path:
    """A prompts file by path, or by its name in prompts/.

    Raises:
        UserError: not found; lists the names there are.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        candidates = [files.expanded(name)]
    else:
        candidates = [folder / f"{name}.yaml" for folder in FOLDERS]
    for path in candidates:
        if path.is_file():
            return path
    there = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.yaml")})
    raise UserError(f"dataset.prompts: no prompts file '{name}'; give a .yaml file's path, or one of: {', '.join(there)}")


def load(name: str) -> Prompts:
    """Read and check a prompts file.

    Raises:
        UserError: naming the file and each key that is unknown, missing or inconsistent.
    """
    path = find(name)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Prompts.model_validate(tree)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        problems = [(".".join(map(str, problem["loc"])), problem["msg"]) for problem in error.errors()]
        told = [f"key '{key or '(top)'}': {message.removeprefix('Value error, ')}" for key, message in problems]
        raise UserError(f"{path}: " + "; ".join(told)) from error


def categories(attribute: Attribute, values: np.ndarray) -> list[str]:
    """Category name of each measured value, "" for NaN. A value on a border belongs to the upper category."""
    names = list(attribute.values)
    bins = np.searchsorted(attribute.edges, values, side="right")
    return ["" if np.isnan(value) else names[index] for value, index in zip(values, bins, strict=True)]


def well_inside(attribute: Attribute, values: np.ndarray, margin: float) -> np.ndarray:
    """The nearest values of the same categories that keep a margin from their edges, or lie in the middle of narrow ones.

    Args:
        margin: share of the edge, 0 to 1; for quantities that are not negative.
    """
    edges = np.asarray(attribute.edges, np.float64)
    bins = np.searchsorted(edges, values, side="right")
    low, high = np.append(0, edges), np.append(edges, np.inf)
    least, most = low * (1 + margin), high * (1 - margin)
    narrow, middle = least > most, (low + high) / 2
    return np.clip(values, np.where(narrow, middle, least)[bins], np.where(narrow, middle, most)[bins])


def words(prompts: Prompts, chosen: dict[str, str]) -> dict[str, str]:
    """Words for each attribute's category; a category without words stands for itself, a missing one is left out."""
    held = {name: chosen.get(name, "") for name in prompts.attributes}
    return {name: prompts.attributes[name].values.get(category, category) for name, category in held.items() if category}


def caption(template: str, label_words: str, attribute_words: dict[str, str]) -> str:
    """Fill a template. A part between commas that has nothing to say is dropped, and spacing is tidied.

    >>> caption("a photo of {label}, {light} light, {size}", "a nevus", {"size": "small"})
    'a photo of a nevus, small'
    """
    given = {**attribute_words, "label": label_words}
    parts = []
    for part in template.split(","):
        names = templates.fields(part)
        if not names or any(given.get(name) for name in names):
            filled = templates.fill(part, {name: given.get(name, "") for name in names})
            parts.append(re.sub(r"\s+", " ", filled).strip())
    return ", ".join(part for part in parts if part)


def describe(prompts: Prompts, number: int, label: str, chosen: dict[str, str]) -> str:
    """The caption of a label with these categories, in words.

    Args:
        number: which template, counted around.
        chosen: category per attribute.
    """
    template = prompts.captions[number % len(prompts.captions)]
    return caption(template, prompts.labels.get(label, label), words(prompts, chosen))


def held(prompts: Prompts, record: Mapping[Any, Any]) -> dict[str, str]:
    """The categories that a record has."""
    return {name: str(record[f"attribute.{name}"]) for name in prompts.attributes if record[f"attribute.{name}"]}


def wordings(prompts: Prompts, name: str, value: str) -> list[str]:
    """Templates of the instruction towards a value of an attribute, or towards a label (`name` is then LABEL)."""
    found = [*prompts.edits.get(name, []), *prompts.edits.get(f"{name}.{value}", [])]
    return found or (list(TURN) if name == LABEL else [])


def instruction(prompts: Prompts, number: int, name: str, value: str, chosen: dict[str, str], label: str = "") -> str:
    """What is to be changed in an image, in words.

    Args:
        number: which template, counted around.
        name, value: what is asked for: an attribute and its category, or LABEL and a label.
        chosen: categories that the image has, for templates that name them.
        label: of the image.

    Raises:
        UserError: the prompts file has no instruction for it.
    """
    phrases = wordings(prompts, name, value)
    if not phrases:
        raise UserError(f"edits: the prompts file has no instruction for {name} '{value}'; add one under edits.{name}")
    label, chosen = (value, chosen) if name == LABEL else (label, {**chosen, name: value})
    return caption(phrases[number % len(phrases)], prompts.labels.get(label, label), words(prompts, chosen))


def record_caption(prompts: Prompts, identity: str, label: str, chosen: dict[str, str]) -> str:
    """The caption of one record: its id draws the template.

    Args:
        chosen: category per attribute.
    """
    return describe(prompts, derive(0, "caption", identity), label, chosen)


def grid(
    prompts: Prompts, axes: list[str], within: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> list[dict[str, str]]:  # fmt: skip
    """Every combination of categories along the axes, the last axis changing fastest; no axes: all attributes.

    Args:
        within: of these attributes only these categories, such as those of the place where the classifier will be used.

    Raises:
        UserError: an axis that the prompts file does not declare.
    """
    unknown = [name for name in axes if name not in prompts.attributes]
    if unknown:
        there = ", ".join(prompts.attributes) or "none"
        raise UserError(f"generate.axes: no attribute '{unknown[0]}' in the prompts file; there are: {there}")
    names = axes or list(prompts.attributes)
    kept = {
        name: [value for value in prompts.attributes[name].values if value in within.get(name, [value])] for name in names
    }
    return [dict(zip(names, combination, strict=True)) for combination in product(*kept.values())]
