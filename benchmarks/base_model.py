"""What the embedded base model can do by itself; the tables of docs/base-model.md come from here.

python benchmarks/base_model.py speed
python benchmarks/base_model.py attributes
python benchmarks/base_model.py reconstruction outputs/quickstart outputs/dermatology
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from synthimg import scenes
from synthimg.core.device import CPU, choose_precision
from synthimg.data import prepared
from synthimg.diffusion import base, sample
from synthimg.metrics.frechet import frechet_distance
from synthimg.reading import load_config
from synthimg.vision.backbone import lite, normalise
from synthimg.vision.features import extract

SIDE, SOLVER_STEPS, BATCH = 128, 20, 16


def speed(repeats: int = 7) -> None:
    """Images a second as `synthimg generate` draws them: pictures in, guidance on, decoding within."""
    pipeline = _pipeline("embedded")
    prompts = base.encode_prompts(pipeline, ["a cracked rough panel, two cracks, dimly lit", ""])
    times = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        here = range(repeat * BATCH, (repeat + 1) * BATCH)
        _draw(pipeline, prompts.rows([0] * BATCH), prompts.rows([1] * BATCH), here, 3.0)
        times.append(time.perf_counter() - start)
    rates = sorted(BATCH / seconds for seconds in times[1:])  # the first warms up
    middle = rates[len(rates) // 2]
    spread = f"({rates[0]:.1f} to {rates[-1]:.1f})"
    machine = f"{torch.get_num_threads()} threads, {choose_precision('auto', CPU)}"
    print(
        f"{middle:.1f} images/s {spread}, median of {repeats} batches of {BATCH}, {SOLVER_STEPS} steps, guidance, {machine}"
    )


def attributes(model: str, seeds: int, count: int, guidance: float, folder: Path, sheet: Path | None) -> None:
    """Share of samples whose attribute, measured by a network that saw rendered scenes alone, is the one in the prompt.

    Where one word gives another away only what is left open counts: numbers from one to four of cracks, scratches and
    spots, places of what is not large. The last columns say what the network reaches on renderings that went through the
    same autoencoder, and what naming the commonest value would.
    """
    pipeline = _pipeline(model)
    network = _judge(pipeline, folder)
    hits: list[dict[str, list[float]]] = []
    ceiling: list[dict[str, list[float]]] = []
    every: list[dict[str, list[int]]] = []
    for seed in range(seeds):
        scene = scenes.sample(count, torch.Generator().manual_seed(10**6 + seed))
        texts = [*scenes.captions(scene, omitted=0), ""]
        encoded, images = base.encode_prompts(pipeline, texts), []
        for start in tqdm(range(0, count, BATCH), desc=f"seed {seed}", unit="batch"):
            rows = list(range(start, min(start + BATCH, count)))
            seeds_of = [seed * count + row for row in rows]
            images.append(_draw(pipeline, encoded.rows(rows), encoded.rows([count] * len(rows)), seeds_of, guidance))
        hits.append(_matches(scene, _measure(network, np.concatenate(images))))
        if sheet and not seed:
            _grid(images[0], 8).save(sheet)
        held_out = scenes.sample(count, torch.Generator().manual_seed(2 * 10**6 + seed))
        ceiling.append(_matches(held_out, _measure(network, _reconstructed(pipeline, scenes.pixels(held_out, SIDE)))))
        every.append(_truths(scene))
    print(f"| attribute | samples that match | by seed | n | rendered scenes | commonest value |\n|{'---|' * 6}")
    for name in ["kind", *scenes.VALUES]:
        rates = [float(np.mean(each[name])) for each in hits]
        best = float(np.mean([np.mean(each[name]) for each in ceiling]))
        by_seed, total = " ".join(f"{rate:.2f}" for rate in rates), sum(len(each[name]) for each in hits)
        common = max(np.unique(np.concatenate([each[name] for each in every]), return_counts=True)[1]) / total
        print(f"| {name} | {np.mean(rates):.2f} | {by_seed} | {total} | {best:.2f} | {common:.2f} |")


def reconstruction(model: str, runs: list[Path], count: int, sheet: Path | None) -> None:
    """PSNR and Frechet distance (EfficientNet-Lite0) between prepared photographs and what the autoencoder makes of them."""
    pipeline, lines = _pipeline(model), []
    for run in runs:
        config = load_config(run / "config.yaml").model_copy(update={"outputs": str(run.parent), "name": run.name})
        data = prepared.load(config)
        chosen = np.random.default_rng(0).permutation(len(data.frame))[:count]
        real = data.pixels[np.sort(chosen)]
        again = _reconstructed(pipeline, real)
        error = ((real.astype(np.float64) - again) ** 2).mean((1, 2, 3))
        psnr = 20 * np.log10(255) - 10 * np.log10(error)
        distance = frechet_distance(extract(real), extract(again))
        low = np.quantile(psnr, 0.05)
        print(f"{run.name}: {len(real)} images, PSNR {psnr.mean():.1f} dB (5 % below {low:.1f}), Frechet {distance:.1f}")
        rare = np.flatnonzero(data.frame["label"] == config.dataset.rare_class)[:10]
        lines += [np.concatenate(list(part), 1) for part in (data.pixels[rare], _reconstructed(pipeline, data.pixels[rare]))]
    if sheet:
        Image.fromarray(np.concatenate(lines)).save(sheet)


def _pipeline(model: str) -> Any:
    pipeline = base.load(model, CPU)
    sample.use_precision(pipeline.unet, choose_precision("auto", CPU))
    return pipeline


def _draw(pipeline: Any, prompts: base.Prompts, negative: base.Prompts, seeds: Iterable[int], guidance: float) -> np.ndarray:
    return sample.sample_images(pipeline, prompts, negative, list(seeds), sample.Solver(SOLVER_STEPS, guidance, SIDE))


def _reconstructed(pipeline: Any, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([base.reconstruct(pipeline, pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)])


class Judge(nn.Module):
    """EfficientNet-Lite0 with one linear layer for the kind and for each attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = lite()
        sizes = {"kind": len(scenes.KINDS)} | {name: len(words) for name, words in scenes.VALUES.items()}
        self.heads = nn.ModuleDict({name: nn.Linear(1280, size) for name, size in sizes.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(normalise(images))
        return {name: head(features) for name, head in self.heads.items()}


def _judge(pipeline: Any, folder: Path, steps: int = 700, batch: int = 32) -> Judge:
    """Fine-tuned on rendered scenes, a quarter of them sent through the autoencoder, whose blur the samples share."""
    torch.manual_seed(0)
    network = Judge().to(memory_format=torch.channels_last)  # 1.7 times as fast in training here
    source = b"".join(path.read_bytes() for path in sorted(Path(scenes.__file__).parent.glob("*.py")))
    place = folder / f"judge-{base.fingerprint(pipeline.vae, source)}.pt"
    if place.exists():
        network.load_state_dict(torch.load(place, weights_only=True))
        return network.eval()
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for step in tqdm(range(steps), desc="judge", unit="step"):
        scene = scenes.sample(batch, torch.Generator().manual_seed(3 * 10**6 + step))
        pixels = scenes.pixels(scene, SIDE)
        with torch.autocast("cpu", torch.bfloat16):
            pixels[::4] = _reconstructed(pipeline, pixels[::4])
        found = network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        loss = torch.zeros(())
        truths = scenes.attributes(scene)
        for name, answer in found.items():
            here = torch.tensor([name in truth for truth in truths])
            if here.any():
                loss = loss + F.cross_entropy(answer[here], getattr(scene, name)[here])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), place)
    return network.eval()


@torch.no_grad()
def _measure(network: Judge, pixels: np.ndarray) -> dict[str, Tensor]:
    found = network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return {name: answer.argmax(1) for name, answer in found.items()}


def _open(scene: scenes.Scene) -> dict[str, Tensor]:
    """Which scenes have each attribute with no other word giving it away: bool [n] by name."""
    truths = scenes.attributes(scene)

    def fair(name: str, truth: dict[str, str]) -> bool:
        given = {
            "count": truth.get("mark") == "stained" or truth.get("count") == "no",
            "place": truth.get("size") == "large",
        }
        return name in truth and not given.get(name, False)

    return {name: torch.tensor([fair(name, truth) for truth in truths]) for name in ["kind", *scenes.VALUES]}


def _truths(scene: scenes.Scene) -> dict[str, list[int]]:
    """The number of every attribute in the scenes of `_open`."""
    return {name: getattr(scene, name)[here].tolist() for name, here in _open(scene).items()}


def _matches(scene: scenes.Scene, measured: dict[str, Tensor]) -> dict[str, list[float]]:
    """1 or 0 for every scene of `_open`."""
    return {name: (measured[name] == getattr(scene, name))[here].float().tolist() for name, here in _open(scene).items()}


def _grid(images: np.ndarray, columns: int) -> Image.Image:
    return Image.fromarray(
        np.concatenate([np.concatenate(list(line), 1) for line in np.split(images, len(images) // columns)])
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("speed")
    asked = verbs.add_parser("attributes")
    asked.add_argument("--model", default="embedded")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--count", type=int, default=256)
    asked.add_argument("--guidance", type=float, default=3.0)
    asked.add_argument("--folder", type=Path, default=Path("outputs/benchmarks"), help="where the trained judge is kept")
    asked.add_argument("--sheet", type=Path, help="where to draw the first samples")
    asked = verbs.add_parser("reconstruction")
    asked.add_argument("runs", type=Path, nargs="+")
    asked.add_argument("--model", default="embedded")
    asked.add_argument("--count", type=int, default=2000)
    asked.add_argument("--sheet", type=Path)
    arguments = vars(parser.parse_args())
    measures: dict[str, Any] = {"speed": speed, "attributes": attributes, "reconstruction": reconstruction}
    measures[arguments.pop("verb")](**arguments)
