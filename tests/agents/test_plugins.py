"""Plug-ins: import of agent classes next to their recipes, here and in workers."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.command_line import fails, overrides
from helpers.plugins import AGENT, RECIPE, load, source, write_plugin
from helpers.tiny import TINY

from mujoco_sail.agents import plugins, registry
from mujoco_sail.agents.base import Member
from mujoco_sail.cli import main
from mujoco_sail.system.errors import UserError
from mujoco_sail.training import pool


def test_plug_ins_of_two_folders_train_in_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = [write_plugin(tmp_path / "a", 1, "one")]
    agents += [write_plugin(tmp_path / "b", 2, "two", prefix="other_")]
    monkeypatch.setattr(pool, "max_workers", lambda device: 2)
    small = overrides(TINY)
    options = ["--env=half_cheetah", f"--agents={','.join(agents)}", "--seeds=1"]
    options += ["--protocol=quick", "--device=cpu", f"--results={tmp_path / 'out'}"]
    assert main(["run", *options, *small]) == 0
    for name, number in (("one", 1), ("two", 2)):
        folder = tmp_path / "out" / "half_cheetah" / name / "seed_0"
        assert set(pd.read_csv(folder / "training.csv")["number"]) == {number}
    assert main(["table", "--results", str(tmp_path / "out"), "--baseline", "one"]) == 0


def test_equal_module_names_in_two_folders_of_one_command_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agents = [write_plugin(tmp_path / "a", 1, "one"), write_plugin(tmp_path / "b", 2, "two")]
    said = fails(capsys, "run", "--env=half_cheetah", f"--agents={','.join(agents)}")
    assert f"{tmp_path}/a/agent.py and {tmp_path}/b/agent.py have the same name" in said


def test_two_recipes_of_one_folder_share_a_stack(tmp_path: Path) -> None:
    """Also with two different paths of the folder."""
    agents = [write_plugin(tmp_path, 1, "one"), write_plugin(tmp_path / "b" / "..", 1, "two")]
    _, (one, two) = registry.load("half_cheetah", ",".join(agents), "quick", [], None)
    assert one.agent is two.agent
    assert len(pool.stacks_of_workers([Member(one, 0), Member(two, 0)], 1)[0]) == 1


def test_equal_module_names_in_two_folders_give_two_stacks(tmp_path: Path) -> None:
    """Two commands in one process, as in a notebook, may use different folders."""
    one, two = load(write_plugin(tmp_path / "a", 1)), load(write_plugin(tmp_path / "b", 2))
    assert (one.agent.number, two.agent.number) == (1, 2)  # type: ignore[attr-defined]
    members = [Member(one, 0), Member(two, 0), Member(one, 1)]
    assert [[m.spec for m in stack] for stack in pool.stacks_of_workers(members, 1)[0]] == [
        [one, one],
        [two],
    ]


def test_files_next_to_a_recipe_do_not_shadow_libraries(tmp_path: Path) -> None:
    recipe = write_plugin(tmp_path, 1)
    for name in ("random", "torch", "numpy", "mujoco_sail", "stable_baselines3"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadowed')")
    before = [*sys.path]
    assert load(recipe).agent.number == 1  # type: ignore[attr-defined]
    assert sys.path == before
    assert sys.modules["torch"] is torch
    assert sys.modules["random"] is random
    assert not [*tmp_path.rglob("__pycache__")]


def test_the_suite_is_never_imported_from_the_folder_of_a_recipe(tmp_path: Path) -> None:
    """The recipe lies in another checkout."""
    copy = tmp_path / "mujoco_sail" / "agents"
    copy.mkdir(parents=True)
    (copy / "sail.py").write_text("raise ImportError('another checkout')")
    (tmp_path / "mine.toml").write_text('title = "x"\nbase = "sail"')
    assert load(str(tmp_path / "mine.toml")).agent is load("sail").agent
    text = 'title = "x"\nbase = "sail"\nclass = "mujoco_sail.agents.sail:SAIL"'
    (tmp_path / "mine.toml").write_text(text)
    assert load(str(tmp_path / "mine.toml")).agent is load("sail").agent


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Recipe of an installed class, in modules with the names of `write_plugin`."""
    for name in ("agent", "common"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(plugins, "_known", {})
    write_plugin(tmp_path / "site", 2)
    monkeypatch.syspath_prepend(tmp_path / "site")
    recipe = tmp_path / "installed.toml"
    recipe.write_text(RECIPE)
    return str(recipe)


def test_modules_next_to_a_recipe_precede_installed_ones(tmp_path: Path, installed: str) -> None:
    assert load(write_plugin(tmp_path / "a", 1)).agent.number == 1  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=f"'agent' is already the name of {tmp_path}/a/agent.py"):
        load(installed)


def test_a_module_with_the_name_of_an_imported_one_is_refused(
    tmp_path: Path, installed: str
) -> None:
    assert load(installed).agent.number == 2  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"a/agent\.py: 'agent' is already") as error:
        load(write_plugin(tmp_path / "a", 1))
    assert f"{tmp_path}/site/agent.py" in str(error.value)


def test_a_script_may_import_the_plug_in_before_it_is_loaded(
    tmp_path: Path, installed: str
) -> None:
    import agent  # type: ignore[import-not-found]

    assert agent.X.number == 2
    assert load(write_plugin(tmp_path / "site", 3)).agent.number == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["random", "wave", "ray"])
def test_a_module_with_the_name_of_a_library_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text(AGENT)
    (tmp_path / "mine.toml").write_text(RECIPE.replace("agent:X", f"{name}:X"))
    with pytest.raises(UserError, match=f"{name}.py: '{name}' is already the name of") as error:
        load(str(tmp_path / "mine.toml"))
    assert len(str(error.value).splitlines()) == 1


def test_a_package_next_to_a_recipe_can_import_its_modules(tmp_path: Path) -> None:
    package = tmp_path / "mine" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "mine" / "__init__.py").write_text("")
    (package / "names.py").write_text("from .. import numbers_\nNUMBER = numbers_.NUMBER")
    (tmp_path / "mine" / "numbers_.py").write_text("NUMBER = 7")
    text = AGENT.replace("import common", "import mine.inner.names as common")
    (package / "agents.py").write_text(text)
    (tmp_path / "mine.toml").write_text(RECIPE.replace("agent:X", "mine.inner.agents:X"))
    spec = load(str(tmp_path / "mine.toml"))
    assert spec.agent.number == 7  # type: ignore[attr-defined]
    before = source(spec)
    (tmp_path / "mine" / "numbers_.py").write_text("NUMBER = 8")
    assert source(load(str(tmp_path / "mine.toml"))) != before


def test_a_class_may_lie_next_to_the_base_recipe_that_names_it(tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", 1, "one")
    (tmp_path / "b").mkdir()
    derived = tmp_path / "b" / "two.toml"
    derived.write_text('base = "../a/one.toml"\ntitle = "derived"\npenalty = 0.25')
    spec = load(str(derived))
    assert (spec.agent.number, spec.settings.penalty) == (1, 0.25)  # type: ignore[attr-defined]


def test_a_worker_runs_the_source_that_the_command_read(tmp_path: Path) -> None:
    recipe = write_plugin(tmp_path / "a", 1)
    pickled = pickle.dumps(Member(load(recipe), 0))
    write_plugin(tmp_path / "a", 2, late="raise ImportError")
    script = (
        "import pickle, sys; member = pickle.load(sys.stdin.buffer); "
        "print(member.spec.agent.number, member.settings.penalty)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=pickled, capture_output=True, check=True
    )
    assert done.stdout == b"1 0.5\n"
    assert load(recipe).agent.number == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["name", "source", "title"])
def test_a_setting_with_a_reserved_name_is_refused(tmp_path: Path, key: str) -> None:
    recipe = write_plugin(tmp_path, 1)
    text = AGENT.replace("penalty: float", f"{key}: float")
    (tmp_path / "agent.py").write_text(text)
    with pytest.raises(UserError, match=f"Settings have '{key}'"):
        load(recipe)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"agent": "def"}, "invalid syntax"),
        ({"common": "def"}, "invalid syntax"),
        ({"agent": "\0"}, "null bytes"),
        ({"common": "import nowhere_at_all"}, "nowhere_at_all"),
        ({"common": "raise SystemExit('bye')"}, "bye"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_gives_a_one_line_error(
    tmp_path: Path, texts: dict[str, Any], reason: str
) -> None:
    recipe = write_plugin(tmp_path, 1)
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(UserError, match=r"mine\.toml: key 'class'.*cannot be imported") as error:
        load(recipe)
    assert reason in str(error.value)
    assert len(str(error.value).splitlines()) == 1
