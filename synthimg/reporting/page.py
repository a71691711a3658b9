"""What the report and the comparison share: templates, pictures as data URIs, arms as chart rows."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from ..evaluation.arms import in_order
from ..evaluation.choice import in_parts
from ..evaluation.results import ArmResult, Recall
from .charts import Dot
from .formats import compact, interval, number, percentage, range95, share, signed, times

THUMBNAIL = 160
"""Longest side of a picture in the gallery, in pixels: sharp at 80 to 110 CSS pixels, and light."""


def render(template: str, **context: Any) -> bytes:
    """A page from a template of the package; everything that is not markup already is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (number, signed, interval, compact, share, range95, times, percentage, in_parts)
    environment.filters.update({function.__name__: function for function in filters})
    return environment.get_template(template).render(**context).encode()


def picture(source: Path | np.ndarray, most: int = THUMBNAIL) -> str:
    """A picture as a JPEG data URI, at most `most` pixels wide or high; grey ones as one channel."""
    image = Image.fromarray(np.asarray(source)) if isinstance(source, np.ndarray) else _open(source)
    image.thumbnail((most, most), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    if (array[..., 0] == array[..., 1]).all() and (array[..., 1] == array[..., 2]).all():
        image = image.convert("L")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def arm_dots(recall: Recall, measure: str) -> list[Dot]:
    """One chart row per arm."""
    return [
        Dot.of(
            name,
            getattr(recall.arms[name], measure),
            kind(name, recall.arms[name], recall.best_control),
            getattr(recall.arms[name].per_seed, measure, ()),
        )
        for name in in_order(recall.arms)
    ]


def kind(name: str, arm: ArmResult, best: str | None) -> str:
    """The CSS classes of an arm."""
    if arm.control:
        return "real best" if name == best else "real"
    return "oracle" if name == "oracle" else "synthetic"


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
