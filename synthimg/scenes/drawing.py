"""Scenes as pixels: every kind drawn by a few smooth functions of warped coordinates, then lit and photographed."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .parameters import KINDS, LAST, SCRATCHED, SPOTTED, STAINED, Scene, each

COLOUR = torch.tensor(
    [[0.58, 0.58, 0.58], [0.50, 0.32, 0.18], [0.72, 0.16, 0.16], [0.22, 0.34, 0.72], [0.24, 0.56, 0.26], [0.48, 0.22, 0.60],
     [0.90, 0.55, 0.64], [0.82, 0.72, 0.22]]
)  # fmt: skip
SKIN = torch.tensor([[0.90, 0.78, 0.73], [0.84, 0.63, 0.50], [0.68, 0.45, 0.30], [0.42, 0.25, 0.15]])
LIGHT = torch.tensor([0.55, 0.83, 1.11])
TEXTURE = torch.tensor([[0.15, 0.10], [1.6, 0.25], [0.25, 1.5]])
"""Strength of coarse clouds and of fine grain by texture."""
BORDER = torch.tensor([0.015, 0.10])
SHADES = torch.tensor([1.0, 0.7, 0.5])
APART = 0.3
"""A lesion takes the first shade of its colour that lies this far (RGB distance) from the skin, else the farthest."""


class Canvas(NamedTuple):
    """What the kinds draw on, one row per scene; [n, r, r] each but for x and y.

    Attributes:
        x, y: coordinates in [-1, 1], [r, r].
        wx, wy: the same, warped, so that edges drawn from them are naturally uneven.
        clouds, grain: noise of coarse and fine structure, already as strong as the texture says.
    """

    x: Tensor
    y: Tensor
    wx: Tensor
    wy: Tensor
    clouds: Tensor
    grain: Tensor


def render(scene: Scene, resolution: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Draw the scenes.

    Returns:
        images float32 [n, 3, resolution, resolution] in [0, 1]; masks of the lesion, cracks or marks [n, 1, ...], 0 or 1.
    """
    scene = each(scene, lambda field: field.to(device))
    generator = torch.Generator(device).manual_seed(scene.seed)
    canvas = _canvas(scene, resolution, generator)
    image = torch.empty(len(scene.kind), 3, resolution, resolution, device=device)
    mask = torch.empty(len(scene.kind), resolution, resolution, device=device)
    for index, draw in enumerate((_panel, _skin, _surface)):
        here = (scene.kind == index).nonzero()[:, 0]
        if len(here):
            image[here], mask[here] = draw(*_part(scene, canvas, here))
    return _photograph(scene, image, canvas, generator).clamp(0, 1), (mask > 0.5).float()[:, None]


def defects(scene: Scene, resolution: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """What the defects of panels and surfaces do to the light that a real object sends: multiply its photograph by it.

    Returns:
        factors float32 [n, 1, resolution, resolution], 1 where there is no defect; masks as of `render`.

    Raises:
        ValueError: some scene is of another kind.
    """
    scene = each(scene, lambda field: field.to(device))
    canvas = _canvas(scene, resolution, torch.Generator(device).manual_seed(scene.seed))
    factor, mask = torch.empty_like(canvas.wx), torch.empty_like(canvas.wx)
    for index, kind in enumerate(KINDS):
        here = (scene.kind == index).nonzero()[:, 0]
        if len(here) and kind not in DEFECTS:
            raise ValueError(f"a {kind} has no defects")
        if len(here):
            factor[here], mask[here] = DEFECTS[kind](*_part(scene, canvas, here))
    return factor[:, None], (mask > 0.5).float()[:, None]


def pixels(scene: Scene, resolution: int) -> np.ndarray:
    """The images of `render` on the CPU, as photographs come: uint8 [n, resolution, resolution, 3]."""
    return quantised(render(scene, resolution)[0])


def quantised(images: Tensor) -> np.ndarray:
    """Images on the CPU, float [n, 3, r, r] in [0, 1], as grey levels uint8 [n, r, r, 3]."""
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


def _part(scene: Scene, canvas: Canvas, rows: Tensor) -> tuple[Scene, Canvas]:
    """Some rows of both."""
    chosen = partial(torch.index_select, dim=0, index=rows)
    return each(scene, chosen), Canvas(canvas.x, canvas.y, *(chosen(field) for field in canvas[2:]))


def _canvas(scene: Scene, resolution: int, generator: torch.Generator) -> Canvas:
    device, n = scene.style.device, len(scene.kind)
    axis = (torch.arange(resolution, device=device) + 0.5) / resolution * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    bend = 0.05 * _noise(torch.full((2 * n,), 2.2, device=device), resolution, generator).view(n, 2, *x.shape)
    strength = TEXTURE.to(device)[scene.texture][..., None, None]
    clouds = _noise(1.6 + 0.8 * scene.style[:, 0], resolution, generator)
    grain = _noise(0.7 + 0.5 * scene.style[:, 1], resolution, generator)
    return Canvas(x, y, x + bend[:, 0], y + bend[:, 1], strength[:, 0] * clouds, strength[:, 1] * grain)


def _photograph(scene: Scene, image: Tensor, canvas: Canvas, generator: torch.Generator) -> Tensor:
    """Illumination of the stated level with a slope across the image, then the camera's blur and noise."""
    style = scene.style[:, :, None, None]
    angle = 2 * math.pi * style[:, 2]
    slope = 1 + 0.18 * style[:, 3] * (canvas.x * angle.cos() + canvas.y * angle.sin())
    level = LIGHT.to(image.device)[scene.light] * (0.94 + 0.12 * scene.style[:, 4])
    image = image * (slope * level[:, None, None])[:, None]
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    image = torch.lerp(image, blurred, (style[:, 5:6] * 1.2 - 0.5).clamp(0, 1))
    noise = torch.randn(image.shape, generator=generator, device=image.device)
    noise = torch.where((scene.kind == 0)[:, None, None, None], noise[:, :1], noise)  # panels are grey
    return image + (0.02 * style[:, 6] ** 2 * level[:, None, None])[:, None] * noise


def _noise(falloff: Tensor, resolution: int, generator: torch.Generator) -> Tensor:
    """Random fields with amplitude spectrum f^-falloff, zero mean and unit variance: [n, resolution, resolution]."""
    device = falloff.device
    white = torch.randn(len(falloff), resolution, resolution, generator=generator, device=device)
    fy, fx = torch.fft.fftfreq(resolution, device=device)[:, None], torch.fft.rfftfreq(resolution, device=device)
    frequency = (fx**2 + fy**2).sqrt().clamp(min=1 / resolution)
    field = torch.fft.irfft2(torch.fft.rfft2(white) * frequency ** -falloff[:, None, None], s=white.shape[1:])
    return (field - field.mean((1, 2), keepdim=True)) / field.std((1, 2), keepdim=True)


def _inside(distance: Tensor, softness: Tensor | float = 0.02) -> Tensor:
    """1 where the signed distance is negative, 0 where positive, smooth in between."""
    return torch.sigmoid(-distance / softness)


def _to_lines(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Distance to the nearest of the first `count` lines [n, r, r]; far where there are none."""
    nearest = torch.full_like(x, 9.0)
    for k in range(LAST):
        ax, ay, bx, by = (scene.lines[:, k, i, j, None, None] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
        dx, dy = bx - ax, by - ay
        t = (((x - ax) * dx + (y - ay) * dy) / (dx**2 + dy**2)).clamp(0, 1)
        distance = ((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2).sqrt()
        nearest = torch.where((scene.count > k)[:, None, None], torch.minimum(nearest, distance), nearest)
    return nearest


def _blob(scene: Scene, canvas: Canvas) -> Tensor:
    """Signed distance to the edge of the lesion or stain, an uneven ellipse [n, r, r]."""
    style = scene.style[:, :, None, None]
    px, py = (scene.centre[:, i, None, None] for i in (0, 1))
    angle, stretch = math.pi * style[:, 7], 0.7 + 0.3 * style[:, 8]
    u = (canvas.wx - px) * angle.cos() + (canvas.wy - py) * angle.sin()
    v = ((canvas.wy - py) * angle.cos() - (canvas.wx - px) * angle.sin()) / stretch
    return (u**2 + v**2).sqrt() - 2 * scene.radius[:, None, None] / stretch.sqrt()


def _panel(scene: Scene, canvas: Canvas) -> tuple[Tensor, Tensor]:
    style, (x, y, _, _, clouds, grain) = scene.style[:, :, None, None], canvas
    body = 0.56 + 0.05 * (style[:, 9] - 0.5) + 0.075 * clouds.clamp(max=0.3) + 0.045 * grain.clamp(max=0.5)
    streaks = (grain.mean(1, keepdim=True) * 6).clamp(-2, 0) * 0.03 * (style[:, 10] < 0.3)
    bars = torch.floor(2 + 3 * style[:, 11])
    phase = ((y + 1) / 2 * bars + style[:, 12] * 0.3 + 0.35) % 1
    bar = _inside((phase - 0.5).abs() / bars * 2 - 0.012 - 0.014 * style[:, 13], 0.006)
    dashes = torch.where(style[:, 14] < 0.3, ((x * (4 + 5 * style[:, 15])) % 1 > 0.35).float(), torch.ones_like(x))
    body = (body + streaks) * (1 - (0.25 + 0.55 * style[:, 16]) * bar * dashes)
    factor, mask = _panel_defects(scene, canvas)
    body = body * factor
    round_corner = torch.where(style[:, 21] < 0.5, 1.7 + 0.15 * style[:, 22], torch.full_like(style[:, 22], 2.2))
    beyond = torch.maximum(torch.maximum(x.abs(), y.abs()) - 0.97, x.abs() + y.abs() - round_corner)
    body = body * (1 - 0.75 * _inside(-beyond, 0.01))
    return body[:, None].expand(-1, 3, -1, -1), mask


def _panel_defects(scene: Scene, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Cracks, and a dead area cut off from one side; never so dark that it would hide a crack."""
    style, (x, y, wx, wy, _, _) = scene.style[:, :, None, None], canvas
    distance = _to_lines(scene, (wx + x) / 2, (wy + y) / 2)
    crack = _inside(distance - 0.010 - 0.014 * style[:, 17], 0.008)
    angle = 2 * math.pi * style[:, 19]
    dead = _inside(0.25 + 0.4 * style[:, 20] - wx * angle.cos() - wy * angle.sin()) * scene.area[:, None, None]
    factor = (1 - (0.4 + 0.4 * style[:, 18]) * crack) * (1 - (0.35 + 0.35 * style[:, 23]) * dead)
    return factor, torch.maximum(crack, dead)


def _skin(scene: Scene, canvas: Canvas) -> tuple[Tensor, Tensor]:
    style, device = scene.style[:, :, None, None], scene.style.device
    tone = SKIN.to(device)[scene.tone] * (0.97 + 0.06 * scene.style[:, 9:12])
    skin = tone[..., None, None] * (1 + 0.06 * canvas.clouds + 0.08 * canvas.grain)[:, None]
    colour = COLOUR.to(device)[scene.colour] * (0.96 + 0.08 * scene.style[:, 12:15])
    shades = colour[:, None] * SHADES.to(device)[:, None]
    far = (shades - tone[:, None]).norm(dim=-1).clamp(max=APART) - 1e-3 * torch.arange(len(SHADES), device=device)
    colour = shades[torch.arange(len(colour), device=device), far.argmax(1)][..., None, None]
    colour = colour * (1 + 0.10 * style[:, 16] * canvas.clouds + 0.10 * canvas.grain)[:, None]
    inside = _inside(_blob(scene, canvas), BORDER.to(device)[scene.border][:, None, None])
    image = skin + (inside * (0.85 + 0.15 * style[:, 17]))[:, None] * (colour - skin)
    hair = _to_lines(scene, canvas.wx, canvas.wy)  # skin counts nothing: the lines are free
    image = image * (1 - 0.5 * (_inside(hair - 0.008, 0.006) * (style[:, 18] < 0.3)))[:, None]
    vignette = _inside(1.05 + 0.3 * style[:, 19] - (canvas.x**2 + canvas.y**2).sqrt(), 0.03) * (style[:, 20] < 0.2)
    return image * (1 - vignette)[:, None], inside


def _surface(scene: Scene, canvas: Canvas) -> tuple[Tensor, Tensor]:
    device = scene.style.device
    base = COLOUR.to(device)[scene.colour] * (0.95 + 0.10 * scene.style[:, 9:12])
    image = base[..., None, None] * (1 + 0.09 * canvas.clouds + 0.09 * canvas.grain)[:, None]
    factor, mark = _surface_defects(scene, canvas)
    return image * factor[:, None], mark


def _surface_defects(scene: Scene, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Scratches, spots or a stain, darker than the surface or lighter."""
    style, device = scene.style[:, :, None, None], scene.style.device
    scratch = _inside(_to_lines(scene, canvas.wx, canvas.wy) - 0.012 - 0.014 * style[:, 12], 0.008)
    nearest = torch.full_like(canvas.wx, 9.0)
    for k in range(LAST):
        px, py = (scene.spots[:, k, i, None, None] for i in (0, 1))
        away = ((canvas.wx - px) ** 2 + (canvas.wy - py) ** 2).sqrt()
        nearest = torch.where((scene.count > k)[:, None, None], torch.minimum(nearest, away), nearest)
    spot = _inside(nearest - 0.11 - 0.04 * style[:, 13])
    stain = _inside(_blob(scene, canvas), BORDER.to(device)[scene.border][:, None, None])
    kind = scene.mark[:, None, None]
    mark = (kind == SCRATCHED) * scratch + (kind == SPOTTED) * spot + (kind == STAINED) * stain
    shade = torch.where(style[:, 14] < 0.7, 0.25 + 0.3 * style[:, 15], 1.5 + 0.4 * style[:, 15])
    return 1 + mark * (shade - 1), mark


DEFECTS = {"panel": _panel_defects, "surface": _surface_defects}
