"""`kill -9` while the model that edits is trained and while it draws: every file is that of an unbroken run."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml
from test_kill import killed_and_continued, some

MOMENTS = {
    "first checkpoint of the editor": ("finetune", lambda run: some(run, "finetune/checkpoints/edit/step-*")),
    "some of the edited images": ("generate", lambda run: some(run, "generate/images/*.png", 1, 8)),
}


@pytest.mark.slow  # four fresh processes
def test_an_editor_killed_and_continued(tmp_path: Path) -> None:
    tree = tiny.settings(tiny.photographs(tmp_path / "data"), tmp_path, tiny.sd15(tmp_path / "base"))
    prompts = yaml.safe_load((Path(__file__).parent / "panel.yaml").read_text())
    prompts["edits"] = {"brightness": ["make it {brightness}"]}
    (tmp_path / "panel.yaml").write_text(yaml.safe_dump(prompts, sort_keys=False))
    tree["dataset"]["prompts"] = str(tmp_path / "panel.yaml")
    tree["finetune"] |= {"steps": 2, "edit_steps": 8, "edits": {"procedural": 4, "transplant": 4, "scenes": 4}}
    tree["generate"] |= {"count": 8, "steps": 5, "batch_size": 1, "methods": {"edit": 1}, "region": "drawn"}
    run = killed_and_continued(tmp_path, tree, MOMENTS)
    assert (run / "finetune" / "edit" / "conv_in.safetensors").exists()
