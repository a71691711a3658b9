"""Image to image from a real training image of another class, prompted as the rare one."""

from __future__ import annotations

from .base import Method
from .image import draw, plan

METHOD = Method(plan, draw, starts_from="common")
