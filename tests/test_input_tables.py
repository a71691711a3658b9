"""Tables are read as they are written, and what cannot be read so is refused with its line."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.attributes import captions
from synthimg.config import Dataset
from synthimg.core import templates
from synthimg.data import locate, records, spelling, tables
from synthimg.errors import UserError


def columns(file):
    return tables.read(file).rows.to_dict("list")


def written(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


VALUES = ["007", "None", "yes", "no", "NA", "nan", "true", "1.0", "1e5", "0x10", "-", "2020-01-01", "", " a ", "+1", "1_000"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_text_stays_as_it_is(tmp_path, ending):
    frame = pd.DataFrame({"file_name": [str(number) for number in range(len(VALUES))], "value": VALUES})
    file = tmp_path / f"t.{ending}"
    if ending == "parquet":
        frame.to_parquet(file)
    elif ending == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    else:
        frame.to_csv(file, index=False, sep="\t" if ending == "tsv" else ",")
    assert columns(file)["value"] == VALUES


def test_types_of_parquet_become_the_text_that_people_wrote(tmp_path):
    frame = pd.DataFrame({
        "gap": [1, None, 3], "real": [1.5, 2.0, np.nan], "truth": [True, False, None], "small": np.array([1, 2, 3], "int8"),
        "kind": pd.Categorical(["a", None, "b"]), "numbers": pd.Categorical([7, 8, 7]),
        "single": np.array([0.1, 2, 3], "float32"),
        "day": pd.to_datetime(["2020-01-02", "2021-03-04", None]), "empty": [None] * 3,
    })  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    found = columns(tmp_path / "t.parquet")
    assert found["gap"] == ["1", "", "3"] and found["real"] == ["1.5", "2", ""] and found["truth"] == ["true", "false", ""]
    assert found["small"] == ["1", "2", "3"] and found["kind"] == ["a", "", "b"] and found["numbers"] == ["7", "8", "7"]
    assert found["single"] == ["0.1", "2", "3"] and found["empty"] == ["", "", ""]
    assert [day[:10] for day in found["day"]] == ["2020-01-02", "2021-03-04", ""]


def test_a_named_index_is_a_column_and_a_nameless_one_is_not(tmp_path):
    for number, index in enumerate((pd.Index(["a", "b"], name="file_name"), pd.RangeIndex(5, 9, 2, name="file_name"))):
        pd.DataFrame({"label": ["x", "y"]}, index=index).to_parquet(tmp_path / f"{number}.parquet")
    assert columns(tmp_path / "0.parquet")["file_name"] == ["a", "b"]
    assert columns(tmp_path / "1.parquet")["file_name"] == ["5", "7"]
    pd.DataFrame({"label": ["x", "y"]}, index=["a", "b"]).to_parquet(tmp_path / "2.parquet")
    assert list(columns(tmp_path / "2.parquet")) == ["label"]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    (tmp_path / "label=rare").mkdir()
    pd.DataFrame({"file_name": ["a"]}).to_parquet(tmp_path / "label=rare" / "t.parquet")
    assert columns(tmp_path / "label=rare" / "t.parquet") == {"file_name": ["a"]}


def test_json_values_are_written_as_in_the_file(tmp_path):
    line = '{"a": 1.0, "b": 1e5, "c": true, "d": null, "e": NaN, "f": 12345678901234567890, "g": "\\u00e9"}'
    assert columns(written(tmp_path, "t.jsonl", line)) == {
        "a": ["1.0"], "b": ["1e5"], "c": ["true"], "d": [""], "e": [""], "f": ["12345678901234567890"], "g": ["é"],
    }  # fmt: skip
    later = written(tmp_path, "u.jsonl", '{"a": "x"}\r\n\n{"b": "y"}\n{"a": "z", "b": "w"}')
    assert columns(later) == {"a": ["x", "", "z"], "b": ["", "y", "w"]}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=1, max_size=5))
def test_any_text_survives_every_format(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("any")
    frame = pd.DataFrame({"n": [str(number) for number in range(len(values))], "v": values})
    frame.to_csv(folder / "t.csv", index=False, quoting=1)
    frame.to_csv(folder / "t.tsv", index=False, sep="\t", quoting=1)
    frame.to_parquet(folder / "t.parquet")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in frame.to_dict("records"))
    (folder / "t.jsonl").write_bytes("".join(lines).encode())
    for ending in ("csv", "tsv", "parquet", "jsonl"):
        assert columns(folder / f"t.{ending}")["v"] == values, ending


@pytest.mark.parametrize(("name", "content", "message"), [
    ("t.csv", "file_name,label\na.png,x\nb.png,x,y\n", r"line 3: has 3 fields, the header has 2"),
    ("t.csv", "file_name,label\na.png,x,\nb.png,y,\n", r"line 2: has 3 fields"),  # pandas: an index, in silence
    ("t.csv", "file_name,label\na.png\n", r"line 2: has 1 fields"),
    ("t.tsv", "file_name\tlabel\na.png\tx\ty\n", r"line 2: has 3 fields"),
    ("t.csv", 'file_name,label,note\na.png,x,"one\ntwo"\nb.png,y\n', r"line 4: has 2 fields"),
    ("t.csv", 'file_name,label\na.png,"x\nb.png,y\n', r"line 2: .* double quote is out of place"),
    ("t.csv", 'file_name,label\na.png,"x"y\n', r"line 2: .* double quote is out of place"),
    ("t.csv", "label,file_name, label\nx,a.png,y\n", r"has 2 columns named 'label'"),
    ("t.csv", "file_name,label\na.png,x\nb\u00e9.png,y\n".encode("latin-1"), r"line 3: is not UTF-8 text \(byte 0xe9\)"),
    ("t.csv", "file_name,label\na.png,x\n".encode("utf-16-le"), r"line 1: has a zero byte"),
    ("t.jsonl", b'{"file_name": "a"}\n{"file_name": "\xe9"}\n', r"line 2: is not UTF-8"),
    ("t.jsonl", '{"a": 1}\n{"a": 1, "a": 2}\n', r"line 2: has the key 'a' twice"),
    ("t.jsonl", '{"a": 1}\n[1]\n', r"line 2: expected an object, found list"),
    ("t.jsonl", '{"a": "\\ud800"}\n', r"line 1: holds half of a character"),
    ("t.jsonl", '{"a": ' + "[" * 100_000, r"line 1: not valid JSON"),
    ("t.jsonl", '{"a": 1} {"a": 2}\n', r"line 1: not valid JSON"),
    ("t.json", "[]", r"expected a table ending in"),
    ("t.parquet", b"PAR1 no PAR1", r"t\.parquet: cannot be read as a table"),
    ("t.csv", "file_name;label\na.png;x\n", r"no column 'label' .* seems to be separated by ';'"),
    ("t.jsonl", '{"file_name": "a", "label": ["x", "b"]}\n',
     r"column 'label' holds lists, objects or bytes \(t\.jsonl line 1\)"),
    ("t.jsonl", '{"file_name": "a\\u0000", "label": "b"}\n', r"row 1: the path of dataset\.image holds a zero character"),
])  # fmt: skip
def test_what_cannot_be_read_as_it_is_is_refused_with_its_line(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read(written(tmp_path, name, content))


def test_bytes_and_lists_of_parquet_are_refused_only_where_they_are_used(tmp_path):
    frame = pd.DataFrame({"file_name": ["a"], "label": ["b"], "box": [[1, 2]], "data": [b"x"]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")["label"].tolist() == ["b"]
    for column in ("box", "data"):
        with pytest.raises(UserError, match=rf"dataset\.attribute_columns: column '{column}' holds lists"):
            read(tmp_path / "t.parquet", attribute_columns=[column])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding, ending):
    text = "file_name,label\né.png,b\n" if ending == "csv" else '{"file_name": "é.png", "label": "b"}\n'
    file = written(tmp_path, f"t.{ending}", text.encode(encoding))
    assert columns(file) == {"file_name": ["é.png"], "label": ["b"]}


def test_names_of_columns_lose_blanks_and_nameless_ones_are_counted(tmp_path):
    file = written(tmp_path, "t.CSV", "file_name, label,,\na.png,b,,\n")
    assert list(columns(file)) == ["file_name", "label", "column 3", "column 4"]
    assert read(file)["label"].tolist() == ["b"]


def test_a_cell_may_be_longer_than_the_limit_of_the_csv_module(tmp_path):
    outline = "1 2 " * 100_000
    assert columns(written(tmp_path, "t.csv", f"file_name,outline\na,{outline}\n"))["outline"] == [outline]


# --- templates


def dataset(path, **keys):
    return Dataset.model_validate({"path": str(path), "rare_class": "b", "prompts": "generic"} | keys)


def read(path, **keys):
    made = dataset(path, **keys)
    return records.make_records(records.open_source(made.path, made.table), made)


def test_a_field_is_a_column_by_its_whole_name(tmp_path):
    written(tmp_path, "t.csv", "image.path,a[0],num,n:03d,0,label\nx.png,y,7,z,q,b\nx2.png,y,-7,z,q,b\n,y,,z,q,b\n")
    expected = {"{image.path}": ["", "x.png", "x2.png"], "{a[0]}-{image.path}": ["", "y-x.png", "y-x2.png"],
                "{num:03d}.png": ["", "-07.png", "007.png"], "{n:03d}{num}": ["", "z-7", "z7"],
                "{{{0}}}{num}": ["", "{q}-7", "{q}7"]}  # fmt: skip
    for template, paths in expected.items():
        assert sorted(read(tmp_path / "t.csv", image=template)["path"]) == sorted(paths), template


@pytest.mark.parametrize(("template", "message"), [
    ("{label.x}", "no column 'label.x'"), ("{0}", "no column '0'"), ("{}", "nothing between the braces"),
    ("{ }", "nothing between the braces"), ("{label", "brace at character 1 has no partner"),
    ("label}", "brace at character 6 has no partner"), ("{label!r}", "no column 'label!r'"),
    ("{label:>{file_name}}", "has no partner"),
    ("{label:03d}", r"\{label:03d\} needs whole numbers, found 'b' \(t.csv row 1\)"),
    ("{label:.2f}", "no column 'label:.2f'"), ("{{label}}", "names no {column}"), ("{label.__class__}", "no column"),
])  # fmt: skip
@pytest.mark.parametrize("key", ["image", "mask"])
def test_a_template_is_refused_where_it_names_no_column(tmp_path, key, template, message):
    written(tmp_path, "t.csv", "file_name,label\na.png,b\n")
    with pytest.raises(UserError, match=rf"dataset\.{key}.*{message}"):
        read(tmp_path / "t.csv", **{key: template})


@given(st.text(max_size=20))
def test_any_template_is_split_or_refused(text):
    try:
        pieces = templates.split(text)
    except ValueError:
        return
    names = {name: "{" + name + "}" for _, name in pieces if name is not None}
    assert templates.fill(text, names).replace("{", "").replace("}", "") == text.replace("{", "").replace("}", "")


@pytest.mark.parametrize(
    "template", ["a {label!r}", "a {label:d}", "a {label:>{label}}", "{label.x}", "{0}", "{}", "a {label[0]}"]
)
def test_captions_know_no_format_strings_either(tmp_path, template):
    written(tmp_path, "p.yaml", f"captions: ['{template}']\n")
    with pytest.raises(UserError, match=r"p\.yaml: .*caption"):
        captions.load(str(tmp_path / "p.yaml"))


def test_an_attribute_with_a_dot_is_found_by_its_name(tmp_path):
    written(tmp_path, "p.yaml", "captions: ['a {label}, {skin.tone} skin {{x}}']\n"
            "attributes: {skin.tone: {source: column, values: {l: light}}}\n")  # fmt: skip
    prompts = captions.load(str(tmp_path / "p.yaml"))
    assert captions.describe(prompts, 0, "mole", {"skin.tone": "l"}) == "a mole, light skin {x}"


# --- one spelling for one thing


def test_paths_have_one_spelling(tmp_path):
    (tmp_path / "a").mkdir()
    same = ["./a/b.png", "a//b.png", "a/../a/b.png", f"{tmp_path}/a/b.png", "a/./b.png", f"../{tmp_path.name}/a/b.png"]
    assert spelling.paths(pd.Series([*same, "c.png", "", "/elsewhere/../x.png", "../x.png"]), tmp_path).tolist() == [
        *["a/b.png"] * 6, "c.png", "", "/x.png", "../x.png",
    ]  # fmt: skip


def test_two_dots_behind_a_link_are_left_alone(tmp_path):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link").symlink_to(tmp_path / "far" / "deep")
    assert spelling.paths(pd.Series(["link/../b.png"]), tmp_path / "d").tolist() == ["link/../b.png"]


def test_home_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path, "t.csv", "file_name,label\na.png,b\n")
    assert read("~/t.csv", image="~/pictures/{file_name}")["path"].tolist() == ["pictures/a.png"]
    assert read("~", table="~/t.csv")["path"].tolist() == ["a.png"]


@pytest.mark.parametrize("again", ["./a.png", ".//a.png", "x/../a.png"])
def test_a_picture_listed_twice_is_refused_with_both_rows_and_labels(tmp_path, again):
    written(tmp_path, "t.csv", f"file_name,label\na.png,b\nc.png,b\n{again},c\n")
    with pytest.raises(UserError, match=r"t\.csv row 3: lists a\.png a second time, after t\.csv row 1 as 'b', here as 'c'"):
        read(tmp_path / "t.csv")


def kinds(path, **keys):
    made = dataset(path, **keys)
    source = records.open_source(made.path, made.table)
    return {doubt.kind: doubt for doubt in records.doubts(source, records.make_records(source, made), made)}


def test_labels_groups_columns_and_attributes_that_are_spelled_alike_are_told(tmp_path):
    rows = ["a,Rare,P1,x", "b,rare,p1,x", "c,rare ,P2,X", "d,b,P2,x", "e,ra re,P 1,x", "f,ｒare,P3,x"]
    written(tmp_path, "t.csv", "file_name,label,patient,Patient\n" + "\n".join(rows) + "\n")
    found = kinds(tmp_path / "t.csv", group="patient", attribute_columns=["Patient"])
    assert "'rare' (2) and 'Rare' (1) and 'ｒare' (1) differ only" in found["labels spelled alike"].text
    assert "'P1' (1) and 'p1' (1)" in found["groups spelled alike"].text
    assert "'x' (5) and 'X' (1)" in found["values of Patient spelled alike"].text
    assert "'Patient' (1) and 'patient' (1)" in found["columns spelled alike"].text
    assert found["labels with blanks"].severity == "note" and "1 labels" in found["labels with blanks"].text
    assert {doubt.severity for kind, doubt in found.items() if "alike" in kind} == {"warning"}


def test_unicode_forms_of_a_label_are_one_class(tmp_path):
    written(tmp_path, "t.csv", "file_name,label\na,se\u0301rie\nb,s\u00e9rie\nc,b\n")
    frame = read(tmp_path / "t.csv", rare_class="se\u0301rie", classes=["se\u0301rie", "b"])
    assert frame["label"].tolist() == ["s\u00e9rie", "s\u00e9rie", "b"]
    assert "1 labels" in kinds(tmp_path / "t.csv")["labels with blanks"].text


# --- files that are not there as spelled


def located(path, **keys):
    made = dataset(path, **keys)
    source = records.open_source(made.path, made.table)
    return locate.respell(records.make_records(source, made), source)


@pytest.mark.parametrize(("on_disk", "listed"), [
    ("d/é.png", "d\\é.png"), ("d/e\u0301.png", "d/\u00e9.png"), ("d/\u00e9.png", "d/e\u0301.png"), ("d/a.png", "d/a.png "),
    ("d/a.png", " d\\a.png"), ("d/a.png", "d /a.png"), ("d/e\u0301.png", "d\\\u00e9.png "), ("d/a .png", "d\\a .png"),
])  # fmt: skip
def test_a_file_is_found_under_another_spelling_and_it_is_said(tmp_path, on_disk, listed):
    (tmp_path / "d").mkdir()
    for name in (on_disk, "plain.png"):
        (tmp_path / name).touch()
    written(tmp_path, "t.csv", f'file_name,label\n"{listed}",b\nplain.png,b\n')
    frame, (note,) = located(tmp_path / "t.csv")
    assert sorted(frame["path"]) == sorted([on_disk, "plain.png"])
    assert note.severity == "note" and "1 files are listed in another spelling" in note.text


def test_two_spellings_that_are_both_there_are_not_mixed_up(tmp_path):
    for name in ("a\u0301.png", "\u00e1.png", "b\\c.png"):
        (tmp_path / name).touch()
    written(tmp_path, "t.csv", "file_name,label\na\u0301.png,b\n\u00e1.png,b\nb\\c.png,b\n")
    frame, doubts = located(tmp_path / "t.csv")
    assert sorted(frame["path"]) == sorted(["a\u0301.png", "\u00e1.png", "b\\c.png"]) and not doubts


def test_one_file_listed_in_two_spellings_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").touch()
    written(tmp_path, "t.csv", "file_name,label\nd/a.png,b\nd\\a.png,c\n")
    with pytest.raises(UserError, match=r"lists d/a\.png a second time, after .* as 'b', here as 'c'"):
        located(tmp_path / "t.csv")


@pytest.mark.parametrize(("listed", "message"), [
    ("nowhere.png",
     r"t\.csv: none of the 2 listed files is found; the first is 'nowhere\.png' \(t\.csv row 1\), looked for in /"),
    ("data/d/a.png", r"is relative to /.*; so 1 of them are found"),
    ("old/disk/d/a.png", r"is there without 'old/disk/'; so 1 of them"),
    ("C:\\old\\d\\a.png", r"is there without 'C:/old/'"),
    ("d/a", r"is there with '\.png' behind it .*; so 1 of them"),
    ("D/A.PNG", r"On disk it is 'd/a\.png', in another case"),
    ("a.png", r"A file of that name is 'd/a\.png'; so 1 of them"),
])  # fmt: skip
def test_where_no_file_is_found_the_first_is_named_with_the_cause(tmp_path, listed, message):
    (tmp_path / "data" / "d").mkdir(parents=True)
    (tmp_path / "data" / "d" / "a.png").touch()
    written(tmp_path / "data", "t.csv", f"file_name,label\n{listed},b\nother.png,b\n")
    with pytest.raises(UserError, match=message):
        located(tmp_path / "data", table="t.csv")


def test_some_files_that_are_not_found_are_counted(tmp_path):
    (tmp_path / "a.png").touch()
    written(tmp_path, "t.csv", f"file_name,label\nb.png,b\na.png,b\n{'x' * 300}.png,b\n")
    _, (doubt,) = located(tmp_path / "t.csv")
    assert (
        doubt.severity == "warning" and "2 of 3 listed files are not found; the first is 'b.png' (t.csv row 1)" in doubt.text
    )


def test_words_for_a_label_and_a_category_are_found_in_every_unicode_form(tmp_path):
    written(tmp_path, "p.yaml", "captions: ['{label}, {tone}']\nlabels: {'se\u0301rie ': a row}\n"
            "attributes: {tone: {source: column, values: {'fonce\u0301': dark}}}\n")  # fmt: skip
    prompts = captions.load(str(tmp_path / "p.yaml"))
    assert captions.describe(prompts, 0, "s\u00e9rie", {"tone": "fonc\u00e9"}) == "a row, dark"


def test_a_second_table_that_is_not_read_is_told(tmp_path):
    for name in ("metadata.csv", "metadata.parquet"):
        pd.DataFrame({"file_name": ["a"], "label": ["b"]}).to_csv(tmp_path / name, index=False)
    assert "metadata.csv is read; metadata.parquet beside it is not" in kinds(tmp_path)["several tables"].text
    assert "several tables" not in kinds(tmp_path, table="metadata.csv")
