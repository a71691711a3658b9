"""What starting from a base is worth: the same fine-tuning from its weights and from random ones.

python benchmarks/fine_tuning.py configs/quickstart.yaml
python benchmarks/fine_tuning.py configs/dermatology.yaml dataset.path=/data/ham10000 dataset.limit=500

Every base but the last is fine-tuned with all steps and with a third of them (each a whole schedule), the last with all of
them, from each seed; text-to-image samples of the rare class are then scored against its real images that did not train.
`random` keeps the embedded autoencoder and text encoder and draws the denoiser anew: what is missing is its pretraining
alone, so the comparison is a generous one. Ratios are of runs with the same seed, which share split and data.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from synthimg.config import Config
from synthimg.core import files
from synthimg.core.device import CPU
from synthimg.core.seeds import derive
from synthimg.data import generated, prepared
from synthimg.diffusion import base
from synthimg.metrics.frechet import frechet_distance
from synthimg.metrics.kernel import kernel_distance
from synthimg.metrics.nearest import copy_threshold, nearest_neighbours
from synthimg.reading import load_config
from synthimg.stages.finetune import finetune_model
from synthimg.stages.generate import generate_images
from synthimg.stages.prepare import prepare_dataset
from synthimg.vision.features import Features, cached, chunks


def measure(settings: Config) -> dict[str, Any]:
    """Fine-tune, sample, score one configuration; what is done already is not done again.

    `copies` are samples nearer to a training image than any held-out real image is; `suspects` those nearer than the
    share `copy_quantile` of held-out images, the filter's rule, so that share of new images would count too (`expected`).
    `pairs.png` in the run's folder shows the nearest eight above their training images.
    """
    prepare_dataset(settings)
    finetune_model(settings)
    generate_images(settings)
    data, plan = prepared.load(settings), generated.plan(settings.folder)
    frame, cache = data.frame, Path(settings.outputs) / ".cache" / "features"
    made = cached(generated.pictures(settings.folder, list(plan["id"]), settings.resolution), cache)
    rare = (frame["label"] == settings.dataset.rare_class).to_numpy()

    def features(rows: np.ndarray) -> Features:
        return cached(chunks(data.pixels, np.flatnonzero(rows)), cache)

    trained = (frame["split"] == "train").to_numpy()
    real, training = features(rare & ~trained), features(trained)
    held_out = features((frame["split"] == "validation").to_numpy())
    quantile, (match, distance) = settings.filter.copy_quantile, nearest_neighbours(made, training)
    closest = np.argsort(distance)[:8]
    drawn = next(generated.pictures(settings.folder, list(plan["id"].iloc[closest]), settings.resolution))
    pairs = [np.concatenate(list(line), 1) for line in (drawn, data.pixels[np.flatnonzero(trained)[match[closest]]])]
    files.write_image(settings.folder / "pairs.png", Image.fromarray(np.concatenate(pairs)))
    kid = kernel_distance(made, real, 0)
    return {
        "frechet": frechet_distance(made, real),
        "kid": kid["mean"] if kid else None,
        "copies": int((distance <= copy_threshold(held_out, training, 0)).sum()),
        "suspects": int((distance <= copy_threshold(held_out, training, quantile)).sum()),
        "expected": quantile * len(made),
        "samples": len(made),
        "real": len(real),
    }


def random_base(folder: Path, seed: int) -> str:
    """The embedded model with a denoiser that has learnt nothing."""
    pipeline = base.load("embedded", CPU)
    torch.manual_seed(derive(seed, "random base"))
    pipeline.unet = UNet2DConditionModel.from_config(pipeline.unet.config)
    place = folder / f"random-{fingerprint(pipeline)}"
    pipeline.save_pretrained(place)
    return str(place)


def fingerprint(pipeline: Any) -> str:
    """What tells the runs of two models apart: a run's key knows a base by its name alone."""
    return base.fingerprint(*base.modules(pipeline))[:8]


def main(path: Path, overrides: list[str], bases: list[str], seeds: int, steps: int, count: int, outputs: Path) -> None:
    """Print one row per base, number of steps and seed, then the ratios of each base to the last one with all steps."""
    rows = []
    for seed in range(seeds):
        for name in bases:
            where = random_base(outputs, seed) if name == "random" else name
            weights = fingerprint(base.load(where, CPU))
            for part in (steps,) if name == bases[-1] else (steps, steps // 3):
                label = f"{path.stem}-{weights}-{part}-seed{seed}"
                changes = [
                    *overrides, f"name={label}", f"outputs={outputs}", f"seed={seed}", f"base={where}",
                    f"finetune.steps={part}", f"finetune.warmup={part // 10}", "finetune.controlnet=null",
                    "finetune.tracker=none", "generate.methods={text: 1}", f"generate.count={count}",
                ]  # fmt: skip
                rows.append({"base": name, "steps": part, "seed": seed, **measure(load_config(path, changes))})
                print(pd.DataFrame(rows).round(4).to_string(), flush=True)
    table = pd.DataFrame(rows).pivot_table(index="seed", columns=["base", "steps"], values="frechet")
    ratios = table.div(table[bases[-1], steps], axis=0).agg(["mean", "min", "max"])
    print(
        f"Frechet distance as a ratio to {bases[-1]} after {steps} steps, over {seeds} seeds\n{ratios.round(2).to_string()}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--bases", nargs="+", default=["embedded", "random"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--outputs", type=Path, default=Path("outputs/benchmarks"))
    main(**vars(parser.parse_args()))
