"""What keeping freed memory is worth: a step of the fine-tuned backbone with and without `synthimg.core.memory.keep_freed`.

python benchmarks/memory.py
OMP_NUM_THREADS=1 python benchmarks/memory.py --repeats 5

Every measurement is a process of its own, with and without by turns; probabilities must be the same to the bit. Ratios are
of neighbours. Only glibc is affected, and only what runs on a CPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from typing import Any

import numpy as np

from synthimg.core import memory
from synthimg.evaluation.arms import TrainingSet
from synthimg.evaluation.finetune import Schedule, fit_backbone

BATCH = 64


def measure(keep: bool, steps: int, side: int) -> dict[str, Any]:
    """Seconds and page faults of a step, peak memory in GiB, and the probabilities of a training of `steps`."""
    if keep:
        memory.keep_freed()
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (BATCH, side, side, 3), np.uint8), np.arange(BATCH) % 2
    training = TrainingSet(pixels, labels, np.ones(BATCH))
    fit_backbone(training, 2, pixels, Schedule(2, BATCH))  # kernels are chosen, memory is there
    faults, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    found = fit_backbone(training, 2, pixels[:1], Schedule(steps, BATCH))
    seconds, usage = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds / steps, "faults": (usage.ru_minflt - faults) / steps, "peak": usage.ru_maxrss / 2**20,
            "found": found}  # fmt: skip


def main(repeats: int, steps: int, side: int) -> None:
    ratios = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        for _ in range(repeats):
            without, kept = (fresh.apply(measure, (keep, steps, side)) for keep in (False, True))
            if not np.array_equal(without["found"], kept["found"]):
                raise SystemExit("memory that is kept changes the result")
            ratios.append(kept["seconds"] / without["seconds"])
            for name, one in (("returned", without), ("kept", kept)):
                print(
                    f"{name}: {one['seconds']:.2f} s and {one['faults']:.0f} faults a step, {one['peak']:.1f} GiB",
                    flush=True,
                )
    print(f"kept / returned: {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--side", type=int, default=128, help="of the pictures, in pixels")
    main(**vars(parser.parse_args()))
