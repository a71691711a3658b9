"""From a YAML file and the command line's `key.sub=value` to a configuration. Unknown keys are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .config import Config, Part
from .core.files import expanded
from .errors import UserError, did_you_mean
from .evaluation.arms import arms_of
from .methods import base


def override(tree: dict[str, Any], assignment: str) -> dict[str, Any]:
    """A copy of `tree` with one `key.sub=value` applied; the value is read as YAML."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UserError(f"override '{assignment}': expected key.sub=value")
    head, *rest = key.split(".")
    if not rest:
        try:
            return {**tree, head: yaml.safe_load(text)}
        except yaml.YAMLError as error:
            raise UserError(f"override '{assignment}': the value is not valid YAML") from error
    branch = tree.get(head) or {}
    if not isinstance(branch, dict):
        raise UserError(f"override '{assignment}': '{head}' holds a value, not a section")
    return {**tree, head: override(branch, f"{'.'.join(rest)}={text}")}


def load_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a YAML configuration, apply overrides, check every key.

    Raises:
        UserError: naming the file and each key that is unknown, missing or of the wrong kind.
    """
    try:
        tree = yaml.safe_load(expanded(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such configuration file") from error
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(tree).__name__}")
    for assignment in overrides:
        tree = override(tree, assignment)
    return parse(tree, where=str(path))


def config_of(run: Path) -> Config:
    """The configuration that a run recorded, in the run's present place.

    Raises:
        UserError: the file is none of this program's.
    """
    recorded = run / "config.yaml"
    return parse({**yaml.safe_load(recorded.read_text()), "outputs": str(run.resolve().parent)}, str(recorded))


def parse(tree: dict[str, Any], where: str = "config") -> Config:
    """Check a tree of plain values against the schema."""
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise UserError(f"{where}: " + "; ".join(problems)) from error
    if config.folds == 2:
        raise UserError(f"{where}: folds: is 2; expected 1, or 3 and more: one tests, one sets thresholds, the others train")
    if isinstance(config.part, Part) and (config.part.fold >= config.folds or config.part.draw >= config.redraws):
        raise UserError(f"{where}: part: there are {config.folds} folds and {config.redraws} draws, counted from 0")
    shares = config.dataset.split
    if abs(shares.train + shares.validation + shares.test - 1) > 1e-6:
        raise UserError(f"{where}: dataset.split: train, validation and test must add up to 1")
    arms = arms_of(config.evaluate.arms, config.evaluate.beside)
    if not any(arm.control and arm.suits(config.evaluate.classifier) for arm in arms.values()):
        raise UserError(
            f"{where}: evaluate.arms: at least one control is needed, such as 'real' (smote goes with the head only)"
        )
    if "synthetic" in config.evaluate.arms and config.evaluate.beside not in config.evaluate.arms:
        raise UserError(
            f"{where}: evaluate.beside: '{config.evaluate.beside}' is not among evaluate.arms; without it nobody can "
            "tell its share in a gain from that of the synthetic images"
        )
    if "synthetic" in arms and not arms["synthetic"].suits(config.evaluate.classifier):
        raise UserError(
            f"{where}: evaluate.beside: '{config.evaluate.beside}' cannot be trained with evaluate.classifier: "
            f"{config.evaluate.classifier}"
        )
    if config.finetune.controlnet == "mask" and not config.dataset.mask:
        raise UserError(f"{where}: finetune.controlnet: mask needs dataset.mask, the masks of the images; or use edges")
    if "transplant" in config.finetune.edits and not config.dataset.mask:
        raise UserError(f"{where}: finetune.edits.transplant needs dataset.mask, the masks of the images' objects")
    if config.generate.region == "mask" and not config.dataset.mask:
        raise UserError(f"{where}: generate.region: mask needs dataset.mask, the masks of the images' objects; or use drawn")
    for name in config.generate.methods:
        needed = base.find(name).needs
        if needed == "controlnet" and not config.finetune.controlnet:
            raise UserError(f"{where}: generate.methods.{name} needs finetune.controlnet: mask or edges")
        if needed == "edits" and not config.finetune.edits:
            raise UserError(f"{where}: generate.methods.{name} needs finetune.edits, such as {{procedural: 200}}")
        if needed == "masks" and not config.dataset.mask:
            raise UserError(f"{where}: generate.methods.{name} needs dataset.mask, the masks of the images' objects")
    return config


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_suggest(problem['loc'])}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"key '{key}': {message[0].lower()}{message[1:]}, found {problem['input']!r}"


def _suggest(location: tuple[Any, ...]) -> str:
    section: Any = Config
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    return did_you_mean(str(location[-1]), section.model_fields)
