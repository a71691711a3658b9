"""Scenes in words: their true attributes, and captions that name most of them."""

from __future__ import annotations

from .parameters import INTACT, KINDS, NAMES, OF_STAIN, STAINED, VALUES, Scene

LIGHT = ("dimly lit", "evenly lit", "brightly lit")
PLACE = ("in the centre", "on the left", "on the right", "at the top", "at the bottom")
OMITTED = 0.2
"""How often a caption leaves out an attribute that it may leave out."""


def attributes(scene: Scene) -> list[dict[str, str]]:
    """The kind and every attribute each scene has, by name, in words."""
    return [_truth(scene, i) for i in range(len(scene.kind))]


def captions(scene: Scene, omitted: float = OMITTED) -> list[str]:
    """One English sentence per scene.

    Args:
        omitted: share of attributes left unsaid, so that a model learns to do without; 0 names them all.
    """
    return [_caption(truth, scene.style[i, -8:].tolist(), omitted) for i, truth in enumerate(attributes(scene))]


def _truth(scene: Scene, i: int) -> dict[str, str]:
    kind = KINDS[int(scene.kind[i])]
    names = [name for name in NAMES[kind] if kind != "surface" or name not in OF_STAIN or scene.mark[i] == STAINED]
    return {"kind": kind, **{name: VALUES[name][int(getattr(scene, name)[i])] for name in names}}


def _caption(truth: dict[str, str], draw: list[float], omitted: float) -> str:
    said = dict.fromkeys(VALUES, "")
    chances = dict(zip(("light", "texture", "tone", "colour", "size", "border", "place"), draw, strict=False))
    said |= {name: value for name, value in truth.items() if chances.get(name, 1) >= omitted}
    light = LIGHT[VALUES["light"].index(said["light"])] if said["light"] else ""
    place = PLACE[VALUES["place"].index(said["place"])] if said["place"] else ""
    border = f"{said['border']} border" if said["border"] else ""
    variant = draw[-1] < 0.5
    if truth["kind"] == "panel":
        dead = truth["area"] == "dead"
        state = "a cracked" if truth["count"] != "no" else "a damaged" if dead else "an intact"
        opening = "an inspection photo" if variant else "a grey photo"
        panel = _words(opening, "of", state, said["texture"], "panel")
        parts = [panel, _number(truth["count"], "crack"), "a dead area" if dead else "", light]
    elif truth["kind"] == "skin":
        lesion = _words("a", said["size"], said["colour"], "lesion")
        skin = _words(said["texture"], said["tone"], "skin")
        opening = f"a close photo of {lesion} on {skin}" if variant else f"a photo of {skin} with {lesion}"
        parts = [opening, border, place, light]
    else:
        state = "an intact" if truth["mark"] == VALUES["mark"][INTACT] else f"a {truth['mark']}"
        opening = _words("a photo of" if variant else "", state, said["texture"], said["colour"], "surface")
        noun = {"scratched": "scratch", "spotted": "spot", "stained": f"{said['size']} stain".strip()}.get(truth["mark"])
        parts = [opening, _number(truth["count"], noun) if noun else "", border, place, light]
    return ", ".join(part for part in parts if part)


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _number(count: str, noun: str) -> str:
    return f"{count} {noun}{'' if count == 'one' else 'es' if noun.endswith('ch') else 's'}"
