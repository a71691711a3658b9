"""Pairs for edits from a data set's training images, and all pairs that a configuration asks for.

Whatever a method composes of real images is a pair with the image on which it lies: before and after, or after and
before. Only records that the fine-tuning may see are used: those of the training split, whose consent holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..attributes import captions, estimators, photometry
from ..core.seeds import derive
from ..data import pairs
from ..data.pairs import Asked, Pairs
from ..errors import UserError
from .base import Material, Wish, find
from .starts import records
from .studio import Studio

TRIES = 20
"""Changes tried for each pair that is asked for."""


class Change(NamedTuple):
    """A photograph in two values of one attribute.

    Attributes:
        before, after: uint8 [R, R, 3].
        record: the id of the photograph.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    asked: Asked
    text: str
    record: str


def all_pairs(material: Material) -> Pairs:
    """The pairs of `finetune.edits`, which must name some.

    Raises:
        UserError: a kind of pairs cannot be made of this data set; the message names the key.
    """
    config = material.config
    parts = []
    for kind, count in config.finetune.edits.items():
        if kind == "scenes":
            parts.append(pairs.of_scenes(count, config.resolution, derive(config.seed, "edits")))
        elif kind == "attributes":
            parts.append(of_attributes(material, count))
        else:
            parts.append(of_method(material, kind, count))
    return pairs.join(parts)


def of_method(material: Material, name: str, count: int) -> Pairs:
    """Images of other classes without and with the object that a composing method puts there.

    Args:
        name: a method whose plan has the column `ground`: procedural or transplant.

    Raises:
        UserError: the method finds no image to work on.
    """
    config, prompts, prepared = material
    method, rare = find(name), config.dataset.rare_class
    wishes = [Wish(name, number, {}, derive(config.seed, "edits", name, number)) for number in range(count)]
    planned = method.plan(wishes, records(method, material), material)
    rows = pd.DataFrame([{**columns, "seed": wish.seed} for wish, columns in zip(wishes, planned, strict=True)])
    studio = Studio(config, prepared, rows.assign(method=name), Path())
    bare, drawn = studio.pixels(rows["ground"]), method.draw(rows, studio)
    added = np.array([np.random.default_rng(derive(wish.seed, "direction")).random() < 0.5 for wish in wishes])
    which = added[:, None, None, None]
    grounds = prepared.frame.iloc[studio.records(rows["ground"])].to_dict("records")
    asked = [Asked(captions.LABEL, rare if add else str(own["label"])) for add, own in zip(added, grounds, strict=True)]
    texts = [
        captions.instruction(prompts, derive(wish.seed, "wording"), *each, captions.held(prompts, own))
        for wish, each, own in zip(wishes, asked, grounds, strict=True)
    ]
    shown = rows.reindex(columns=["source", "ground", "like"], fill_value="").itertuples(index=False)
    return Pairs(
        before=np.where(which, bare, drawn), after=np.where(which, drawn, bare), mask=(bare != drawn).any(3), texts=texts,
        asked=asked, records=[tuple(filter(None, row)) for row in shown],
    )  # fmt: skip


def of_attributes(material: Material, count: int) -> Pairs:
    """Training images in two values of one measured attribute, by a photometric operator (attributes/photometry.py).

    A change that moves another attribute into another category is passed over. The values are real images' own.

    Raises:
        UserError: no attribute can be changed so, or no change of `TRIES` for each pair is good.
    """
    found = list(islice(_changes(material, count * TRIES), count))
    if len(found) < count:
        raise UserError(
            f"finetune.edits.attributes: {count} pairs are asked for, and {len(found)} could be made: the training images "
            "have too few values, or one attribute does not change without another"
        )
    before, after = (np.stack([change[side] for change in found]) for side in (0, 1))
    texts, asked = [change.text for change in found], [change.asked for change in found]
    return Pairs(before, after, np.ones(before.shape[:3], bool), texts, asked, [(change.record,) for change in found])


def changeable(prompts: captions.Prompts) -> list[str]:
    """The attributes that an operator can change and an instruction can ask for."""
    return [
        name
        for name, estimator in prompts.estimators.items()
        if estimator in photometry.OPERATORS
        and all(captions.wordings(prompts, name, value) for value in prompts.attributes[name].values)
    ]


def _changes(material: Material, tries: int) -> Iterator[Change]:
    """Good changes of training images."""
    config, prompts, prepared = material
    names = changeable(prompts)
    if not names:
        raise UserError(
            "finetune.edits.attributes: the prompts file has no attribute that an operator can change "
            f"({', '.join(photometry.OPERATORS)}) and that has instructions under `edits`"
        )
    train = np.flatnonzero(prepared.frame["split"] == "train")
    for number in range(tries):
        seed = derive(config.seed, "edits", "attributes", number)
        random = np.random.default_rng(seed)
        row, name = int(random.choice(train)), names[number % len(names)]
        record, measure = prepared.frame.iloc[row], f"measured.{prompts.estimators[name]}"
        own, held = record[f"attribute.{name}"], prepared.frame.iloc[train]
        others = held[(held[f"attribute.{name}"] != own) & (held[f"attribute.{name}"] != "")]
        if not own or others.empty:
            continue
        value = str(random.choice(sorted(set(others[f"attribute.{name}"]))))
        like = random.choice(others.loc[others[f"attribute.{name}"] == value, measure].to_numpy())
        picture = np.asarray(prepared.pixels[row])
        changed = photometry.towards(picture, prompts.estimators[name], float(like))
        if measured(prompts, changed) != {**measured(prompts, picture), name: value}:
            continue
        back = random.random() < 0.5
        asked = Asked(name, str(own) if back else value)
        text = captions.instruction(
            prompts, derive(seed, "wording"), *asked, captions.held(prompts, record), str(record["label"])
        )
        before, after = (changed, picture) if back else (picture, changed)
        yield Change(before, after, asked, text, str(record["id"]))


def measured(prompts: captions.Prompts, picture: NDArray[np.uint8]) -> dict[str, str]:
    """The category of each measured attribute of a picture [R, R, 3], "" where it cannot be told."""
    values = estimators.measure(picture[None], list(dict.fromkeys(prompts.estimators.values())))
    return {
        name: captions.categories(prompts.attributes[name], values[estimator])[0]
        for name, estimator in prompts.estimators.items()
    }
