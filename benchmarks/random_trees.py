"""A random data set with several faults at once, of which is known what every picture in it is: for fuzz_input.py.

python benchmarks/random_trees.py 1234 /tmp/tree     # the tree of a seed, and what is known of it
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import shutil
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

SUFFIXES = ("png", "jpg", "bmp", "tif", "webp", "gif", "tga", "jfif", "jp2", "PNG")
LEFTOVERS = (".DS_Store", "._1.png", "Thumbs.db", "desktop.ini", ".hidden.png", ".1.png.swp")
TOOLS = ("__MACOSX", ".ipynb_checkpoints", "@eaDir", ".git", "__pycache__", ".thumbnails", "lost+found", ".cache")
ODD = ("a b", "-rf", "x\ny", "é", "e\u0301", 'quo"te', "com,ma", "🦠", "a\\b", "end ", "#1", "%41", "{label}", "n" * 200,
       "t\tb", "\x1b[31m", "CON", "a;b", "x.tar", "'", "\u2028", "\u200b")  # fmt: skip
CLASSES = ("rare", "common", "série", "se\u0301rie", "ra re", "7", "None", "true", "a.b", "Rare", "NA", "x'y", "🦠")
NOTES = ("", "left\u2028right\u0085below", "one, two", 'a "word"', "two\nlines", "007", "\t", "None")


@cache
def picture(number: int, suffix: str) -> bytes:
    """A small picture that resembles no other."""
    kind = {"jpg": "JPEG", "jfif": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix.lower(), suffix.upper())
    values = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).resize((40, 36), Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


@dataclass
class Tree:
    """A data set and what is known of it."""

    place: Path
    draw: random.Random
    labels: dict[str, str] = field(default_factory=dict)
    """Real path of each picture that has to be a record, and its label."""
    dataset: dict[str, Any] = field(default_factory=dict)
    """Keys of the configuration's section."""
    faults: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    """Pictures that a table lists without a label."""
    refused: bool = False
    """Whether it has to be refused."""
    followed: int = 0
    """Links to folders that are followed."""
    far: int = 0
    """Files in folders to which these lead."""
    made: int = 0

    @property
    def root(self) -> Path:
        return self.place / "d"

    @property
    def inside(self) -> list[str]:
        """The pictures that lie below the root."""
        return [path for path in self.labels if path.startswith(f"{self.root}/")]

    @property
    def folders(self) -> list[Path]:
        """Folders of the classes, and those below them that count."""
        return sorted({Path(path).parent for path in self.inside})

    def any_folder(self) -> Path:
        return self.draw.choice(self.folders)

    def label(self, folder: Path) -> str:
        return folder.relative_to(self.root).parts[0]

    def add(self, folder: Path, stem: str | None = None, label: str | None = None) -> Path:
        """A new picture; one without a label is no record."""
        self.made += 1
        suffix = self.draw.choice(SUFFIXES)
        file = folder / f"{stem or self.made}.{suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(self.made, suffix))
        if label is not None:
            self.labels[os.path.realpath(file)] = label
        return file


# --- faults of folders; each leaves the labels right


def leftover(tree: Tree) -> None:
    (tree.any_folder() / tree.draw.choice(LEFTOVERS)).write_bytes(picture(0, "png"))


def tool_folder(tree: Tree) -> None:
    place = tree.draw.choice([tree.root, tree.any_folder()]) / tree.draw.choice(TOOLS)
    tree.add(place)
    tree.add(place / "deep" / ".deeper")


def nested(tree: Tree) -> None:
    folder = tree.any_folder()
    tree.add(folder / f"sub{tree.made}" / "deep", label=tree.label(folder))


def link(tree: Tree) -> None:
    """A link that adds nothing: back, to another class, to itself, nowhere, or to a picture that is there."""
    targets = [tree.root, tree.root.parent, Path("/"), Path("."), Path("nowhere"), Path("l0"), tree.any_folder(),
               tree.draw.choice(tree.inside), Path("/dev/null")]  # fmt: skip
    tree.made += 1
    (tree.any_folder() / f"l{tree.made}{tree.draw.choice(['', '.png'])}").symlink_to(tree.draw.choice(targets))


def link_out(tree: Tree) -> None:
    """A folder elsewhere, to which two links of one class lead, and a picture elsewhere."""
    folder, tree.made = tree.any_folder(), tree.made + 1
    far = tree.place / f"far{tree.made}"
    tree.add(far, label=tree.label(folder))
    tree.add(far / "deep", label=tree.label(folder))
    for name in ("a", "b"):
        (folder / f"{name}{far.name}").symlink_to(far)
    tree.followed, tree.far = tree.followed + 1, tree.far + 2
    (folder / f"{far.name}.png").symlink_to(tree.add(tree.place / "single", label=tree.label(folder)))


def foreign(tree: Tree) -> None:
    tree.made += 1
    suffix = tree.draw.choice([".txt", ".json", ".xml", ".dcm", ".heic", ".pdf", "", ".md", ".eps"])
    (tree.any_folder() / f"f{tree.made}{suffix}").write_bytes(
        tree.draw.choice([b"", b"BM text", b"{}", tree.draw.randbytes(50)])
    )


def disguised(tree: Tree) -> None:
    file = tree.add(tree.any_folder())
    file.rename(file.with_suffix(tree.draw.choice(["", ".txt", ".png~", ".113"])))


def broken(tree: Tree) -> None:
    file = tree.add(tree.any_folder())
    data = file.read_bytes()
    file.write_bytes(tree.draw.choice([b"", b"no picture", data[:20], b"\0" * 30, b"GIF89a", b"II*\0"]))


def fifo(tree: Tree) -> None:
    tree.made += 1
    os.mkfifo(tree.any_folder() / f"{tree.made}.png")


def odd_name(tree: Tree) -> None:
    folder = tree.any_folder()
    tree.add(folder / tree.draw.choice([".", tree.draw.choice(ODD)]), tree.draw.choice(ODD), tree.label(folder))


def name_of_bytes(tree: Tree) -> None:
    folder = tree.any_folder() / tree.draw.choice([".", os.fsdecode(b"s\xe9rie")])
    tree.add(folder, os.fsdecode(b"caf\xe9%d" % tree.made))


def lone(tree: Tree) -> None:
    tree.add(tree.root)


def aside(tree: Tree) -> None:
    tree.add(tree.root / tree.draw.choice(["_old", "_masks"]) / "sub")


def results(tree: Tree) -> None:
    tree.add(tree.root / "outputs" / "run" / "images")
    (tree.root / "outputs" / ".store").mkdir(exist_ok=True)


def twin(tree: Tree) -> None:
    source = Path(tree.draw.choice(tree.inside))
    tree.made += 1
    copy = source.with_name(f"twin{tree.made}{source.suffix}")
    shutil.copy(source, copy)
    tree.labels[os.path.realpath(copy)] = tree.labels[str(source)]


def draw_mask(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), ((9, 17), (9, 21)))).save(file)


def masks(tree: Tree) -> None:
    """Masks of a few images in a folder of their own."""
    if "mask" in tree.dataset:
        return
    tree.dataset["mask"] = "_masks/{stem}.png"
    for path in tree.draw.sample(tree.inside, 5):
        mask = tree.root / "_masks" / Path(os.path.splitext(os.path.relpath(path, tree.root))[0] + ".png")
        draw_mask(mask)


def beside(tree: Tree) -> None:
    """Masks that lie beside their images, under the same name."""
    if "mask" in tree.dataset:
        return
    tree.dataset["mask"] = "{stem}-mask.gif"
    for path in tree.draw.sample([path for path in tree.inside if not path.lower().endswith(".gif")], 5):
        draw_mask(Path(os.path.splitext(path)[0] + "-mask.gif"))


def empty_class(tree: Tree) -> None:
    (tree.root / "nothing").mkdir()
    tree.refused = True


FOLDERS = (leftover, tool_folder, nested, link, link, link_out, foreign, disguised, broken, fifo, odd_name, odd_name,
           odd_name, name_of_bytes, lone, aside, results, twin, masks, beside)  # fmt: skip


# --- tables


def respelled(tree: Tree, path: str) -> str:
    """The path as another program may write it, unless it then means another file, or has blanks and backslashes itself."""
    if "\\" in path or any(part != part.strip() for part in path.split("/")):
        return path
    other = "/".join(part + tree.draw.choice(["", " "]) for part in path.split("/"))
    forms = [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
    return tree.draw.choice([f"./{path}", path.replace("/", "//"), str(tree.root / path), f"x/../{path}", other,
                             path.replace("/", "\\"), *forms])  # fmt: skip


def list_in_table(tree: Tree) -> None:
    """A table of the pictures, in a folder or alone; some rows name no file, or no label."""
    inside = tree.inside
    tree.labels = {path: tree.labels[path] for path in inside}
    column = tree.draw.choice(["file_name", "path", "image.path"])
    if column == "image.path":
        tree.dataset["image"] = "{image.path}"
    tree.dataset.pop("mask", None)
    rows = []
    for path in inside:
        name, label = os.path.relpath(path, tree.root), tree.labels[path]
        spelled = respelled(tree, name) if tree.draw.random() < 0.15 else name
        rows.append({column: spelled, "label": tree.draw.choice([label, label, f" {label} "]),
                     "note": tree.draw.choice(NOTES), "age": tree.draw.choice(["", "7", "08"])})  # fmt: skip
    if tree.draw.random() < 0.3:
        rows.append({column: "absent.png", "label": tree.labels[inside[0]], "note": "", "age": ""})
    if tree.draw.random() < 0.3:
        rows[0]["label"] = " "
        del tree.labels[inside[0]]
        tree.unlabelled.append(inside[0])
    tree.draw.shuffle(rows)
    ending = tree.draw.choice(["csv", "tsv", "jsonl", "parquet"])
    alone = tree.draw.random() < 0.3
    file = tree.root / (f"t.{ending}" if alone else f"metadata.{ending}")
    if ending == "tsv" and not alone:
        tree.dataset["table"] = file.name
    if alone:
        tree.dataset["path"] = str(file)
    write_table(tree, file, rows)


def write_table(tree: Tree, file: Path, rows: list[dict[str, str]]) -> None:
    """The rows in the file's format; one in six tables has a fault for which it has to be refused."""
    fault = tree.draw.random() < 1 / 6
    tree.refused |= fault
    if fault:
        tree.faults.append("table that has to be refused")
    if file.suffix == ".parquet":
        frame = pd.DataFrame(rows)
        frame["gap"] = [1, *[None] * (len(frame) - 1)]
        frame = pd.concat([frame, frame[:1]]) if fault else frame
        (frame.set_index("label") if tree.draw.random() < 0.3 else frame).to_parquet(file)
        return
    if file.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=tree.draw.random() < 0.5) for row in rows]
        if fault:
            lines[3] = tree.draw.choice(["{", "[1]", lines[2], '{"label": ["a"]}', lines[3][:-1] + ', "age": "1"}'])
        file.write_bytes(("\n".join(lines) + "\n").encode())
        return
    out = io.StringIO(newline="")
    writer = csv.writer(
        out, delimiter="\t" if file.suffix == ".tsv" else ",", lineterminator=tree.draw.choice(["\n", "\r\n"])
    )
    writer.writerow(rows[0])
    broken_row = tree.draw.randrange(len(rows)) if fault else -1
    for number, row in enumerate(rows):
        cells = list(row.values())
        writer.writerow({0: cells[:-1], 1: [*cells, "more"]}[number % 2] if number == broken_row else cells)
    file.write_bytes(out.getvalue().encode(tree.draw.choice(["utf-8", "utf-8-sig", "utf-16"])))


def grow(place: Path, seed: int) -> Tree:
    """A data set of two or three classes with up to six faults."""
    draw = random.Random(seed)
    tree = Tree(Path(os.path.realpath(place)), draw)
    names = {unicodedata.normalize("NFC", name): name for name in draw.sample(CLASSES, 3)}
    names = dict(list(names.items())[: draw.choice([2, 2, 3])])
    for name in names.values():
        for _ in range(12):
            tree.add(tree.root / name, label=name)
    tree.dataset = {"path": str(tree.root), "rare_class": next(iter(names))}
    for fault in draw.sample(FOLDERS, draw.randrange(7)):
        fault(tree)
        tree.faults.append(fault.__name__)
    if draw.random() < 0.5:
        list_in_table(tree)
        tree.faults.append(f"table {tree.dataset.get('table', '')}")
    elif draw.random() < 0.05:
        empty_class(tree)
        tree.faults.append("empty_class")
    return tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int)
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    tree = grow(options.folder, options.seed)
    known = {"dataset": tree.dataset, "faults": tree.faults, "refused": tree.refused, "labels": tree.labels}
    print(json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
