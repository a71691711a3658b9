"""Names in the configuration that installed packages can add to, checked when the configuration is read."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from ..core import extensions
from ..errors import did_you_mean
from .arms import find_arm

METRICS = "synthimg.metrics"
"""The group of entry points of metrics."""


def _known(name: str) -> str:
    try:
        find_arm(name)
    except KeyError as error:
        raise PydanticCustomError("unknown_arm", "{text}", {"text": error.args[0]}) from error
    return name


def _joinable(name: str) -> str:
    arm = find_arm(_known(name))
    if not (arm.joins and arm.control):
        raise PydanticCustomError("no_control", "expected a control that synthetic images can join")
    return name


def _classifier(name: str) -> str:
    if not re.fullmatch(r"head|finetune|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", name):
        raise PydanticCustomError("unknown_classifier", "expected head, finetune, or module:function")
    return name


def _measured(name: str) -> str:
    known = extensions.names(METRICS)
    if name not in known:
        text = f"no installed package has a metric of this name{did_you_mean(name, known)}"
        raise PydanticCustomError("unknown_metric", "{text}", {"text": text})
    return name


ArmName = Annotated[str, AfterValidator(_known)]
"""Of the package or of an installed one, or a control with `+distance`, `+patches` or `+outlier` after its name."""
ControlName = Annotated[str, AfterValidator(_joinable)]
"""A control that synthetic images can join."""
ClassifierName = Annotated[str, AfterValidator(_classifier)]
"""`head`, `finetune`, or `module:function`; whether that can be imported is seen when it is needed."""
MetricName = Annotated[str, AfterValidator(_measured)]
"""Of an installed package."""
