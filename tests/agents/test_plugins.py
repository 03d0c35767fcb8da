"""Agent classes from outside the suite: loaded by place, known by what they were made of."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.command_line import overrides
from helpers.tiny import TINY, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import AgentSpec, Member
from mujoco_sail.cli import main
from mujoco_sail.results.checkpoint import MemberState
from mujoco_sail.results.pooling import collect
from mujoco_sail.results.write import RunWriter, run_folder, status_of
from mujoco_sail.system.errors import UserError
from mujoco_sail.training import pool

# A program of three modules, one of them imported late; training.csv says what it is.
AGENT = """
from __future__ import annotations

import random
from dataclasses import dataclass

import torch

import common
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.recipes import setting

random.random(), torch.ones(1)


@dataclass(frozen=True, kw_only=True)
class XSettings(SAILSettings):
    penalty: float = setting(low=0)


class X(SAIL):
    Settings = XSettings
    number = common.NUMBER

    def metrics(self):
        import late

        numbers = torch.full((len(self.runner.members),), float(common.NUMBER + late.MORE))
        return {**super().metrics(), "program": numbers}
"""
RECIPE = 'title = "x"\nbase = "pebble"\nclass = "agent:X"\npenalty = 0.5\n'


def program(folder: Path, number: int, recipe: str = "mine", late: str = "MORE = 0") -> str:
    """Writes a program and its recipe; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agent.py").write_text(AGENT)
    (folder / "common.py").write_text(f"NUMBER = {number}")
    (folder / "late.py").write_text(late)
    (folder / f"{recipe}.toml").write_text(RECIPE)
    return str(folder / f"{recipe}.toml")


def load(recipe: str) -> AgentSpec:
    return registry.load_spec(recipe, {})


def source(spec: AgentSpec) -> str:
    return registry.resolved(tiny_task(), spec)["agent"]["source"]


def test_two_programs_of_equal_names_train_each_as_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = [program(tmp_path / "a", 1, "one"), program(tmp_path / "b", 2, "two")]
    monkeypatch.setattr(pool, "max_workers", lambda device: 2)
    small = overrides(TINY)
    options = ["--env=half_cheetah", f"--agents={','.join(agents)}", "--seeds=1"]
    options += ["--protocol=quick", "--device=cpu", f"--results={tmp_path / 'out'}"]
    assert main(["run", *options, *small]) == 0
    digests = set()
    for name, number in (("one", 1), ("two", 2)):
        folder = tmp_path / "out" / "half_cheetah" / name / "seed_0"
        assert set(pd.read_csv(folder / "training.csv")["program"]) == {number}
        digests.add(tomllib.loads((folder / "run.toml").read_text())["agent"]["source"])
    assert len(digests) == 2
    assert all(digest.startswith("sha256:") for digest in digests)
    assert main(["table", "--results", str(tmp_path / "out"), "--baseline", "one"]) == 0


def test_equal_names_in_two_folders_are_two_stacks(tmp_path: Path) -> None:
    one, two = load(program(tmp_path / "a", 1)), load(program(tmp_path / "b", 2))
    assert (one.agent.number, two.agent.number) == (1, 2)  # type: ignore[attr-defined]
    members = [Member(one, 0), Member(two, 0), Member(one, 1)]
    assert [[m.spec for m in stack] for stack in pool.shards(members, 1)[0]] == [
        [one, one],
        [two],
    ]


def test_what_lies_beside_a_recipe_shadows_no_library(tmp_path: Path) -> None:
    recipe = program(tmp_path, 1)
    for name in ("random", "torch", "numpy", "mujoco_sail", "stable_baselines3"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadowed')")
    before = [*sys.path]
    assert load(recipe).agent.number == 1  # type: ignore[attr-defined]
    assert sys.path == before
    assert sys.modules["torch"] is torch
    assert sys.modules["random"] is random
    assert not {"agent", "common", "late"} & sys.modules.keys()
    assert not [*tmp_path.rglob("__pycache__")]


def test_the_suite_is_never_taken_from_beside_a_recipe(tmp_path: Path) -> None:
    """As where a recipe lies in another checkout."""
    copy = tmp_path / "mujoco_sail" / "agents"
    copy.mkdir(parents=True)
    (copy / "sail.py").write_text("raise ImportError('another checkout')")
    (tmp_path / "mine.toml").write_text('title = "x"\nbase = "sail"')
    assert load(str(tmp_path / "mine.toml")).agent is load("sail").agent
    text = 'title = "x"\nbase = "sail"\nclass = "mujoco_sail.agents.sail:SAIL"'
    (tmp_path / "mine.toml").write_text(text)
    assert load(str(tmp_path / "mine.toml")).agent is load("sail").agent


def test_what_lies_beside_a_recipe_goes_before_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "site", 2)
    monkeypatch.syspath_prepend(tmp_path / "site")
    beside, alone = program(tmp_path / "a", 1), tmp_path / "b" / "mine.toml"
    alone.parent.mkdir()
    alone.write_text(RECIPE)
    try:
        assert load(beside).agent.number == 1  # type: ignore[attr-defined]
        assert load(str(alone)).agent.number == 2  # type: ignore[attr-defined]
    finally:
        for name in ("agent", "common"):
            sys.modules.pop(name, None)


def test_a_package_beside_a_recipe_imports_its_own_modules(tmp_path: Path) -> None:
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


def test_a_class_may_lie_beside_the_base_that_names_it(tmp_path: Path) -> None:
    program(tmp_path / "a", 1, "one")
    (tmp_path / "b").mkdir()
    derived = tmp_path / "b" / "two.toml"
    derived.write_text('base = "../a/one.toml"\ntitle = "derived"\npenalty = 0.25')
    spec = load(str(derived))
    assert (spec.agent.number, spec.settings.penalty) == (1, 0.25)  # type: ignore[attr-defined]


def test_the_digest_covers_what_a_program_imports_and_nothing_else(tmp_path: Path) -> None:
    recipe = program(tmp_path / "a", 1)
    first = source(load(recipe))
    assert source(load(program(tmp_path / "b", 1))) == first
    (tmp_path / "a" / "notes.py").write_text("raise ImportError")
    assert source(load(recipe)) == first
    digests = {first}
    for name, text in (("late", "MORE = 1"), ("common", "NUMBER = 3"), ("agent", AGENT + "\n")):
        (tmp_path / "a" / f"{name}.py").write_text(text)
        digests.add(source(load(recipe)))
    assert len(digests) == 4


def test_the_suites_own_classes_have_no_digest() -> None:
    for name in ("sail", "sb3_sac"):
        assert "source" not in registry.resolved(tiny_task(), load(name))["agent"]


def test_the_digest_of_an_installed_class_covers_its_package_as_far_as_it_imports_it(
    tmp_path: Path,
) -> None:
    script = "import sys; from test_plugins import *; print(source(load(sys.argv[1])))"
    (tmp_path / "mine.toml").write_text(RECIPE.replace("agent:X", "lab.agent:X"))
    path = [str(Path(__file__).parent), str(Path(__file__).parent.parent), str(tmp_path / "site")]

    def digest() -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "mine.toml")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, *path])},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    program(tmp_path / "site" / "lab", 1)
    text = AGENT.replace("import common", "from lab import common")
    (tmp_path / "site" / "lab" / "agent.py").write_text(text)
    first = digest()
    assert first.startswith("sha256:")
    (tmp_path / "site" / "lab" / "late.py").write_text("# no module of the package imports it")
    (tmp_path / "site" / "late.py").write_text("# the package next to it")
    assert digest() == first
    (tmp_path / "site" / "lab" / "common.py").write_text("NUMBER = 20")
    assert digest() != first


def test_a_worker_runs_the_text_that_the_command_read(tmp_path: Path) -> None:
    recipe = program(tmp_path / "a", 1)
    pickled = pickle.dumps(Member(load(recipe), 0))
    program(tmp_path / "a", 2, late="raise ImportError")
    script = (
        "import pickle, sys; member = pickle.load(sys.stdin.buffer); "
        "print(member.spec.agent.number, member.settings.penalty)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=pickled, capture_output=True, check=True
    )
    assert done.stdout == b"1 0.5\n"
    assert load(recipe).agent.number == 2  # type: ignore[attr-defined]


def complete_run(results: Path, spec: AgentSpec, seed: int) -> RunWriter:
    task = tiny_task()
    files = RunWriter(run_folder(results, task, spec.name, seed), task, spec, seed, "cpu")
    files.begin(None)
    files.add_evaluation(75, 1.0, 0.0, 1, "", 0)
    files.write_status("complete", 1.0)
    return files


def test_runs_of_different_programs_are_neither_pooled_nor_gone_on_with(tmp_path: Path) -> None:
    old, new = load(program(tmp_path / "a", 1)), load(program(tmp_path / "b", 2))
    files = complete_run(tmp_path / "out", old, 0)
    assert status_of(files.folder, tiny_task(), old) == "complete"
    with pytest.raises(UserError, match=r"agent\.source is 'sha256:.* there and 'sha256:"):
        status_of(files.folder, tiny_task(), new)

    files.checkpoints.write(MemberState(75, {}, {}, files.state(0.0)))
    again = RunWriter(files.folder, tiny_task(), new, 0, "cpu")
    with pytest.raises(UserError, match=r"another run: agent\.source"):
        again.checkpoints.read(75)

    complete_run(tmp_path / "out", old, 1)
    assert len(collect(tmp_path / "out")) == 2
    complete_run(tmp_path / "out", new, 2)
    with pytest.raises(UserError, match=r"differ in agent\.source"):
        collect(tmp_path / "out")


@pytest.mark.parametrize("key", ["name", "source", "title"])
def test_a_setting_cannot_be_called_like_another_key_of_a_run(tmp_path: Path, key: str) -> None:
    recipe = program(tmp_path, 1)
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
def test_a_program_that_cannot_be_loaded_is_named_in_one_line(
    tmp_path: Path, texts: dict[str, Any], reason: str
) -> None:
    recipe = program(tmp_path, 1)
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(UserError, match=r"mine\.toml: key 'class'.*cannot be imported") as error:
        load(recipe)
    assert reason in str(error.value)
    assert len(str(error.value).splitlines()) == 1
