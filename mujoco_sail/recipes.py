"""From TOML files to frozen, validated recipes.

An environment recipe under one protocol becomes a `Task`; an agent recipe becomes an
`Entry`. Numbers live in TOML only, types and meanings in the dataclasses only.

An agent recipe names code: `load_entry` imports the module of its class, on purpose. Nothing else
that is read here runs. (Whoever makes the environment lets Gymnasium import the module of an id
such as `module:Name-v0`.)
"""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

from mujoco_sail.agents.base import Agent
from mujoco_sail.settings import (
    RecipeError,
    build,
    check_name,
    dump,
    nearest,
    one_line,
    parse_toml,
    read_toml,
)
from mujoco_sail.task import Task

Kind = Literal["envs", "agents", "plots"]
MOST_SEEDS = 10_000
# Keys of a task that no recipe has, and what they come from.
SOURCES = {
    "name": "it is the file's name",
    "protocol": "it is --protocol",
    "oracle": "it is what 'teacher' names; change env.oracle.KEY",
}
HEADINGS: dict[Kind, str] = {"envs": "Environments", "agents": "Agents"}


@dataclass(frozen=True)
class Entry:
    """One line of a benchmark: an agent class with all its hyperparameters.

    Attributes:
        name: Name in tables and result folders.
        title: One line for `mujoco-sail list`.
        path: `package.module:Class` of the agent.
        agent: The class.
        settings: Instance of the class's `Settings`.
    """

    name: str
    title: str
    path: str
    agent: type[Agent]
    settings: Any


def folder(kind: Kind) -> Path:
    """Folder of the recipes: the checkout's where there is one, else the wheel's."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / kind
    if (package.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    return package / "recipes" / kind


def names(kind: Kind) -> list[str]:
    """Names of the recipes that the suite ships."""
    return sorted(path.stem for path in folder(kind).glob("*.toml"))


def read(kind: Kind, name: str, beside: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Reads a recipe by name or by path.

    Args:
        kind: Folder that names are looked up in.
        name: Name, or path of a TOML file.
        beside: Recipe whose folder is searched first (for `base`).

    Raises:
        RecipeError: There is no such recipe, it is not TOML, or its name would be no name for a
            folder of results.
    """
    own = Path.cwd() if beside is None else beside.parent
    if name.endswith(".toml"):
        candidates = [own / name]
        missing = f"no file '{name}'"
    else:
        homes = [folder(kind)] if beside is None else [own, folder(kind)]
        candidates = [home / f"{name}.toml" for home in homes]
        missing = f"no recipe '{name}' in {kind}/; {nearest(name, names(kind))}"
    # Path.is_file would raise where a name is too long.
    path = next((path for path in candidates if os.path.isfile(path)), None)
    if path is None:
        raise RecipeError(missing)
    check_name(path.stem, path)
    return path, read_toml(path)


def title(kind: Kind, name: str) -> str:
    """One line about a recipe."""
    return one_line(_with_bases(kind, *read(kind, name))[1].get("title", ""))


def load(
    envs: str, agents: str, protocol: str, overrides: Sequence[str], teacher: str | None
) -> tuple[list[Task], list[Entry]]:
    """Resolves what a command line names.

    Args:
        envs: Names or paths of environment recipes, joined by commas.
        agents: Names or paths of agent recipes, joined by commas.
        protocol: Protocol of every environment.
        overrides: `--set` arguments.
        teacher: Teachers joined by `+`, in place of the recipes'.

    Raises:
        RecipeError: Whatever is wrong with any of them.
    """
    env_names, agent_names = envs.split(","), agents.split(",")
    stems = {"--env": env_names, "--agents": agent_names}
    for flag, listed in stems.items():
        short = [_stem(name) for name in listed]
        if repeated := [name for name in short if short.count(name) > 1]:
            raise RecipeError(f"{flag}: '{repeated[0]}' is named twice")
    for_task, for_agents = split_overrides(overrides, [_stem(name) for name in agent_names])
    tasks = [load_task(name, protocol, for_task, teacher) for name in env_names]
    return tasks, [load_entry(name, for_agents[_stem(name)]) for name in agent_names]


def parse_seeds(text: str) -> list[int]:
    """Seeds from `3` (0, 1 and 2) or from a list such as `0,4,7`.

    Raises:
        RecipeError: None, too many, repeated, negative, too large or no numbers.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part]
    except ValueError:
        numbers = []
    seeds = numbers if "," in text else list(range(min(sum(numbers), MOST_SEEDS + 1)))
    counted = 1 <= len(seeds) <= MOST_SEEDS and len(set(seeds)) == len(seeds)
    if not counted or min(seeds) < 0 or max(seeds) >= 2**63:
        raise RecipeError(
            f"--seeds {text}: expected how many, from 1 to {MOST_SEEDS}, "
            "or different seeds below 2^63 such as 0,4,7"
        )
    return seeds


def load_task(
    name: str, protocol: str, overrides: Mapping[str, Any], teacher: str | None = None
) -> Task:
    """Resolves an environment recipe under a protocol.

    Args:
        name: Recipe's name or path.
        protocol: One of the recipe's protocols.
        overrides: Dotted keys of the task (or `oracle.*`) and their values.
        teacher: Teachers joined by `+`, in place of the recipe's.

    Raises:
        RecipeError: Whatever is wrong with the recipe or the arguments.
    """
    path, table = _with_bases("envs", *read("envs", name))
    protocols = _table(table, "protocols", path)
    teachers = _table(table, "teachers", path)
    if protocol not in protocols:
        raise RecipeError(f"{path}: unknown protocol '{protocol}'; {nearest(protocol, protocols)}")
    values = {**table, **_table(protocols, protocol, path)}
    overrides = dict(overrides)
    for key in [key for key in overrides if "." not in key]:
        values[key] = overrides.pop(key)
    for key, source in SOURCES.items():
        if key in values:
            raise RecipeError(f"{path}: key '{key}' cannot be set: {source}")
    if teacher is not None:
        values["teacher"] = teacher
    values["oracle"] = _compose(str(values.get("teacher", "")), teachers, path)
    for key, value in overrides.items():
        _replace(values, key, value, str(path))
    return build(Task, {**values, "name": path.stem, "protocol": protocol}, str(path))


def load_entry(name: str, overrides: Mapping[str, Any]) -> Entry:
    """Resolves an agent recipe.

    Args:
        name: Recipe's name or path.
        overrides: Keys of the agent's settings and their values.

    Raises:
        RecipeError: Whatever is wrong with the recipe, its class or the arguments.
    """
    path, table = _with_bases("agents", *read("agents", name))
    for key in ("class", "title"):
        if not isinstance(table.get(key), str):
            raise RecipeError(f"{path}: missing key '{key}', a text")
    class_path, title = table.pop("class"), table.pop("title")
    agent = _import_agent(class_path, path)
    settings: Any = build(agent.Settings, {**table, **overrides}, str(path))
    return Entry(path.stem, title, class_path, agent, settings)


def resolved(task: Task, entry: Entry) -> dict[str, Any]:
    """Both recipes as the table that `run.toml` records."""
    return {
        "env": dump(task),
        "agent": {"name": entry.name, "class": entry.path, **dump(entry.settings)},
    }


def split_overrides(
    arguments: Sequence[str], entries: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Parses `--set` arguments.

    Args:
        arguments: Each `env.KEY=VALUE` or `agent.NAME.KEY=VALUE`; VALUE as in TOML, or a bare
            word.
        entries: Names of the agents of this benchmark.

    Returns:
        Overrides of the task, and of each agent by name.

    Raises:
        RecipeError: An argument of another form, or for an agent that does not take part.
    """
    task: dict[str, Any] = {}
    agents: dict[str, dict[str, Any]] = {name: {} for name in entries}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        scope, _, rest = key.partition(".")
        name, _, agent_key = rest.rpartition(".")  # a name may have dots, a key has none
        if not equals or scope not in ("env", "agent") or not (name if scope == "agent" else rest):
            raise RecipeError(f"--set {argument}: expected env.KEY=VALUE or agent.NAME.KEY=VALUE")
        if scope == "env":
            task[rest] = _value(text)
        elif name not in agents:
            raise RecipeError(f"--set {argument}: no agent '{name}'; {nearest(name, agents)}")
        else:
            agents[name][agent_key] = _value(text)
    return task, agents


def _stem(name: str) -> str:
    """The name of a recipe that is given by name or by path."""
    return Path(name.removesuffix(".toml")).name


def _value(text: str) -> Any:
    try:
        table = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return table["value"] if len(table) == 1 else text


def _with_bases(kind: Kind, path: Path, table: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Lays a recipe over the chain of recipes named by `base`."""
    seen, current = {path}, path
    while "base" in table:
        base = table.pop("base")
        if not isinstance(base, str):
            raise RecipeError(f"{current}: key 'base' is {base!r}; expected a text")
        current, below = read(kind, base, beside=current)
        if current in seen:
            raise RecipeError(f"{path}: key 'base': {current.name} is its own base")
        seen.add(current)
        table = _merge(below, table)
    return path, table


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _table(table: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = table.pop(key, None)
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: missing table '{key}'")
    return value


def _compose(teacher: str, teachers: dict[str, Any], path: Path) -> dict[str, Any]:
    """Lays the named teachers over the perfect oracle."""
    composed: dict[str, Any] = {}
    for name in ["oracle", *teacher.split("+")]:
        if not isinstance(teachers.get(name), dict):
            raise RecipeError(f"{path}: unknown teacher '{name}'; {nearest(name, teachers)}")
        composed |= teachers[name]
    return composed


def _replace(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    scope, _, rest = key.partition(".")
    if scope != "oracle" or rest not in values["oracle"]:
        allowed = [f"oracle.{name}" for name in values["oracle"]]
        raise RecipeError(f"{where}: unknown key '{key}'; {nearest(key, allowed)}")
    values["oracle"][rest] = value


def _import_agent(class_path: str, recipe: Path) -> type[Agent]:
    module_name, _, class_name = class_path.partition(":")
    # A class may lie beside its recipe; appended, the folder shadows nothing.
    if str(recipe.parent) not in sys.path:
        sys.path.append(str(recipe.parent))
    where = f"{recipe}: key 'class' is '{class_path}'"
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises
        raise RecipeError(f"{where}; it cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise RecipeError(f"{where}; expected a subclass of mujoco_sail.agents.base:Agent")
    if inspect.isabstract(found) or not is_dataclass(getattr(found, "Settings", None)):
        raise RecipeError(
            f"{where}; the class is abstract or its Settings are no dataclass: not an agent yet"
        )
    return found
