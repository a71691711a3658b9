"""Procedural, captioned scenes with exact attributes and masks: an unlimited source of images with known truth.

Three kinds under domain randomisation: `panel` (a framed plate with busbars, clouds, cracks, dead areas), `skin`
(a lesion on textured skin) and `surface` (a toned texture with scratches, spots or stains). Everything is batched
tensor code: `sample` draws parameters, `render` turns them into images and masks, `captions` into sentences.

    scene = sample(64, torch.Generator().manual_seed(0))
    images, masks = render(scene, 128)       # [64, 3, 128, 128] in [0, 1], [64, 1, 128, 128] in {0, 1}
    texts = captions(scene)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("panel", "skin", "surface")
HUES = ("grey", "brown", "red", "blue", "green", "purple", "pink", "yellow")
HUE_RGB = torch.tensor(
    [[0.6, 0.6, 0.6], [0.5, 0.33, 0.2], [0.7, 0.2, 0.2], [0.25, 0.35, 0.65], [0.3, 0.55, 0.3], [0.45, 0.25, 0.55],
     [0.85, 0.55, 0.6], [0.8, 0.7, 0.3]]
)  # fmt: skip
SKIN_RGB = torch.tensor([[0.93, 0.79, 0.74], [0.83, 0.62, 0.52], [0.66, 0.46, 0.36], [0.42, 0.28, 0.22]])
WORDS = {
    "light": ("dark", "evenly lit", "bright"),
    "size": ("small", "medium", "large"),
    "texture": ("smooth", "mottled", "rough"),
    "tone": ("very light", "light", "medium", "dark"),
    "defect": ("intact", "scratched", "spotted", "stained"),
    "count": ("no", "one", "two", "three", "four"),
}
LINES = 5
SPOTS = 4


@dataclass(frozen=True)
class Scene:
    """Parameters of n scenes; all integer fields index into WORDS, HUES or KINDS. Lengths are shares of the image side.

    Attributes:
        kind, light, size, texture, tone, hue, defect, count: int64 [n].
        radius: size of the lesion, spots or stain, as a share of the side [n].
        place: centres of up to SPOTS objects, in [-1, 1] [n, SPOTS, 2].
        ends: end points of up to LINES cracks or scratches, in [-1, 1] [n, LINES, 2, 2].
        style: free random numbers in [0, 1) for what no caption names [n, 24].
        seed: seed of the noise fields.
    """

    kind: Tensor
    light: Tensor
    size: Tensor
    texture: Tensor
    tone: Tensor
    hue: Tensor
    defect: Tensor
    count: Tensor
    radius: Tensor
    place: Tensor
    ends: Tensor
    style: Tensor
    seed: int


def sample(n: int, generator: torch.Generator, kinds: tuple[str, ...] = KINDS) -> Scene:
    """Draw n scenes of the given kinds, each attribute uniform over its values."""

    def draw(high: int) -> Tensor:
        return torch.randint(high, (n,), generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator)

    size = draw(3)
    return Scene(
        kind=torch.tensor([KINDS.index(kind) for kind in kinds])[draw(len(kinds))],
        light=draw(3),
        size=size,
        texture=draw(3),
        tone=draw(4),
        hue=draw(len(HUES)),
        defect=draw(4),
        count=draw(5),
        radius=torch.tensor([0.10, 0.22, 0.38])[size] * (0.85 + 0.3 * uniform()),
        place=uniform(SPOTS, 2) * 1.4 - 0.7,
        ends=uniform(LINES, 2, 2) * 2.4 - 1.2,
        style=uniform(24),
        seed=int(torch.randint(2**31, (1,), generator=generator)),
    )


def captions(scene: Scene) -> list[str]:
    """One English sentence per scene, naming its attributes."""
    texts = []
    for i in range(len(scene.kind)):
        light, size = WORDS["light"][scene.light[i]], WORDS["size"][scene.size[i]]
        texture, tone = WORDS["texture"][scene.texture[i]], WORDS["tone"][scene.tone[i]]
        hue, defect, count = HUES[scene.hue[i]], WORDS["defect"][scene.defect[i]], WORDS["count"][scene.count[i]]
        cracks = f"{count} crack{'' if count == 'one' else 's'}"
        variant = int(scene.style[i, 23] * 2)
        if KINDS[scene.kind[i]] == "panel":
            state = "an intact" if scene.count[i] == 0 else "a cracked"
            text = (f"an inspection photo of {state} {texture} panel, {cracks}, {light}",
                    f"a grey photo of {state} panel with {texture} texture, {light}")[variant]  # fmt: skip
        elif KINDS[scene.kind[i]] == "skin":
            text = (f"a close photo of a {hue} lesion on {tone} skin, {size} lesion, {light}",
                    f"a photo of {tone} skin with a {size} {hue} lesion, {light}")[variant]  # fmt: skip
        else:
            what = {"intact": "an intact", "scratched": "a scratched", "spotted": "a spotted", "stained": "a stained"}
            noun = {"scratched": "scratch", "spotted": "spot"}.get(defect)
            plural = "" if count == "one" else "es" if noun == "scratch" else "s"
            number = f", {count} {noun}{plural}" if noun else ""
            text = (f"a photo of {what[defect]} {texture} {hue} surface{number}, {light}",
                    f"{what[defect]} {hue} surface, {texture}{number}, {light}")[variant]  # fmt: skip
        texts.append(text)
    return texts


def render(scene: Scene, resolution: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Draw the scenes.

    Returns:
        images float32 [n, 3, resolution, resolution] in [0, 1]; masks of the object or defect [n, 1, ...], 0 or 1.
    """
    scene = _each(scene, lambda field: field.to(device))
    generator = torch.Generator(device).manual_seed(scene.seed)
    n, style = len(scene.kind), scene.style
    axis = (torch.arange(resolution, device=device) + 0.5) / resolution * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    bend = 0.06 * _noise(2 * n, resolution, torch.full((2 * n,), 2.2, device=device), generator).view(n, 2, *x.shape)
    # warped copies of the coordinates give every edge drawn from them a natural unevenness
    wx, wy = x + bend[:, 0], y + bend[:, 1]
    fine = _noise(n, resolution, 0.6 + 1.2 * style[:, 0], generator)
    coarse = _noise(n, resolution, 1.5 + 1.0 * style[:, 1], generator)

    rough = torch.tensor([0.15, 0.5, 1.0], device=device)[scene.texture][:, None, None]
    image, mask = torch.empty(n, 3, *x.shape, device=device), torch.empty(n, *x.shape, device=device)
    for index, draw in enumerate((_panel, _skin, _surface)):
        rows = (scene.kind == index).nonzero()[:, 0]
        if len(rows):
            fields = (field[rows] for field in (wx, wy, coarse, fine, rough))
            image[rows], mask[rows] = draw(_each(scene, partial(torch.index_select, dim=0, index=rows)), x, y, *fields)
    is_panel = (scene.kind == 0)[:, None, None, None]

    # illumination: level, gradient and vignette; then the camera: blur and noise
    angle = 2 * math.pi * style[:, 2, None, None]
    slope = 1 + 0.25 * style[:, 3, None, None] * (x * angle.cos() + y * angle.sin())
    level = torch.tensor([0.62, 0.95, 1.25], device=device)[scene.light] * (0.92 + 0.16 * style[:, 4])
    image = image * (slope * level[:, None, None])[:, None]
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    blur = (style[:, 5, None, None, None] * 1.4 - 0.5).clamp(0, 1)
    image = image + blur * (blurred - image)
    grain = torch.randn(image.shape, generator=generator, device=device)
    grain = torch.where(is_panel, grain[:, :1], grain)
    image = image + 0.03 * style[:, 6, None, None, None] ** 2 * grain
    return image.clamp(0, 1), (mask > 0.5).float()[:, None]


def _each(scene: Scene, change: Callable[[Tensor], Tensor]) -> Scene:
    fields: dict[str, Any] = {name: change(value) for name, value in vars(scene).items() if isinstance(value, Tensor)}
    return replace(scene, **fields)


def _noise(n: int, resolution: int, falloff: Tensor, generator: torch.Generator) -> Tensor:
    """Random fields with amplitude spectrum f^-falloff, zero mean, unit variance [n, resolution, resolution]."""
    device = falloff.device
    white = torch.randn(n, resolution, resolution, generator=generator, device=device)
    fy = torch.fft.fftfreq(resolution, device=device)[:, None]
    fx = torch.fft.rfftfreq(resolution, device=device)
    frequency = (fx**2 + fy**2).sqrt().clamp(min=1 / resolution)
    field = torch.fft.irfft2(torch.fft.rfft2(white) * frequency ** -falloff[:, None, None], s=white.shape[1:])
    return (field - field.mean((1, 2), keepdim=True)) / field.std((1, 2), keepdim=True)


def _edge(distance: Tensor, softness: float = 0.02) -> Tensor:
    """1 where the signed distance is negative, 0 where positive, smooth in between."""
    return torch.sigmoid(-distance / softness)


def _segments(scene: Scene, wx: Tensor, wy: Tensor) -> Tensor:
    """Distance to the nearest of the first `count` line segments, in half sides [n, h, w]; far where there are none."""
    nearest = torch.full_like(wx, 9.0)
    for k in range(LINES - 1):
        ax, ay, bx, by = (scene.ends[:, k, i, j, None, None] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
        dx, dy = bx - ax, by - ay
        t = (((wx - ax) * dx + (wy - ay) * dy) / (dx**2 + dy**2 + 1e-6)).clamp(0, 1)
        distance = ((wx - ax - t * dx) ** 2 + (wy - ay - t * dy) ** 2).sqrt()
        nearest = torch.where((scene.count > k)[:, None, None], torch.minimum(nearest, distance), nearest)
    return nearest


def _panel(scene: Scene, x: Tensor, y: Tensor, wx: Tensor, wy: Tensor, coarse: Tensor, fine: Tensor, rough: Tensor):
    style = scene.style[:, :, None, None]
    plate = 0.55 + 0.12 * (style[:, 7] - 0.5)
    clouds = torch.where(style[:, 8] < 0.5, 0.1 * (coarse - 0.3).clamp(max=0), 0.07 * fine.clamp(max=0) * 1.5)
    body = plate + 0.9 * rough * clouds + 0.02 * rough * fine
    streaks = (fine.mean(1, keepdim=True) * 6).clamp(-2, 0) * 0.03 * (style[:, 22] < 0.3)
    body = body + streaks
    bars = torch.floor(2 + 3 * style[:, 9])
    phase = ((y + 1) / 2 * bars + style[:, 10] * 0.3 + 0.35) % 1
    line = _edge((phase - 0.5).abs() / bars * 2 - 0.012 - 0.014 * style[:, 11], 0.006)
    dashes = torch.where(style[:, 12] < 0.3, ((x * (4 + 5 * style[:, 13])) % 1 > 0.35).float(), torch.ones_like(x))
    body = body * (1 - (0.25 + 0.55 * style[:, 14]) * line * dashes)
    crack = _segments(scene, wx * 0.5 + x * 0.5, wy * 0.5 + y * 0.5)
    width = 0.006 + 0.016 * style[:, 15]
    crack_line = _edge(crack - width, 0.008)
    body = body * (1 - (0.25 + 0.5 * style[:, 16]) * crack_line)
    # a dead area: the part of the plate cut off by two cracks goes dark
    (ax, ay), (bx, by) = (scene.ends[:, 0, i].unbind(-1) for i in (0, 1))
    cut = (bx - ax)[:, None, None] * (wy - ay[:, None, None]) - (by - ay)[:, None, None] * (wx - ax[:, None, None])
    (cx, cy), (dx, dy) = (scene.ends[:, 1, i].unbind(-1) for i in (0, 1))
    cut2 = (dx - cx)[:, None, None] * (wy - cy[:, None, None]) - (dy - cy)[:, None, None] * (wx - cx[:, None, None])
    dead = _edge(-cut, 0.02) * _edge(-cut2, 0.02) * ((scene.count >= 2)[:, None, None] & (style[:, 17] < 0.4))
    body = body * (1 - (0.15 + 0.75 * style[:, 18]) * dead)
    frame = torch.maximum(x.abs(), y.abs()) - 0.97
    corner = (
        x.abs() + y.abs() - torch.where(style[:, 19] < 0.5, 1.7 + 0.15 * style[:, 20], torch.full_like(style[:, 19], 2.2))
    )
    body = body * (1 - 0.75 * _edge(-torch.maximum(frame, corner), 0.01))
    return body[:, None].expand(-1, 3, -1, -1), torch.maximum(crack_line, dead)


def _skin(scene: Scene, x: Tensor, y: Tensor, wx: Tensor, wy: Tensor, coarse: Tensor, fine: Tensor, rough: Tensor):
    style = scene.style[:, :, None, None]
    tone = SKIN_RGB.to(x.device)[scene.tone][..., None, None] * (0.94 + 0.12 * scene.style[:, 7:10, None, None])
    skin = (
        tone
        + (0.035 * rough * fine + 0.02 * coarse)[:, None] * torch.tensor([1.0, 1.1, 1.1], device=x.device)[:, None, None]
    )
    px, py = (0.4 * scene.place[:, 0, i, None, None] for i in (0, 1))
    angle, stretch = math.pi * style[:, 10], 0.65 + 0.35 * style[:, 11]
    u = (wx - px) * angle.cos() + (wy - py) * angle.sin()
    v = ((wy - py) * angle.cos() - (wx - px) * angle.sin()) / stretch
    radius = 2 * scene.radius[:, None, None] / stretch.sqrt()
    border = 0.015 + 0.10 * style[:, 12] ** 2
    distance = (u**2 + v**2).sqrt() - radius * (1 + 0.15 * style[:, 13] * coarse)
    inside = torch.sigmoid(-distance / border)
    colour = HUE_RGB.to(x.device)[scene.hue][..., None, None] * (0.55 + 0.5 * style[:, 14])[:, None]
    colour = colour * (1 + 0.25 * style[:, 15] * coarse + 0.2 * rough * fine)[:, None]
    image = skin + (inside * (0.6 + 0.4 * style[:, 16]))[:, None] * (colour - skin)
    hairs = _edge(_segments(scene, wx, wy) - 0.008, 0.006) * (style[:, 17] < 0.35)
    image = image * (1 - 0.6 * hairs)[:, None]
    vignette = _edge(1.0 + 0.3 * style[:, 18] - (x**2 + y**2).sqrt(), 0.03) * (style[:, 19] < 0.2)
    return image * (1 - vignette)[:, None], inside


def _surface(scene: Scene, x: Tensor, y: Tensor, wx: Tensor, wy: Tensor, coarse: Tensor, fine: Tensor, rough: Tensor):
    style = scene.style[:, :, None, None]
    base = HUE_RGB.to(wx.device)[scene.hue][..., None, None] * (0.8 + 0.5 * style[:, 7])[:, None]
    image = base * (1 + rough * (0.12 * fine + 0.12 * coarse))[:, None]
    scratch = _edge(_segments(scene, wx, wy) - 0.008 - 0.015 * style[:, 8], 0.008)
    spots = torch.full_like(wx, 9.0)
    for k in range(SPOTS):
        away = ((wx - scene.place[:, k, 0, None, None]) ** 2 + (wy - scene.place[:, k, 1, None, None]) ** 2).sqrt()
        spots = torch.where((scene.count > k)[:, None, None], torch.minimum(spots, away), spots)
    spot = _edge(spots - 0.7 * scene.radius[:, None, None], 0.02)
    stain = torch.sigmoid((coarse - 0.6) * 6)
    kind = scene.defect[:, None, None]
    mark = (kind == 1) * scratch + (kind == 2) * spot + (kind == 3) * stain
    shade = torch.where(style[:, 9] < 0.7, 0.25 + 0.4 * style[:, 10], 1.4 + 0.4 * style[:, 10])
    return image * (1 + mark * (shade - 1))[:, None], mark
