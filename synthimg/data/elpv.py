"""The ELPV solar cells: 2,624 electroluminescence photographs (300x300 grey) that come with a PyPI package.

The package states a defect probability per cell, the share of experts' votes. Only the two certain ends are named
classes here; the votes between become `uncertain`, which `dataset.classes` leaves out.

The table does not say which module a cell was cut from, but it lists the cells module by module: neighbours agree in
brightness (correlation of one cell with the next: 0.80 to 0.87) and in label. `blocks` takes modules from that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from ..errors import UserError

NAME = "pypi:elpv-dataset"
LICENCE = "CC BY-NC-SA 4.0"
SCOPE = ("research",)
LABELS = {0.0: "functional", 1.0: "defective"}
CELLS = 60
"""Most cells of one module: 2,624 cells come from 44 modules, which makes 60 each."""


def notice() -> str:
    """Licence notice and citation, to be shown before the images are used."""
    return (
        "ELPV solar cells, ZAE Bayern: CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/), "
        "not for commercial use; what is derived from them carries the same licence. Please cite:\n"
        "  Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence "
        "Imagery, EU PVSEC 2018, doi:10.4229/35thEUPVSEC20182018-5CV.3.15\n"
        "  Deitsch et al., Automatic classification of defective photovoltaic module cells in electroluminescence "
        "images, Solar Energy 185 (2019) 455-468, doi:10.1016/j.solener.2019.02.067\n"
        "  Deitsch et al., Segmentation of photovoltaic module cells in uncalibrated electroluminescence images, "
        "Machine Vision and Applications 32 (2021) 84, doi:10.1007/s00138-021-01191-9"
    )


def read() -> tuple[Path, pd.DataFrame]:
    """Folder of the images and a table of strings: file_name, label, probability, type (mono or poly), module.

    Raises:
        UserError: the package is not installed.
    """
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"dataset.path: {NAME} needs the package elpv-dataset: pip install 'synthimg[elpv]'")
    root = Path(spec.submodule_search_locations[0]) / "data"
    table = pd.read_csv(root / "labels.csv", sep=r"\s+", names=["file_name", "probability", "type"])
    table.insert(1, "label", [LABELS.get(value, "uncertain") for value in table["probability"]])
    table["module"] = [f"module-{number:02d}" for number in blocks(list(table["type"]))]
    return root, table.astype(str)


def blocks(kinds: Sequence[str]) -> list[int]:
    """The module of each cell, counted from 0: at most `CELLS` consecutive cells within a run of one kind.

    A block that is cut in the wrong place holds cells of two modules, so a split by block is nearly one by module. ELPV
    has 45 blocks; the paper names 44 modules.
    """
    found: list[int] = []
    number, start = -1, 0
    for row, kind in enumerate(kinds):
        if row == 0 or kind != kinds[row - 1] or row - start >= CELLS:
            number, start = number + 1, row
        found.append(number)
    return found
