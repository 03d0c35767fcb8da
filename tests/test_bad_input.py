"""User errors give one or two lines and exit code 2, before any run starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers.command_line import SMALL, fails, without_workers

from mujoco_sail.agents import registry
from mujoco_sail.cli import _parser, main

AGENT = """
title = "mine"
base = "pebble"
"""


def run_arguments(folder: Path, **changes: str) -> list[str]:
    options = {
        "env": "walker_stand",
        "agents": "pebble",
        "seeds": "1",
        "protocol": "quick",
        "results": str(folder / "out"),
        **changes,
    }
    return ["run", *(part for key, value in options.items() for part in [f"--{key}={value}"])]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"env": "walker_stan"}, ["'walker_stan'", "did you mean 'walker_stand'"]),
        ({"env": "nowhere.toml"}, ["no file 'nowhere.toml'"]),
        ({"env": "walker_stand,walker_stand"}, ["'walker_stand' is named twice"]),
        ({"agents": "pebbel"}, ["'pebbel'", "did you mean 'pebble'"]),
        ({"agents": "sail,sail"}, ["'sail' is named twice"]),
        ({"protocol": "quik"}, ["'quik'", "did you mean 'quick'"]),
        ({"teacher": "nosy"}, ["teacher 'nosy'", "did you mean 'noisy'"]),
        ({"teacher": "noisy+oracle"}, ["'noisy' and 'oracle' do not go together", "'beta' is 3.0"]),
        ({"teacher": "oracle+skip"}, ["'oracle' and 'skip' do not go together", "'skip' is 0.0"]),
        ({"teacher": "human+noisy"}, ["'human' is a person", "no other"]),
        ({"teacher": "human", "set": "env.oracle.beta=3"}, ["'human' is a person", "oracle.beta"]),
        ({"teacher": "human", "set": "env.backend=envpool"}, ["'backend'", "'human'"]),
        ({"teacher": "human", "agents": "pebble,pref_ppo"}, ["--teacher human", "pref_ppo"]),
        ({"teacher": "human", "cluster": "auto"}, ["--cluster", "--teacher human"]),
        ({"device": "tpu"}, ["tpu", "cpu"]),
        ({"seeds": "0"}, ["--seeds 0"]),
        ({"seeds": "1,1"}, ["--seeds 1,1", "different"]),
        ({"seeds": "-1,2"}, ["--seeds -1,2"]),
        ({"seeds": "two"}, ["--seeds two"]),
        ({"seeds": "1" + "0" * 12}, ["--seeds 1000000000000", "10000"]),
        ({"seeds": "0," + "9" * 19}, ["below 2^63"]),
        ({"results": ""}, ["--results", "invalid"]),
        ({"set": "env.stpes=5"}, ["unknown key 'stpes'", "did you mean 'steps'"]),
        ({"set": "env.steps=-5"}, ["'steps' is -5", ">= 1"]),
        ({"set": "env.steps=many"}, ["'steps' is 'many'", "whole number"]),
        ({"set": "env.steps=1.5"}, ["'steps' is 1.5", "whole number"]),
        ({"set": "env.steps=true"}, ["'steps' is True", "whole number"]),
        ({"set": "env.learning_rate=nan"}, ["'learning_rate' is nan"]),
        ({"set": "env.learning_rate=inf"}, ["'learning_rate' is inf"]),
        ({"set": "env.segment_steps=1001"}, ["'segment_steps' is 1001", "episode_steps = 1000"]),
        (
            {"set": "env.replay_capacity=99"},
            ["'segment_steps' is 50", "half of replay_capacity = 99"],
        ),
        ({"set": "env.candidates_per_label=10001"}, ["'candidates_per_label'", "at most 100000"]),
        ({"set": "agent.pebble.log_std_low=3"}, ["'log_std_high' is 2", "above log_std_low = 3"]),
        ({"set": "agent.pebble.log_std_low=-39"}, ["'log_std_high' is 2", "at most 40"]),
        ({"set": "env.labels=5"}, ["'labels' is 5", "labels_per_session = 10"]),
        ({"set": "env.labels=25"}, ["'labels' is 25", "multiple"]),
        ({"set": "env.evaluation_every=30000"}, ["'evaluation_every'", "steps = 25000"]),
        ({"set": "env.hidden_units=1000000000000"}, ["'hidden_units'", "<= 100000"]),
        ({"set": "env.hidden_layers=1000"}, ["'hidden_layers'", "<= 100"]),
        ({"set": "env.steps=" + "9" * 99}, ["'steps'", "whole number"]),
        ({"set": "env.name=mine"}, ["'name'", "the file's name"]),
        ({"set": "env.protocol=paper"}, ["'protocol'", "--protocol"]),
        ({"set": "env.oracle=1"}, ["'oracle'", "'teacher'"]),
        ({"set": "env.title=\x1b[2J"}, ["'title'", "control characters"]),
        ({"set": "env.precision=tf32", "device": "cpu"}, ["'precision' is 'tf32'", "on this cpu"]),
        ({"set": "env.horizon=endless"}, ["'endless'", "fixed, variable"]),
        ({"set": "env.reward_range=[1, 0]"}, ["'reward_range'", "low < high"]),
        ({"set": "env.reward_range=3"}, ["'reward_range'", "list of 2"]),
        ({"set": "env.goal_visible=false"}, ["'goal_visible'", "Meta-World"]),
        ({"set": "env.oracle.bet=1"}, ["'oracle.bet'", "oracle.beta"]),
        ({"set": "env.oracle.mistake=2"}, ["'mistake' is 2", "<= 1"]),
        ({"set": "env.id=Hoper-v5"}, ["'Hoper-v5'", "Hopper-v5"]),
        ({"set": "agent.pebble.lamda=1"}, ["'lamda'", "did you mean 'lambda'"]),
        ({"set": "agent.pebble.lambda=-1"}, ["'lambda' is -1", ">= 0"]),
        ({"set": "agent.pebble.queries=best"}, ["'best'", "disagreement"]),
        ({"set": "agent.sail.lambda=1"}, ["no agent 'sail'", "allowed: pebble"]),
        ({"set": "steps=5"}, ["steps=5", "env.KEY=VALUE"]),
        ({"set": "agent.sail=5"}, ["agent.sail=5", "agent.NAME.KEY=VALUE"]),
    ],
)
def test_an_invalid_argument_gives_an_error_with_the_allowed_values(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    parts: list[str],
) -> None:
    said = fails(capsys, *run_arguments(tmp_path, **changes))
    for part in parts:
        assert part in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("title = ", ["mine.toml", "not valid TOML"]),
        ("\x00", ["mine.toml", "not valid TOML"]),
        ('title = "x"', ["mine.toml", "missing key 'class'"]),
        (
            AGENT + 'class = "nowhere.at.all:Agent"',
            ["'nowhere.at.all:Agent'", "cannot be imported"],
        ),
        (AGENT + 'class = "mujoco_sail.agents.sac:Sack"', ["Sack", "expected module:Class"]),
        (AGENT + 'class = "mujoco_sail.agents.sac"', ["expected module:Class"]),
        (AGENT + 'class = "pathlib:Path"', ["'pathlib:Path'", "subclass of mujoco_sail"]),
        (AGENT + 'class = "mujoco_sail.agents.base:Agent"', ["agents.base:Agent", "abstract"]),
        (AGENT + "lambda = true", ["'lambda' is True", "a number"]),
        (AGENT + "gamma = 1.0", ["unknown key 'gamma'"]),
        (AGENT.replace("pebble", "pebbles"), ["no recipe 'pebbles'", "did you mean 'pebble'"]),
        (AGENT.replace('"pebble"', "3"), ["'base' is 3", "a string"]),
        (AGENT.replace("pebble", "mine"), ["'base'", "its own base"]),
        ('title = "x"\nclass = "mujoco_sail.agents.sac:SAC"', ["missing key 'discount'"]),
    ],
)
def test_an_invalid_agent_recipe_gives_an_error_with_file_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, parts: list[str]
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(text)
    said = fails(capsys, *run_arguments(tmp_path, agents=str(recipe)))
    for part in parts:
        assert part in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[protocols", ["env.toml", "not valid TOML"]),
        ('title = "x"', ["env.toml", "missing table 'protocols'"]),
        ("protocols = 3", ["env.toml", "missing table 'protocols'"]),
        ('base = "walker_stand"\ncolour = 1', ["unknown key 'colour'"]),
        ('base = "walker_stand"\n[protocols.quick]\nsteps = "x"', ["'steps' is 'x'"]),
    ],
)
def test_an_invalid_environment_recipe_gives_an_error_with_file_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, parts: list[str]
) -> None:
    recipe = tmp_path / "env.toml"
    recipe.write_text(text)
    said = fails(capsys, *run_arguments(tmp_path, env=str(recipe)))
    for part in parts:
        assert part in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_refused_on_a_machine_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no CUDA device" in fails(capsys, *run_arguments(tmp_path, device="cuda"))


def test_an_unwritable_results_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    said = fails(capsys, *run_arguments(tmp_path, results=str(occupied / "out")))
    assert str(occupied) in said
    assert "cannot be written" in said
    assert occupied.read_text() == ""


def test_a_folder_with_a_run_of_another_recipe_is_refused_and_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*run_arguments(tmp_path, env="inverted_pendulum", agents="sac"), *SMALL]
    with without_workers():
        assert main(arguments) == 0
    folder = tmp_path / "out" / "inverted_pendulum" / "sac" / "seed_0"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    said = fails(capsys, *arguments, "--set", "env.learning_rate=0.5")
    assert "env.learning_rate" in said
    assert "0.5" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_module_that_exits_during_import_gives_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "leaves.py").write_text("raise SystemExit('bye')")
    (tmp_path / "mine.toml").write_text(AGENT + 'class = "leaves:Agent"')
    said = fails(capsys, *run_arguments(tmp_path, agents=str(tmp_path / "mine.toml")))
    assert "'leaves:Agent'; it cannot be imported: bye" in said


@pytest.mark.parametrize("name", ["..", ".x", "[red]", "{x}", "a b", "a\nb"])
def test_a_recipe_with_an_unsafe_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    recipe = tmp_path / f"{name}.toml"
    recipe.write_text(AGENT)
    assert "is no valid name" in fails(capsys, *run_arguments(tmp_path, agents=str(recipe)))
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000])
@pytest.mark.parametrize("command", ["table", "plot", "report", "run"])
def test_an_invalid_path_is_refused(
    capsys: pytest.CaptureFixture[str], command: str, path: str
) -> None:
    more = ["--env=hopper", "--protocol=quick"] if command == "run" else []
    fails(capsys, command, *more, f"--results={path}")


@pytest.mark.parametrize(
    "words",
    [
        ["table", "--results=~/x"],
        ["plot", "--out=~/x"],
        ["report", "--out=~/x"],
        ["run", "--env=ant", "--results=~/x"],
        ["theory", "--out=~/x"],
        ["speed", "--out=~/x"],
        ["export", "~/x"],
        ["export", "run", "--out=~/x"],
        ["watch", "ant", "~/x", "--out=clip.mp4"],
        ["watch", "ant", "policy", "--out=~/x"],
    ],
)
def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Path("/home/me/x") in vars(_parser().parse_args(words)).values()


def test_a_tilde_in_the_path_of_a_recipe_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text(AGENT)
    assert registry.load("ant", "sac,~/mine.toml", "quick", [], None)[1][1].name == "mine"


@pytest.mark.parametrize("command", ["table", "plot", "report"])
def test_an_empty_results_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = fails(capsys, command, "--results", str(tmp_path))
    assert str(tmp_path) in said


@pytest.mark.parametrize("arguments", [[], ["rum"], ["run"], ["table", "--format", "html"]])
def test_an_invalid_command_line_gives_a_one_line_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert len(fails(capsys, *arguments).splitlines()) == 1
