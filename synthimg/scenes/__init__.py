"""Procedural, captioned scenes with exact attributes and masks: an unlimited source of images whose truth is known.

Three kinds under domain randomisation: `panel` (a framed plate with busbars, clouds, cracks, dead areas), `skin` (a
lesion on textured skin) and `surface` (a coloured texture, intact or with scratches, spots or a stain). Everything is
batched tensor code, on CPU or GPU.

    scene = scenes.sample(64, torch.Generator().manual_seed(0), ("skin",), tone="dark", size="large")
    images, masks = scenes.render(scene, 128)    # [64, 3, 128, 128] in [0, 1]; [64, 1, 128, 128], 0 or 1
    texts = scenes.captions(scene)               # 64 sentences
    factor, masks = scenes.defects(panels, 128)  # what a panel's or a surface's defects do to a photograph [n, 1, 128, 128]
    truth = scenes.attributes(scene)             # 64 dicts: {"kind": "skin", "tone": "dark", "size": "large", ...}
    before, after = scenes.pairs(64, torch.Generator(), "tone", "skin")   # the same scenes with another skin tone

`cell` draws defects for photographs of solar cells, one at a time and as they look there. No scene uses it.
"""

from .drawing import defects, pixels, quantised, render
from .editing import EDITS, pairs, state
from .language import attributes, captions
from .parameters import KINDS, NAMES, VALUES, Scene, sample

__all__ = [
    "EDITS",
    "KINDS",
    "NAMES",
    "VALUES",
    "Scene",
    "attributes",
    "captions",
    "defects",
    "pairs",
    "pixels",
    "quantised",
    "render",
    "sample",
    "state",
]
