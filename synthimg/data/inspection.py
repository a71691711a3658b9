"""What is to be said of pictures and masks that are read, by the facts that `opening` found."""

from __future__ import annotations

import pandas as pd

from .suspicions import Severity, Suspicion

TINY = 4
"""A picture is tiny if the side that is enlarged to the resolution is shorter than the resolution by this factor."""
LONG = 8
"""Longer side over shorter side of a picture of which a square shows a strip, or a blur."""

REMARKS = {
    "several frames": "{count} files have several frames or pages, of which the first is read, such as {path}",
    "no orientation": "the EXIF orientation of {count} pictures is broken and was not applied, such as {path}",
    "no metadata": "{count} pictures have huge or broken metadata, which were left out, such as {path}",
    "no profile": "{count} pictures have a colour profile that is broken or not theirs and was not applied, such as {path}",
}


def suspect_pictures(frame: pd.DataFrame, resolution: int) -> list[Suspicion]:
    """What pictures have about them: frames, metadata and profiles that are not used, sizes that suit no square.

    Args:
        frame: columns `path`, `remarks`, `width`, `height` of the readable pictures.
    """
    remarks = frame["remarks"].str.split(",")
    found = []
    for kind, text in REMARKS.items():
        paths = frame["path"][[kind in own for own in remarks]]
        if len(paths):
            found.append(Suspicion("note", kind, text.format(count=len(paths), path=paths.iloc[0])))
    shorter, longer = frame[["width", "height"]].min(axis=1), frame[["width", "height"]].max(axis=1)
    tiny = frame[shorter * TINY < resolution]
    if len(tiny):
        one = tiny.iloc[0]
        found.append(Suspicion("warning", "tiny originals",
            f"{len(tiny)} of {len(frame)} pictures are far smaller than the resolution of {resolution} pixels, such as "
            f"{one['path']} with {one['width']} x {one['height']}: what is enlarged so much is a blur"))  # fmt: skip
    thin = frame[longer > LONG * shorter]
    if len(thin):
        one = thin.iloc[0]
        found.append(Suspicion("warning", "extreme proportions",
            f"{len(thin)} of {len(frame)} pictures are more than {LONG} times as long as wide, such as {one['path']} with "
            f"{one['width']} x {one['height']}: no square shows them well; cut them into tiles"))  # fmt: skip
    return found


def suspect_masks(frame: pd.DataFrame, rare: str) -> list[Suspicion]:
    """Masks that cannot be used, show nothing or everything, or look inverted.

    Args:
        frame: columns `path`, `label`, `mask_fault`, `shows`, `mask_resized`, `remarks` of the readable pictures.
        rare: the rare class, all of whose images should show an object.
    """
    found = []
    for label, own in frame.groupby("label"):
        severe: Severity = "warning" if label == rare else "note"
        missing = own["mask_fault"] == "no such file"
        empty, full = own["shows"] == "nothing", own["shows"] == "everything"
        kinds: list[tuple[Severity, str, pd.Series, str]] = [
            ("warning", "unusable masks", (own["mask_fault"] != "") & ~missing, "have a mask that cannot be used"),
            (severe, "missing masks", missing, "have no mask"),
            (severe, "empty masks", empty, "have a mask without an object"),
            ("warning", "full masks", full, "have a mask that is object all over"),
        ]
        for severity, kind, rows, what in kinds:
            if rows.any():
                one = own[rows].iloc[0]
                reason = f" ({one['mask_fault']})" if kind == "unusable masks" else ""
                found.append(Suspicion(severity, kind,
                    f"{rows.sum()} of {len(own)} images of '{label}' {what}, such as {one['path']}{reason}"))  # fmt: skip
    return [*found, *_inverted(frame), *_unlike_their_image(frame)]


def masks_left_out(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Path and reason of each mask file that is there and cannot be used.

    Args:
        frame: columns `path`, `mask`, `mask_fault`.
    """
    rows = frame[~frame["mask_fault"].isin(["", "no such file", "names the image itself"])]
    return [(mask, f"unusable mask ({fault})") for mask, fault in zip(rows["mask"], rows["mask_fault"], strict=True)]


def _inverted(frame: pd.DataFrame) -> list[Suspicion]:
    rows, drawn = frame["shows"] == "inverted", frame["shows"].isin(["inverted", "an object"])
    if 2 * rows.sum() <= drawn.sum():  # single objects may well reach all around
        return []
    return [Suspicion("warning", "inverted masks",
        f"{rows.sum()} of {drawn.sum()} masks are bright all around and dark inside, such as that of "
        f"{frame['path'][rows].iloc[0]}: what is bright counts as object; invert them if it is not")]  # fmt: skip


def _unlike_their_image(frame: pd.DataFrame) -> list[Suspicion]:
    found = []
    turned = frame["path"][frame["remarks"].str.contains("turned") & (frame["shows"] != "")]
    resized = frame["path"][frame["mask_resized"]]
    if len(turned):
        found.append(Suspicion("note", "turned images with masks",
            f"{len(turned)} images with masks were turned by their EXIF orientation, such as {turned.iloc[0]}: "
            "the masks are taken as drawn on the upright image"))  # fmt: skip
    if len(resized):
        found.append(Suspicion("note", "resized masks",
            f"{len(resized)} masks have another size than their image, such as that of {resized.iloc[0]}"))  # fmt: skip
    return found
