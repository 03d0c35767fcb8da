"""Search paths of recipes and their bases, and working folders of the command."""

from __future__ import annotations

import codecs
import re
import sys
from pathlib import Path

import pytest

from mujoco_sail.cli import main
from mujoco_sail.recipes import load
from mujoco_sail.recipes.load import load_task, read_recipe
from mujoco_sail.system.errors import UserError

ROOT = Path(load.__file__).resolve().parents[2]
SPIN = 'base = "base/protocols.toml"\nid = "dm_control/finger-spin-v0"\nepisode_steps = 1000\n'
SPIN += 'title = "{}"\nhorizon = "fixed"\ngoal_visible = true\nreward_range = [0.0, 1.0]\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working folder that has been removed."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


def test_the_environment_of_the_docs_is_found_from_an_empty_folder(here: Path) -> None:
    page = (ROOT / "docs/environments.md").read_text("utf-8")
    section = page.split("## Adding an environment")[1]
    text = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)[0]
    assert len(text.splitlines()) == 3
    (here / "spin.toml").write_text(text, "utf-8")
    task = load_task("spin.toml", "quick", {})
    assert (task.name, task.id) == ("spin", "dm_control/finger-spin-v0")
    assert task.steps == load_task("walker_walk", "quick", {}).steps


def test_a_base_beside_the_recipe_has_priority_over_the_suites(here: Path) -> None:
    (here / "base").mkdir()
    own = 'base = "walker_walk"\n[protocols.quick]\nbatch_size = 3\n'
    (here / "base" / "protocols.toml").write_text(own)
    (here / "spin.toml").write_text(SPIN.format("finger"))
    assert load_task("spin.toml", "quick", {}).batch_size == 3


@pytest.mark.parametrize("base", ["nowhere.toml", "nowhere"])
def test_a_missing_base_is_named_with_the_recipe_that_names_it(here: Path, base: str) -> None:
    (here / "mine.toml").write_text(f'base = "{base}"')
    with pytest.raises(UserError, match=rf"mine\.toml: key 'base': no \w+ '{base}'"):
        load_task("mine.toml", "quick", {})


def test_a_path_on_the_command_line_is_not_searched_in_the_suites_folder(here: Path) -> None:
    with pytest.raises(UserError, match=r"no file 'walker_walk\.toml'"):
        read_recipe("envs", "walker_walk.toml")


def test_a_cycle_of_bases_is_detected_for_any_spelling_of_its_paths(here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "mine.toml").write_text('base = "../a/mine.toml"')
    with pytest.raises(UserError, match="its own base"):
        load_task("a/mine.toml", "quick", {})


def test_a_path_may_have_spaces_and_letters_of_any_language(here: Path) -> None:
    folder = here / "mes tâches 課題"
    folder.mkdir()
    (folder / "größe.toml").write_text(SPIN.format("doigt à tourner"), "utf-8")
    task = load_task("mes tâches 課題/größe.toml", "quick", {})
    assert (task.name, task.title) == ("größe", "doigt à tourner")


def test_a_recipe_is_read_as_editors_on_windows_save_it(here: Path) -> None:
    text = SPIN.format("größer").replace("\n", "\r\n")
    (here / "spin.toml").write_bytes(codecs.BOM_UTF8 + text.encode())
    assert load_task("spin.toml", "quick", {}).title == "größer"


def test_characters_that_the_terminal_lacks_are_printed_as_escapes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "recipe_folder", lambda kind: here)
    (here / "spin.toml").write_text('title = "größer"', "utf-8")
    with (here / "output").open("w", encoding="ascii") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["list"]) == 0
    assert r"gr\xf6\xdfer" in (here / "output").read_text("ascii")


@pytest.mark.usefixtures("gone")
def test_a_removed_working_folder_gives_a_one_line_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--env", "reacher", "--agents", "sac"]) == 2
    said = capsys.readouterr().err
    assert "the working folder cannot be used: No such file" in said
    assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("gone")
def test_recipes_load_in_a_removed_working_folder(tmp_path: Path) -> None:
    (tmp_path / "spin.toml").write_text(SPIN.format("finger"))
    assert load_task("reacher", "quick", {}).name == "reacher"
    assert load_task(str(tmp_path / "spin.toml"), "quick", {}).name == "spin"
    with pytest.raises(UserError, match="no file 'spin"):
        load_task("spin.toml", "quick", {})
