"""Declaration of the settings of an agent."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command_line import fails

PROGRAM = """
from dataclasses import dataclass
from mujoco_sail.agents.sail import SAIL, SAILSettings

@dataclass(frozen=True, kw_only=True)
class MineSettings(SAILSettings):
    lr: float = 3e-4

class Mine(SAIL):
    Settings = MineSettings
"""


def test_a_setting_that_is_not_declared_with_setting_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM)
    recipe = tmp_path / "mine.toml"
    recipe.write_text('title = "mine"\nbase = "sail"\nclass = "mine:Mine"\nlr = 0.1\n')
    said = fails(capsys, "run", "--env", "half_cheetah", "--agents", str(recipe))
    assert "field 'lr' of its Settings is not declared with mujoco_sail.recipes.setting" in said
