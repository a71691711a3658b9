"""What every test gets: a process in which no test before it has left its mark."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # as many workers as cores: more threads in each would only take turns. Read when torch is first imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def no_accelerator_before() -> Iterator[None]:
    """accelerate keeps the first Accelerator's precision for the whole process."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(True)
