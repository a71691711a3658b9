"""What is probably wrong with a data set is said in one list, with the right numbers."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from fake_run import fake_run
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from PIL import Image

from synthimg import cli
from synthimg.core import files
from synthimg.data import suspicions
from synthimg.data.suspicions import Suspicion
from synthimg.errors import UserError
from synthimg.reading import parse
from synthimg.stages.prepare import prepare_dataset
from synthimg.stages.report import write_report


def painted(seed):
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    for number in range(36):
        file = tmp_path / "d" / ("rare" if number < 12 else "common") / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        painted(number).save(file)
    return tmp_path / "d"


def settings(folder, **changes):
    dataset = {"path": str(folder), "rare_class": "rare", "prompts": "generic",
               "consent": {"licence": "CC0", "scope": ["research"]}, **changes}  # fmt: skip
    return parse({"name": "run", "outputs": str(folder.parent / "out"), "resolution": 32, "folds": 1, "dataset": dataset})


def found(out):
    return {one["kind"]: one for one in json.loads((out / "summary.json").read_text())["suspicions"]}


def test_a_data_set_without_faults_has_a_note_on_its_groups_alone(folder, capsys):
    assert list(found(prepare_dataset(settings(folder, strict=True)))) == ["every image its own group"]
    assert "note: every image is its own group: images of one object, patient" in capsys.readouterr().out


def test_equal_files_are_told_under_two_labels_and_under_one(folder, capsys):
    shutil.copy(folder / "rare" / "03.png", folder / "common" / "50.png")
    for number in (60, 61, 62):
        shutil.copy(folder / "common" / "20.png", folder / "common" / f"{number}.png")
    told = found(prepare_dataset(settings(folder)))
    torn, again = told["one picture under several labels"], told["one picture many times"]
    assert torn["severity"] == "warning" and again["severity"] == "note"
    assert torn["text"] == ("2 files show 1 picture under several labels: the bytes of common/50.png (common) and "
                            "rare/03.png (rare) are equal")  # fmt: skip
    assert "3 files repeat the bytes of another one of their class: common/20.png is there 4 times" in again["text"]
    assert f"warning: {torn['text']}" in capsys.readouterr().out


def test_pictures_of_one_colour_are_counted_by_class_also_in_jpegs(folder):
    for number in range(3):
        Image.new("L", (48, 48)).save(folder / "rare" / f"black{number}.png")
    Image.new("RGB", (48, 48), (200, 30, 30)).save(folder / "common" / "red.jpg")
    plain = [one for one in json.loads((prepare_dataset(settings(folder)) / "summary.json").read_text())["suspicions"]
             if one["kind"] == "pictures of one colour"]  # fmt: skip
    assert [one["text"] for one in plain] == [
        "1 of 25 pictures of 'common' show one colour: the first is common/red.jpg",
        "3 of 15 pictures of 'rare' show one colour: the first is rare/black0.png",
    ]


def test_a_class_of_which_a_tenth_cannot_be_read_is_told_and_one_of_a_twentieth_is_not():
    labels = ["a"] * 20 + ["b"] * 20
    read = np.ones(40, bool)
    read[[5, 25, 26]] = False
    (told,) = suspicions.unreadable(labels, read, [f"{n}.png" for n in range(40)])
    assert told.severity == "warning" and told.text.startswith("2 of 20 pictures of 'b' cannot be read: the first is 25.png")


def test_the_frames_of_a_film_are_told_as_a_class_of_near_duplicates():
    frame = pd.DataFrame({"label": ["a"] * 10 + ["b"] * 10, "path": [f"{n}.png" for n in range(20)]})
    chain = np.array([[n, n + 1] for n in range(8)])  # 8 of a's 10 repeat an earlier one
    across = np.array([[0, 12], [10, 11]])  # one of b's 10
    (told,) = suspicions.alike(frame, np.concatenate([chain, across]))
    assert told.text == ("8 of 10 pictures of 'a' nearly repeat an earlier one, such as 1.png that of 0.png; "
                         "they say little more than 2 pictures")  # fmt: skip
    assert suspicions.alike(frame, chain[1:]) == [] == suspicions.alike(frame, np.empty((0, 2), int))


@settings_of_hypothesis(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=12))
def test_the_counts_of_equal_pictures_are_those_of_the_list(rows):
    frame = pd.DataFrame(rows, columns=["label", "digest"], dtype=object).assign(path=[str(n) for n in range(len(rows))])
    told = {one.kind: int(one.text.split()[0]) for one in suspicions.equal_pictures(frame)}
    torn = [row for row in rows if len({label for label, digest in rows if digest == row[1]}) > 1]
    assert told.get("one picture under several labels", 0) == len(torn)
    assert told.get("one picture many times", 0) == len(rows) - len(set(rows))


def test_strict_refuses_warnings_all_at_once_before_and_after_the_work_is_done(folder):
    shutil.copy(folder / "rare" / "03.png", folder / "common" / "50.png")
    Image.new("L", (48, 48)).save(folder / "common" / "black.png")
    strict = settings(folder, strict=True)
    told = "refuses 2 warnings:\n  one picture under several labels: 2 files.*\n  pictures of one colour: 1 of 26"
    with pytest.raises(UserError, match=told):
        prepare_dataset(strict)
    assert not (strict.root / "dataset" / "manifest.json").exists()
    out = prepare_dataset(settings(folder))
    with pytest.raises(UserError, match=told):
        prepare_dataset(strict)  # the finished work is the same run's, whether it was strict or not
    assert prepare_dataset(settings(folder)) == out and '"strict"' not in (out / "key.json").read_text()


def test_notes_pass_and_the_flag_is_the_key(folder, tmp_path, monkeypatch, capsys):
    suspicions.refuse([Suspicion("note", "kind", "text")])
    Image.new("L", (48, 48)).save(folder / "common" / "black.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "name: t\nresolution: 32\ndataset: {path: d, rare_class: rare, prompts: generic, "
        "consent: {licence: CC0, scope: [research]}}\n"
    )
    for flag in ("--strict", "dataset.strict=true"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["prepare", "c.yaml", flag])
        assert stopped.value.code == 2 and "dataset.strict: refuses 1 warning:" in capsys.readouterr().err


def test_the_report_says_warnings_at_its_head_and_all_of_them_with_the_data(tmp_path):
    config = fake_run(tmp_path)
    path = config.root / "dataset" / "summary.json"
    told = [{"severity": "warning", "kind": "masks as images", "text": "3 files <b> look like masks"},
            {"severity": "note", "kind": "every image its own group", "text": "every image is its own group"}]  # fmt: skip
    files.write_json(path, json.loads(path.read_text()) | {"suspicions": told})
    write_report(config)
    html = (config.root / "report.html").read_text()
    head, data = html[: html.index('id="arms"')], html[html.index('id="data"') :]
    assert "masks as images</a>: 3 files &lt;b&gt; look like masks." in head and "its own group" not in head
    assert "What may be wrong with the data set" in data and "every image is its own group" in data
