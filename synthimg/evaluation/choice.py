"""What was chosen in a part of a run: the control, and how synthetic images are used, if at all. choose.py chooses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..config import Config
from ..core.files import write_json
from ..metrics.comparison import CHOSEN
from ..metrics.ranking import Behind
from .arms import Arm
from .judged import Judged

FILE = "choice.json"
NONE = "none"


class Recipe(NamedTuple):
    """How the synthetic arm is trained."""

    methods: tuple[str, ...]
    """Whose images it has; none of them: it is the chosen control."""
    weight: float
    """How much a synthetic image counts beside a real one."""
    beside: str
    """The control that the synthetic images, and the oracle's real ones, join."""

    @property
    def name(self) -> str:
        """In words."""
        return f"{' and '.join(self.methods)} at weight {self.weight:g} beside {self.beside}" if self.methods else NONE


class Choice(NamedTuple):
    """What was chosen in one part of a run, and what it was chosen by."""

    control: str | None
    """None where no control can be trained."""
    recipe: Recipe
    note: str
    """Why nothing could be chosen, or what was done in another way than usual; else empty."""
    controls: dict[str, Behind]
    """Inner scores of the controls, those of less effort first; empty where nothing could be chosen."""
    recipes: dict[str, Behind]
    """The same of the recipes, by name; `none` is the chosen control alone."""

    def used(self, made: pd.DataFrame) -> pd.DataFrame:
        """Those rows of the plan whose images the synthetic arm has."""
        return made[made["method"].isin(self.recipe.methods)]

    def added(self, table: pd.DataFrame, synthetic: bool) -> pd.DataFrame:
        """predictions.parquet or thresholds.parquet with the rows of the chosen control once more, as `chosen control`; and
        as `synthetic`, if this arm is wanted and no image is used.
        """
        names = [CHOSEN, *(["synthetic"] if synthetic and not self.recipe.methods else [])]
        rows = table[table["arm"] == self.control]
        return pd.concat([table, *(rows.assign(arm=name) for name in names)], ignore_index=True)


def applied(config: Config, recipe: Recipe, arms: list[str] | None = None) -> Config:
    """The configuration with this recipe in place of its own, and with these arms, if given."""
    changed = {"beside": recipe.beside, "synthetic_weight": recipe.weight, "arms": arms or config.evaluate.arms}
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changed)})


def write_choice(folder: Path, choice: Choice) -> None:
    """Write `<part>/classify/choice.json`."""
    tables = {part: {name: row._asdict() for name, row in getattr(choice, part).items()} for part in ("controls", "recipes")}
    write_json(folder / FILE, {**choice._asdict(), "recipe": choice.recipe._asdict(), **tables})


def read_choice(folder: Path) -> Choice | None:
    """What `<part>/classify/choice.json` holds; None where nothing was to be chosen."""
    file = folder / FILE
    if not file.exists():
        return None
    tree = json.loads(file.read_text(encoding="utf-8"))
    recipe = Recipe(tuple(tree["recipe"]["methods"]), tree["recipe"]["weight"], tree["recipe"]["beside"])
    tables = ({name: Behind(**row) for name, row in tree[part].items()} for part in ("controls", "recipes"))
    return Choice(tree["control"], recipe, tree["note"], *tables)


def used_images(part: Judged) -> pd.DataFrame:
    """The accepted images that the synthetic arm has in this part."""
    choice = read_choice(part.classified)
    return choice.used(part.accepted) if choice else part.accepted


def summary(choices: Sequence[Choice]) -> dict[str, Any]:
    """The section `recall.choice` of metrics.json; the inner scores are those of the first part."""
    first = choices[0]
    return {
        "controls": _counted(choice.control or NONE for choice in choices),
        "recipes": _counted(choice.recipe.name for choice in choices),
        "notes": _counted(choice.note for choice in choices if choice.note),
        "inner_controls": _rows(first.controls, first.control),
        "inner_recipes": _rows(first.recipes, first.recipe.name),
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _rows(table: Mapping[str, Behind], chosen: str | None) -> list[dict[str, Any]]:
    return [{"name": name, **row._asdict(), "chosen": name == chosen} for name, row in table.items()]


def chosen_arm(choices: Sequence[Choice], arms: Mapping[str, Arm]) -> Arm:
    """The row of the arms' table for the chosen control.

    Args:
        arms: the controls by name.
    """
    counts = _counted(choice.control for choice in choices if choice.control)
    which = in_parts({arms[name].title: count for name, count in counts.items()}, len(choices))
    return Arm(
        "the control that inner cross-validation chose in each part",
        f"the control chosen by inner cross-validation ({which})",
    )


def in_parts(counts: Mapping[str, int], parts: int, most: int = 3) -> str:
    """How often each thing was chosen: "mirror images in 14 of 20 parts, mixup in 6"; of one part the thing alone.

    Args:
        counts: the most frequent first; those after the first `most` are counted together.
    """
    if parts == 1:
        return next(iter(counts))
    (first, often), *others = counts.items()
    named, rest = others[: most - 1], sum(count for _, count in others[most - 1 :])
    told = [f"{first} in {often} of {parts} parts", *(f"{name} in {count}" for name, count in named)]
    return ", ".join([*told, *([f"others in {rest}"] if rest else [])])
