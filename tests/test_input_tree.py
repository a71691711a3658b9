"""Every file of a data set is met once, and what became of it is told."""

import os
import shutil
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthimg.config import Dataset
from synthimg.data import account, locate, records, spelling, walk
from synthimg.errors import UserError


def dataset(path, **keys):
    return Dataset.model_validate({"path": str(path), "rare_class": "rare", "prompts": "generic"} | keys)


def read(path, **keys):
    made = dataset(path, **keys)
    source = records.open_source(made.path, made.table)
    return source, records.make_records(source, made)


def accounted(path, **keys):
    source, frame = read(path, **keys)
    found, _ = locate.respell(frame, source)
    left_out = source.tree.left_out if source.tree else {}
    return account.take(source, found, found["path"], left_out, bool(keys.get("classes")))


@pytest.fixture
def root(tmp_path):
    """Two classes with two pictures each."""
    tiny.touch(tmp_path / "d", "rare/1.png", "rare/sub/2.png", "common/3.png", "common/4.png")
    return tmp_path / "d"


PICTURES = ["common/3.png", "common/4.png", "rare/1.png", "rare/sub/2.png"]


# --- links


@pytest.mark.parametrize(("place", "target"), [
    ("rare/all", ".."), ("rare/me", "."), ("rare/sub/up", ".."), ("rare/sub/deep/top", "../../.."), ("rare/out", "../.."),
    ("all", "."),
    ("up", ".."), ("zzz", "rare"), ("aaa", "rare"), ("common/other", "../rare"), ("common/part", "../rare/sub"),
    ("rare/a", "b"), ("rare/x", "x"), ("rare/gone", "nowhere"), ("rare/disk", "/"),
])  # fmt: skip
def test_a_link_that_leads_back_to_another_class_or_nowhere_adds_no_picture(root, place, target):
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).symlink_to(target)
    tree = walk.tree(root)
    assert tree.pictures == PICTURES and set(tree.ignored) == {place}
    assert accounted(root).on_disk == 5


def test_two_links_to_one_folder_elsewhere_are_one(root, tmp_path):
    tiny.touch(tmp_path / "far", "5.png", "deep/6.png")
    for name in ("rare/b", "rare/a", "common/c"):
        (root / name).symlink_to(tmp_path / "far")
    (tmp_path / "far" / "deep" / "back").symlink_to(root)
    tree = walk.tree(root)
    assert tree.pictures == ["common/3.png", "common/4.png", "common/c/5.png", "common/c/deep/6.png", *PICTURES[2:]]
    assert sorted(tree.ignored) == ["common/c/deep/back", "rare/a", "rare/b"]
    (doubt,) = tree.suspicions
    assert doubt.severity == "warning" and doubt.text.startswith(
        "2 links lead to what is listed in another folder, such as rare/a"
    )


def test_a_class_that_is_a_link_is_a_class_even_into_a_hidden_folder(root):
    tiny.touch(root, ".objects/new/5.png", ".objects/new/6.png")
    (root / "new").symlink_to(".objects/new")
    tree = walk.tree(root)
    assert tree.pictures == ["common/3.png", "common/4.png", "new/5.png", "new/6.png", *PICTURES[2:]]
    assert not tree.ignored and set(read(root)[1]["label"]) == {"rare", "common", "new"}


def test_links_to_files_are_followed_once(root, tmp_path):
    tiny.touch(tmp_path, "far/7.png", "d/.blobs/8.png")
    links = {"rare/7.png": tmp_path / "far/7.png", "rare/again.png": tmp_path / "far/7.png", "rare/8.png": "../.blobs/8.png",
             "common/one.png": "../rare/1.png", "rare/gone.png": "nowhere.png", "rare/null.png": "/dev/null"}  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    tree = walk.tree(root)
    assert set(tree.pictures) == {*PICTURES, "rare/7.png", "rare/8.png"}
    assert tree.ignored == {"common/one.png": walk.AGAIN, "rare/again.png": walk.AGAIN, "rare/gone.png": walk.BROKEN,
                            "rare/null.png": walk.SPECIAL, ".blobs/8.png": walk.HIDDEN}  # fmt: skip
    (doubt,) = tree.suspicions
    assert "1 links lead to what is listed in another folder, such as common/one.png to rare/1.png" in doubt.text


# --- what is no part of the data set


@pytest.mark.parametrize("name", [
    ".DS_Store", "._1.png", "Thumbs.db", "desktop.ini", "__MACOSX/1.png", ".ipynb_checkpoints/1-checkpoint.png",
    "@eaDir/1.png/THUMB.jpg", ".git/objects/ab/1.png", "__pycache__/x.pyc", ".thumbnails/1.png", "lost+found/1.png",
    "$RECYCLE.BIN/1.png", ".cache/1.png", "System Volume Information/1.png", ".Trash-1000/files/1.png", "#recycle/1.png",
])  # fmt: skip
@pytest.mark.parametrize("where", ["", "rare/", "rare/sub/"])
def test_leftovers_of_systems_and_tools_are_ignored_at_every_level(root, where, name):
    tiny.touch(root, where + name)
    tree = walk.tree(root)
    assert tree.pictures == PICTURES and set(tree.ignored) == {where + name} and not tree.left_out
    assert tree.ignored[where + name] in (walk.HIDDEN, walk.LEFTOVER)
    assert set(read(root)[1]["label"]) == {"rare", "common"}


def test_a_folder_of_results_is_no_class(root):
    tiny.touch(root, "outputs/.store/generate-1/images/1.png", "outputs/run/config.yaml", "outputs/run/2.png")
    tree = walk.tree(root)
    assert tree.pictures == PICTURES and set(tree.ignored.values()) == {walk.RESULTS} and len(tree.ignored) == 3


def test_a_fifo_is_never_opened(root):
    for name in ("rare/pipe.png", "rare/pipe"):
        os.mkfifo(root / name)
    tree = walk.tree(root)
    assert tree.pictures == PICTURES and tree.ignored == dict.fromkeys(["rare/pipe.png", "rare/pipe"], walk.SPECIAL)


def test_a_folder_that_cannot_be_opened_is_told():
    """As another user: root may open everything."""
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        tiny.touch(place, "rare/1.png", "closed/2.png", "rare/closed/3.png")
        for name in ("closed", "rare/closed"):
            (place / name).chmod(0)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            tree = walk.tree(place)
            with pytest.raises(UserError, match="cannot be opened; check its permissions"):
                walk.tree(place / "closed")
        finally:
            os.seteuid(before)
        assert tree.pictures == ["rare/1.png"] and tree.ignored == dict.fromkeys(["closed", "rare/closed"], walk.CLOSED)
        assert [doubt.text for doubt in tree.suspicions] == ["2 folders cannot be opened, such as closed"]
    finally:
        for name in ("closed", "rare/closed"):
            (place / name).chmod(0o755)
        shutil.rmtree(place)


# --- which files are pictures


def test_pictures_are_those_that_pillow_opens():
    assert {".avif", ".jfif", ".jpe", ".tga", ".jpg", ".png", ".mpo", ".jp2", ".qoi", ".pbm", ".dds"} <= walk.suffixes()
    assert not {".pdf", ".eps", ".ps", ".mpg", ".h5", ".wmf", ".txt", ".json", ".svg"} & walk.suffixes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("suffix", ["", ".txt", ".113", ".png~", ".bak"])
def test_a_picture_without_a_pictures_suffix_is_left_out_aloud(root, kind, suffix):
    Image.new("RGB", (8, 8), "red").save(root / f"rare/scan{suffix}", kind)
    tree = walk.tree(root)
    assert tree.pictures == PICTURES and tree.left_out[f"rare/scan{suffix}"].endswith(f"those of {kind}; rename it)")
    assert [doubt.severity for doubt in tree.suspicions] == ["warning"] and f"rare/scan{suffix}" in tree.suspicions[0].text


@pytest.mark.parametrize(
    "text", ["", "BMW is a car", "P6 is a processor", "II\nIII", "GIF is a format", "\0" * 64, "\n\x01" * 20]
)
def test_a_text_is_no_picture(root, text):
    (root / "rare/notes").write_text(text)
    tree = walk.tree(root)
    assert not tree.left_out and tree.ignored == {"rare/notes": "no picture by its suffix (none)"}


def test_a_picture_that_cannot_be_opened_is_left_out_aloud(root):
    tiny.touch(root, "rare/a.HEIC", "common/b.svg", "rare/c.dcm")
    tree = walk.tree(root)
    assert set(tree.left_out) == {"rare/a.HEIC", "common/b.svg"} and set(tree.ignored) == {"rare/c.dcm"}
    assert "2 files are pictures in a format that cannot be opened" in tree.suspicions[0].text


def test_a_class_without_pictures_is_refused_with_what_it_holds(root):
    tiny.touch(root, "scans/1.dcm", "scans/2.dcm")
    with pytest.raises(UserError, match=r"without images: scans \(its 2 files: no picture by its suffix \(\.dcm\)\)"):
        read(root)
    assert accounted(root, classes=["rare", "common"]).ignored == {"no picture by its suffix": 2}


def test_a_picture_beside_the_class_folders_is_left_out_for_want_of_a_label(root):
    tiny.touch(root, "lone.png")
    _, frame = read(root, group="([0-9]|lone)")
    assert frame.set_index("path")["label"].to_dict() == {
        **{name: name.partition("/")[0] for name in PICTURES},
        "lone.png": "",
    }
    (root / "rare").rename(root.parent / "rare")
    (root / "common").rename(root.parent / "common")
    with pytest.raises(UserError, match=r"one sub-folder per class, .*; 1 images lie directly in it"):
        read(root)


# --- the account


NODES = st.sampled_from(["file", "file", "file", "text", "hidden", "system", "bare", "folder", "folder", "link", "loop",
                         "odd", "fifo", "hidden folder", "system folder", "file link", "table", "heic"])  # fmt: skip


def grow(root, nodes):
    """A tree: each node lies in a folder made before it."""
    folders, made = [root / "rare", root / "common"], []
    for folder in folders:
        tiny.touch(folder, "first.png")
    for number, (kind, where) in enumerate(nodes):
        folder = folders[where % len(folders)]
        names = {"file": f"{number}.png", "text": f"{number}.txt", "hidden": f".{number}.png", "bare": str(number),
                 "heic": "a.heic", "system": "Thumbs.db", "table": f"{number}.csv",
                 "odd": os.fsdecode(b"\xe9%d.png" % number)}  # fmt: skip
        if kind in names:
            tiny.touch(folder, names[kind])
            made.append(folder / names[kind])
        elif kind.endswith("folder"):
            new = folder / {"folder": f"f{number}", "hidden folder": f".f{number}", "system folder": "__MACOSX"}[kind]
            new.mkdir(exist_ok=True)
            folders.append(new)
        elif kind == "fifo":
            os.mkfifo(folder / f"{number}.png")
        else:
            targets = made if kind == "file link" and made else folders
            target = targets[(where // 7) % len(targets)] if kind != "loop" else folder / f"l{number}.png"
            (folder / f"l{number}.png").symlink_to(target)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NODES, st.integers(0, 999)), max_size=25))
def test_the_account_adds_up_to_what_is_on_disk(nodes):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "d"
        grow(root, nodes)
        source, frame = read(root)
        # a link that is followed is no file, and where it leads into a hidden folder those files are no longer there
        followed = {folder for folder in source.tree.folders.values() if os.path.islink(root / folder)}
        total = accounted(root)
        assert total.on_disk == tiny.count_files(root) - len(followed) == sum(map(len, source.tree[:3]))
        real = [os.path.realpath(root / name) for name in frame["path"]]
        assert len(set(real)) == len(real) == total.used and not total.absent


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(NODES, st.integers(0, 999)), max_size=20), st.data())
def test_the_account_of_a_table_adds_up_too(nodes, data):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "d"
        grow(root, nodes)
        tree = walk.tree(root)
        followed = sum(os.path.islink(root / folder) for folder in tree.folders.values())
        listed = data.draw(st.lists(st.sampled_from(tree.pictures), min_size=1, unique=True))
        rows = pd.DataFrame({"file_name": [*listed, "rare/absent.png"], "label": "rare"})
        rows.to_csv(root / "metadata.csv", index=False)
        total = accounted(root)
        assert total.on_disk == tiny.count_files(root) - followed and total.used == len(listed) and total.absent == 1
        rows.assign(file_name="d/" + rows["file_name"]).to_csv(Path(place) / "t.csv", index=False)
        folders = {(root / name).parent.resolve() for name in listed}
        plain = sum(not os.path.isdir(entry) for folder in folders for entry in os.scandir(folder))
        total = accounted(Path(place) / "t.csv")
        assert total.on_disk == plain + 1 and total.used == len(listed) and total.absent == 1


def test_masks_limits_and_classes_have_their_own_count(tmp_path):
    tiny.touch(tmp_path, "p/1.png", "p/2.png", "p/3.png", "m/1.png", "m/2.png", "m/9.png", "notes.txt", "far.png")
    (tmp_path / "t.csv").write_text(
        f"id,label\np/1,rare\np/2,rare\np/3,x\n{tmp_path}/far,rare\np/4,rare\n".replace("p/", "p/")
    )
    made = dataset(tmp_path, table="t.csv", image="{id}.png", mask="m/{id}.png", classes=["rare"])
    source = records.open_source(made.path, made.table)
    frame = records.make_records(source, made).assign(mask=["", "m/1.png", "m/2.png", ""])
    found = account.take(source, frame, ["p/1.png"], ["p/4.png", "far.png"], True)
    assert found == account.Account(1, 2, 1, found.ignored, 1)
    assert found.ignored == {account.OTHER_CLASS: 2, account.BEYOND: 1, "no picture by its suffix": 1, account.TABLE: 1}
    assert found.on_disk == tiny.count_files(tmp_path) == 9
    assert (
        found.line.startswith("files on disk: 9 = 1 used + 2 masks + 1 left out + 5 ignored (")
        and "not found: 1" in found.line
    )


def test_a_class_may_be_called_as_the_home_folder_is(tmp_path):
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "a.png").touch()
    assert spelling.paths(pd.Series(["~/a.png", "~/b.png"]), tmp_path).tolist() == [
        "~/a.png", str(Path("~/b.png").expanduser()),
    ]  # fmt: skip
