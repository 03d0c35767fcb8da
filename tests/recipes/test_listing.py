"""The command `list`: environments by family with what they offer, and agents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mujoco_sail.cli import main
from mujoco_sail.recipes import listing, load
from mujoco_sail.recipes.ids import family
from mujoco_sail.recipes.load import load_task, recipe_names

TEXT_TASKS = "Text tasks, on which agents align a language model"


def groups() -> dict[str, dict[str, str]]:
    """The rest of each line by name, by the first words of the heading."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in listing.lines():
        if line.startswith("  "):
            name, rest = line.split(maxsplit=1)
            found[heading][name] = re.sub(" +", " ", rest)
        else:
            heading = line.split("  ")[0]
            found[heading] = {}
    return found


def test_every_environment_is_listed_once_in_its_family_and_every_agent() -> None:
    found = groups()
    families = ["DeepMind Control", "Meta-World", "Gymnasium"]
    assert [*found] == [*families, "Agents", TEXT_TASKS, "Agents for text tasks"]
    assert [*found.pop("Agents")] == recipe_names("agents")
    assert [*found.pop(TEXT_TASKS)] == ["language/echo", "language/reverse", "language/vowels"]
    assert "language/sail_revkl_lm" in found.pop("Agents for text tasks")
    for name in recipe_names("envs"):
        (group,) = (group for group, names in found.items() if name in names)
        assert group == family(load_task(name, "quick", {}).id)
    assert sum(map(len, found.values())) == len(recipe_names("envs")) == 21


def test_a_line_says_horizon_success_and_envpool() -> None:
    found = groups()
    assert found["Meta-World"]["hammer"].startswith("fixed 500 yes no Meta-World hammer: ")
    assert found["Meta-World"]["door_open"].startswith("fixed 500 yes yes ")
    assert found["DeepMind Control"]["walker_walk"].startswith("fixed 1000 no yes ")
    assert found["Gymnasium"]["hopper"].startswith("fixed 1000 no no ")


def test_an_environment_with_variable_horizon_terminates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = 'id = "Hopper-v5"\ntitle = "hops"\nepisode_steps = 7\nhorizon = "variable"\n'
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setattr(load, "recipe_folder", lambda kind: tmp_path)
    assert main(["list"]) == 0
    assert "  mine               terminates 7 no       no       hops" in capsys.readouterr().out
