"""What of the base model's recipe matters, at small scale: pretrain each variant shortly, fine-tune it on ELPV, score.

python benchmarks/ablation.py both corpus scenes epsilon narrow wide --steps 1000

A variant's worth is what fine-tuning from it gives: 100 steps on the solar cells with 40 rare images, then 256 samples of
the rare class against the real ones that did not train, from each seed. All share the embedded autoencoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from fine_tuning import measure

from synthimg.pretrain.training import pretrain_base
from synthimg.reading import load_config

RECIPE, EMBEDDED = Path("configs/base-model.yaml"), Path("configs/quickstart.yaml")
SCENES = 8000
"""About as many as the corpus has images."""
CHANGES: dict[str, dict[str, Any]] = {
    "both": {},
    "corpus": {"scenes": 0},
    "scenes": {"corpus": None},
    "epsilon": {"prediction": "epsilon"},
    "narrow": {"unet_channels": [48, 96, 144]},
    "wide": {"unet_channels": [96, 160, 224]},
}


def pretrained(name: str, steps: int, folder: Path) -> Path:
    """The variant's model folder, trained if it is not there yet; data that another variant has made are used again."""
    work = folder / f"{name}-{steps}"
    model = work / "model"
    if not (model / "model_index.json").exists():
        small = {"work": str(work), "unet_steps": steps, "scenes": SCENES, "compile": False}
        recipe = yaml.safe_load(RECIPE.read_text()) | small | CHANGES[name]
        work.mkdir(parents=True, exist_ok=True)
        own = {"scenes", "corpus"} & set(CHANGES[name])
        donor = folder / f"both-{steps}"
        if not own and donor != work and (donor / "captions.json").exists():
            for made in [*donor.glob("*.npy"), donor / "captions.json", donor / "tokenizer"]:
                if not (work / made.name).exists():
                    (work / made.name).symlink_to(made.resolve())
        path = work / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        pretrain_base(path)
    return model


def main(variants: list[str], steps: int, seeds: int, folder: Path) -> None:
    """Print one row per variant and seed."""
    rows = []
    for name in variants:
        model = pretrained(name, steps, folder)
        for seed in range(seeds):
            changes = [
                f"name={name}-{steps}-seed{seed}", f"outputs={folder / 'runs'}", f"seed={seed}", f"base={model}",
                "finetune.steps=100", "finetune.warmup=10", "finetune.decoder_steps=0", "finetune.tracker=none",
                "generate.methods={text: 1, image: 0, from_common: 0}", "generate.count=256",
            ]  # fmt: skip
            found = measure(load_config(EMBEDDED, changes))
            rows.append({"variant": name, "seed": seed, **found})
            print(pd.DataFrame(rows).round(4).to_string(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+", choices=CHANGES)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("outputs/ablation"))
    main(**vars(parser.parse_args()))
