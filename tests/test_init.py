from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from synthimg import reading
from synthimg.data import consent, records
from synthimg.errors import UserError
from synthimg.tools.init import write_config


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_is_understood_and_consent_is_left_to_the_person(here, capsys):
    folder = here / "skin"
    (folder / "images").mkdir(parents=True)
    rows = [{"image_id": f"I{n:02}", "dx": "df" if n < 3 else "nv", "lesion_id": str(n // 2), "consent_scope": ""}
            for n in range(20)]  # fmt: skip
    for row in rows:
        Image.new("L", (8, 8)).save(folder / "images" / f"{row['image_id']}.jpg")
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    path = write_config(folder)
    made = reading.load_config(path)
    assert path.name == "skin.yaml" and made.dataset.rare_class == "df" and made.dataset.label_column == "dx"
    assert made.dataset.group == "lesion_id" and made.dataset.image == "images/{image_id}.jpg"
    assert len(records.make_records(records.open_source(made.dataset.path), made.dataset)) == 20
    assert "df" in capsys.readouterr().out and "consent_scope" in path.read_text()
    with pytest.raises(UserError, match="no consent entry"):
        consent.effective(made.dataset.consent, None)
    text = path.read_text()
    with pytest.raises(UserError, match="exists already"):
        write_config(folder)
    assert path.read_text() == text and sorted(p.name for p in here.iterdir()) == ["skin", "skin.yaml"]


def test_image_folder_and_no_label(here, capsys):
    for name in ("it's/x", "b/1", "b/2"):
        (here / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "parts" / f"{name}.png").touch()
    path = write_config("parts")
    made = reading.load_config(path).dataset
    assert made.rare_class == "it's" and made.group is None
    assert "none was found: every image is its own group" in path.read_text()
    assert "without dataset.group every image is its own group" in capsys.readouterr().out
    (here / "t.csv").write_text("file_name,colour\nx,y\n")
    with pytest.raises(UserError, match="no column that looks like a label"):
        write_config("t.csv")


def test_the_recipe_is_that_of_the_embedded_model(here):
    for name in ("rare/1", "common/1", "common/2"):
        (here / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "parts" / f"{name}.png").touch()
    made = reading.load_config(write_config("parts"))
    known = reading.load_config(Path(__file__).parents[1] / "configs" / "quickstart.yaml")
    assert made.base == known.base == "embedded"
    for section, names in {
        "finetune": ("method", "batch_size", "learning_rate", "ema"),
        "generate": ("detail", "guidance", "batch_size", "steps"),
        "filter": ("confidence", "attributes", "copy_quantile"), "evaluate": ("synthetic_weight",),
    }.items():  # fmt: skip
        for name in names:
            assert getattr(getattr(made, section), name) == getattr(getattr(known, section), name), name
    assert made.generate.count == 100 and "procedural" not in made.generate.methods  # cracks are for panels alone
    for number in range(2, 43):
        (here / "parts" / "rare" / f"{number}.png").touch()
    for number in range(200):
        (here / "parts" / "common" / f"x{number}.png").touch()
    (here / "parts.yaml").unlink()
    path = write_config("parts")
    assert reading.load_config(path).generate.count == 250 and "count: 250 " in path.read_text()  # 0.6 * 42 is 25


def test_elpv(here):
    pytest.importorskip("elpv_dataset")
    made = reading.load_config(write_config("pypi:elpv-dataset"))
    assert made.dataset.rare_class == "defective" and made.dataset.classes == ["functional", "defective"]
    assert made.dataset.group == "module"
