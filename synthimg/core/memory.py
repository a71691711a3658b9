"""How the process deals with memory that tensors no longer need."""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed() -> None:
    """Let the C library keep what is freed for the next tensor, until the process ends.

    By default glibc returns large blocks to the kernel, and every training step has them mapped and cleared anew: up to
    four tenths of a step on a CPU (benchmarks/memory.py). Results stay the same to the bit. Only glibc is told: elsewhere
    nothing happens.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
