"""Commands that reproduce a results folder, as far as its files record them."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import tomli_w

from mujoco_sail.recipes.listing import shipped_name
from mujoco_sail.recipes.load import load_task, read_merged, read_recipe
from mujoco_sail.recipes.settings import dump
from mujoco_sail.results.read import RunRecord
from mujoco_sail.system.errors import UserError, one_line

# Keys that are set by another option, or are not settings.
ELSEWHERE = {"base", "class", "name", "protocol", "source", "teacher", "title"}
DEVICES = ("cpu", "cuda")


def run_commands(runs: Sequence[RunRecord], results: Path) -> list[str]:
    """Commands that train these runs: one per environment, seeds, device and settings.

    Values that differ from the recipes of the suite are set with `--set`. A recipe that is not in
    the suite is given as a file, and all values that it might not have are set.

    Args:
        runs: Poolable runs of any status; a run without `run.toml` has no command.
        results: Folder of the runs.
    """
    seeds: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for run in runs:
        if run.table:
            seeds[run.env, run.agent, str(run.table.get("device"))].append(run)
    groups: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for (_, _, device), arm in seeds.items():
        key = (arm[0].env, _seeds([run.seed for run in arm]), device, *_environment(arm[0]))
        groups[key].append(arm[0])
    commands = []
    for (env, numbers, device, *options), firsts in groups.items():
        agents, settings = zip(*map(_agent, firsts), strict=True)
        words = ["mujoco-sail", "run", "--env", env_recipe(env), "--agents", ",".join(agents)]
        words += ["--seeds", numbers, *options, *chain(*settings)]
        words += ["--device", device] if device in DEVICES else []
        commands.append(shlex.join([*words, "--results", str(results)]))
    return commands


def analysis_commands(results: Path, baseline: str, margin: float, *, poolable: bool) -> list[str]:
    """Commands that reproduce the tables, the figures and the report.

    Args:
        results: Folder of the runs.
        baseline: Agent that the others are compared with.
        margin: Margin of equivalence.
        poolable: Whether the environments can be pooled, which `table --across` needs.
    """
    folder = ["--results", str(results)]
    against = ["--baseline", baseline, "--margin", f"{margin:g}"]
    return [
        shlex.join(["mujoco-sail", *words])
        for words in (
            ["table", *folder, *against],
            *([["table", *folder, *against, "--across"]] if poolable else []),
            ["plot", *folder],
            ["report", *folder, *against],
        )
    ]


def command_beside(run: RunRecord, agents: Sequence[str], seeds: Sequence[int]) -> str:
    """Command that trains other agents with the same task as a run."""
    words = ["mujoco-sail", "run", "--env", env_recipe(run.env)]
    words += ["--agents", ",".join(agents), "--seeds", _seeds(seeds)]
    results = run.folder.parent.parent.parent
    return shlex.join([*words, *_environment(run), "--results", str(results)])


def _environment(run: RunRecord) -> list[str]:
    """Options for an environment."""
    table = run.table["env"]
    protocol, teacher = (one_line(table.get(key, "")) for key in ("protocol", "teacher"))
    options = ["--protocol", protocol]
    name = shipped_name("envs", run.env)
    if name is None:
        shared = read_recipe("envs", "base/protocols")[1]["protocols"].get(protocol, {})
        settings = {key: value for key, value in table.items() if key != "id"}
        return [*options, "--teacher", teacher, *_set("env", settings, _unset(settings) | shared)]
    try:
        usual = dump(load_task(name, protocol, {}))
        if usual["teacher"] != teacher:
            options += ["--teacher", teacher]
            usual = dump(load_task(name, protocol, {}, teacher))
    except UserError:
        return options  # the recipe no longer has this protocol or teacher
    return [*options, *_set("env", table, usual)]


def _agent(run: RunRecord) -> tuple[str, list[str]]:
    """Recipe of an agent, a file beside if the suite has none of its class, and its options."""
    table, scope = run.table["agent"], f"agent.{run.agent}"
    if name := shipped_name("agents", run.agent):
        _, usual = read_merged("agents", name)
        if table.get("class", usual["class"]) == usual["class"]:
            return name, _set(scope, table, usual)
    return f"{run.agent}.toml", _set(scope, table, _unset(table))


def _unset(table: Mapping[str, Any]) -> dict[str, Any]:
    """The same keys without values, so that `_set` sets all of them."""
    return {key: _unset(value) if isinstance(value, dict) else None for key, value in table.items()}


def _set(scope: str, table: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """`--set` options for values that differ from the usual ones, with nested tables."""
    words: list[str] = []
    for key, value in table.items():
        if key in ELSEWHERE or key not in usual or value == usual[key]:
            continue
        if isinstance(value, dict) and isinstance(usual[key], dict):
            words += _set(f"{scope}.{key}", value, usual[key])
        else:
            words += ["--set", f"{scope}.{key}={_literal(value)}"]
    return words


def _literal(value: Any) -> str:
    """Formats a value as TOML on one line."""
    text = tomli_w.dumps({"value": value}).removeprefix("value = ")
    return one_line(text)


def env_recipe(env: str) -> str:
    """Recipe of an environment of a run: its name in the suite, or that of a file beside."""
    return shipped_name("envs", env) or f"{env}.toml"


def _seeds(numbers: Sequence[int]) -> str:
    """Formats seeds for `--seeds`: their number if they are 0, 1, 2, ..., otherwise a list."""
    if list(numbers) == list(range(len(numbers))):
        return str(len(numbers))
    return ",".join(map(str, numbers)) + ("," if len(numbers) == 1 else "")
