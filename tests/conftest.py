"""What every test gets: a process in which no test before it has left its mark."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_accelerator_before() -> Iterator[None]:
    """accelerate keeps the first Accelerator's precision for the whole process."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(True)
