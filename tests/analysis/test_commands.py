"""Commands that reproduce runs and tables."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from helpers.results import write_run

from mujoco_sail.agents import registry
from mujoco_sail.analysis import commands
from mujoco_sail.cli import _parser
from mujoco_sail.recipes.load import parse_seeds
from mujoco_sail.results.pooling import collect


def test_the_commands_train_the_same_runs_again(results: Path, tmp_path: Path) -> None:
    wanted = [
        ("hopper", "quick", "sail,pebble", ["agent.sail.lambda=0.3", "env.steps=20000"], [0, 1]),
        ("reacher", "quick", "sac", ["env.oracle.beta=2.5", "env.batch_size=32"], [4]),
        ("walker_walk", "paper", "sail", ["env.reward_range=[0.0, 2.0]"], [1, 2]),
    ]
    recorded = {}
    for env, protocol, agents, overrides, seeds in wanted:
        (task,), specs = registry.load(env, agents, protocol, overrides, "noisy+skip")
        for spec in specs:
            tables = registry.resolved(task, spec)
            recorded[env, spec.name] = (tables, seeds)
            changes = {
                f"{scope}.{key}": value
                for scope, table in tables.items()
                for key, value in table.items()
            }
            for seed in seeds:
                write_run(results, env, spec.name, seed, **changes)
    again = {}
    for line in commands.run_commands(collect(results), tmp_path / "a folder"):
        args = _parser().parse_args(shlex.split(line)[1:])
        assert (args.results, args.device) == (tmp_path / "a folder", "cpu")
        (task,), specs = registry.load(
            args.env, args.agents, args.protocol, args.overrides, args.teacher
        )
        for spec in specs:
            again[task.name, spec.name] = (
                registry.resolved(task, spec),
                parse_seeds(args.seeds),
            )
    assert again == recorded


def test_the_command_for_another_recipe_sets_all_values_it_might_not_have(results: Path) -> None:
    settings = {"hidden_units": 64, "backend": "envpool", "steps": 100_000, "id": "Their-v0"}
    settings |= {"horizon": "variable", "oracle": {"beta": 5.0}}
    changes = {f"env.{key}": value for key, value in settings.items()}
    write_run(results, "finger_spin", "calm", 0, **changes | {"env.protocol": "study"})
    (line,) = commands.run_commands(collect(results), results)
    assert "--env finger_spin.toml --agents calm.toml" in line
    overrides = _parser().parse_args(shlex.split(line)[1:]).overrides
    assert {"env.hidden_units=64", 'env.backend="envpool"'} <= {*overrides}
    assert {"env.oracle.beta=5.0", 'env.horizon="variable"'} <= {*overrides}
    assert "agent.calm.lambda=1.0" in overrides
    assert not [word for word in overrides if word.startswith(("env.steps=", "env.id="))]


def test_all_values_of_a_protocol_of_ones_own_are_set(results: Path) -> None:
    write_run(results, "finger_spin", "sac", 0, **{"env.protocol": "tiny", "env.steps": 20_000})
    (line,) = commands.run_commands(collect(results), results)
    assert "--protocol tiny" in line
    assert "env.steps=20000" in line


def test_an_agent_of_another_class_is_not_that_of_the_suite(results: Path) -> None:
    write_run(results, "hopper", "sail", 0, **{"agent.class": "mine:Mine"})
    write_run(results, "hopper", "pebble", 0, **{"agent.class": "mujoco_sail.agents.sail:SAIL"})
    (line,) = commands.run_commands(collect(results), results)
    assert "--agents pebble,sail.toml" in line
    overrides = _parser().parse_args(shlex.split(line)[1:]).overrides
    assert "agent.sail.lambda=1.0" in overrides


def test_agents_with_the_same_seeds_train_in_one_command(results: Path) -> None:
    arms = ("sail", "sail:SAIL", 3), ("pebble", "sail:SAIL", 3), ("sac", "sac:SAC", 2)
    for agent, cls, seeds in arms:
        for seed in range(seeds):
            changes = {"agent.class": f"mujoco_sail.agents.{cls}"}
            write_run(results, "hopper", agent, seed, answers=(), **changes)
    lines = commands.run_commands(collect(results), results)
    assert len(lines) == 2
    assert "--agents pebble,sail --seeds 3" in lines[0]
    assert "--agents sac --seeds 2" in lines[1]


@pytest.mark.usefixtures("three_arms")
def test_the_commands_of_the_analysis_are_valid(results: Path) -> None:
    lines = commands.analysis_commands(results / "a b", "sail", 0.2, poolable=True)
    parsed = [_parser().parse_args(shlex.split(line)[1:]) for line in lines]
    assert {args.results for args in parsed} == {results / "a b"}
    assert [args.margin for args in parsed if "margin" in args] == [0.2] * 3
