"""What the report and the comparison share: templates, number formats, pictures as data URIs, arms as chart rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from .charts import Dot
from .verdict import interval, number, percent, signed

THUMBNAIL = 160
"""Longest side of a picture in the gallery, in pixels: sharp at 80 to 110 CSS pixels, and light."""
ARMS = {
    "real": "real images only, classes as they come",
    "weighted": "real images, loss weighted by class",
    "focal": "real images, focal loss",
    "oversampled": "real images, rare class drawn more often",
    "augmented": "real images, strongly augmented, classes as they come",
    "mirrored": "real images, and mirror images of the rare ones: three of each",
    "turned": "real images, and the rare ones mirrored and turned by quarters: seven of each",
    "mixup": "real images, mixed in pairs",
    "smote": "real images, features of every class interpolated up to the largest",
    "combined": "real images, strongly augmented and mixed, rare class drawn more often",
    "synthetic": "the set of another arm, and accepted synthetic images, each counting less than a real one",
    "oracle": "real images, with the rare ones held in reserve: what more real images would bring",
}
"""The arms of an evaluation in the order of the report, in words."""


def render(template: str, **context: Any) -> bytes:
    """A page from a template of the package; everything that is not markup already is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (number, signed, interval, compact, share, range95)
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


def compact(value: float | None) -> str:
    """Three significant digits; a dash where there is no value."""
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def share(part: float, whole: float) -> str:
    return percent(part, whole) if whole else "–"


def range95(spread: dict[str, Any]) -> str:
    low, high = spread["ci95"]
    return f"{number(low)} to {number(high)}"


def in_order(arms: Iterable[str]) -> list[str]:
    """The arms in the order of the report."""
    known = list(ARMS)
    return sorted(arms, key=lambda arm: (known.index(arm) if arm in known else len(known), arm))


def arm_dots(recall: dict[str, Any], measure: str) -> list[Dot]:
    """One chart row per arm."""
    best = recall.get("best_control")
    found = {arm: recall["arms"][arm] for arm in in_order(recall["arms"])}
    return [
        Dot.of(arm, values[measure], kind(arm, best), values.get("per_seed", {}).get(measure, ()))
        for arm, values in found.items()
    ]


def kind(arm: str, best: str | None) -> str:
    """The CSS classes of an arm."""
    return arm if arm in ("synthetic", "oracle") else "real best" if arm == best else "real"


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
