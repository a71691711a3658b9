"""The package as people meet it: the README's Python runs, every public name is there, every package is installed."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import yaml

import synthimg

REPOSITORY = Path(__file__).parents[1]
SCENES = (REPOSITORY / "docs" / "extending.md").read_text().split("## Scenes whose truth is known")[1]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (REPOSITORY / "README.md").read_text() + SCENES, re.DOTALL | re.MULTILINE
)  # fmt: skip


def modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(synthimg.__path__, "synthimg.")
    return [importlib.import_module(module.name) for module in found if not module.name.endswith("__main__")]


def test_the_readme_has_code() -> None:
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n", 1)[0])
def test_code_of_the_readme_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, in a folder whose configs/quickstart.yaml is a run of seconds."""
    tree = tiny.settings(tiny.photographs(tmp_path / "data" / "panels", rare=12, common=16), Path("outputs"), "embedded")
    tree["generate"] |= {"methods": {"text": 0, "procedural": 1}}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    if "report" in names:
        assert names["report"] == Path("outputs/again/report.html")
        assert "cracked" in Path("outputs/again/report.html").read_text()
        lines = Path("data/solar-cells-augmented/metadata.jsonl").read_text().splitlines()
        assert {json.loads(line)["synthetic"] for line in lines} == {True, False}


@pytest.mark.parametrize("name", synthimg.__all__)
def test_public_names_are_functions_and_classes(name: str) -> None:
    found = getattr(synthimg, name)
    assert callable(found), f"{name} is {found!r}"


def test_no_function_or_class_shares_a_modules_name() -> None:
    """Else `synthimg.<name>` would be the one or the other, whichever was imported last."""
    for module in modules():
        shared = vars(module).get(module.__name__.rpartition(".")[2])
        assert not inspect.isfunction(shared) and not inspect.isclass(shared), f"{module.__name__} defines its own name"
    names = {module.__name__.rpartition(".")[2] for module in modules() if module.__name__.count(".") == 1}
    assert not names & set(synthimg.__all__)


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(REPOSITORY) for path in (REPOSITORY / "synthimg").rglob("__init__.py")}
    moved = set(settings["package-dir"])
    assert {".".join(folder.parts) for folder in folders} == set(settings["packages"]) - moved
    assert all((REPOSITORY / folder).is_dir() for folder in settings["package-dir"].values())
