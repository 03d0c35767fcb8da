"""Load recipes from TOML files.

An environment recipe under one protocol becomes a `Task`. Values are in the TOML files only, their
types and meanings in the dataclasses only.

An agent recipe names its class, whose module `load_spec` imports, and an environment recipe may
name a class of tasks. No other code is executed when recipes are loaded. (When an environment is
made, Gymnasium imports the module of an id such as `module:Name-v0`.)
"""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mujoco_sail.recipes.settings import build, check_name, nearest, parse_toml, read_toml
from mujoco_sail.recipes.task import HUMAN, Task
from mujoco_sail.system.errors import UserError

Kind = Literal["envs", "agents", "plots"]
MOST_SEEDS = 10_000
# Keys of a task that are not set in recipes, and where they come from.
SOURCES = {
    "name": "it is the file's name",
    "protocol": "it is --protocol",
    "oracle": "it is what 'teacher' names; change env.oracle.KEY",
}


def recipe_folder(kind: Kind) -> Path:
    """Folder of the recipes: that of the checkout if there is one, else that of the wheel."""
    here = Path(__file__).resolve().parent
    root = here.parents[1]
    if (root / "pyproject.toml").is_file() and (root / kind).is_dir():
        return root / kind
    return here / kind


def recipe_names(kind: Kind, group: str = "") -> list[str]:
    """Names of the recipes that the suite ships: without a folder, or in one such as `language`."""
    folder = recipe_folder(kind)
    files = (folder / group).glob("*.toml")
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in files)


def read_recipe(kind: Kind, name: str, beside: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Reads a recipe by name or by path.

    Args:
        kind: Folder of the suite to search.
        name: Name, or path of a TOML file.
        beside: Recipe whose `base` this is; its folder is searched before that of the suite.

    Raises:
        UserError: There is no such recipe, it is not valid TOML, or its name is not valid for a
            folder of results.
    """
    shipped, name = recipe_folder(kind), os.path.expanduser(name)  # no shell has, after a comma
    if name.endswith(".toml"):
        homes = [_working_folder()] if beside is None else [beside.parent, shipped]
        file, missing = name, f"no file '{name}'"
    else:
        homes = [shipped] if beside is None else [beside.parent, shipped]
        file, missing = f"{name}.toml", f"no recipe '{name}'"
        shipped_names = [*recipe_names(kind), *recipe_names(kind, "language")]
        missing += f" in {kind}/; {nearest(name, shipped_names)}"
    # Path.is_file raises an error if a name is too long.
    path = next((home / file for home in homes if os.path.isfile(home / file)), None)
    if path is None:
        raise UserError(missing if beside is None else f"{beside}: key 'base': {missing}")
    check_name(path.stem, path)
    return path, read_toml(path)


def _working_folder() -> Path:
    """Absolute path of the working folder, or `.` if the folder has been removed."""
    try:
        return Path.cwd()
    except OSError:
        return Path()


def parse_seeds(text: str) -> list[int]:
    """Parses a number of seeds, `3` for 0, 1 and 2, or a list of seeds such as `0,4,7`.

    Raises:
        UserError: There are no seeds or too many, or a seed is repeated, negative, too large or
            not a number.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part]
    except ValueError:
        numbers = []
    seeds = numbers if "," in text else list(range(min(sum(numbers), MOST_SEEDS + 1)))
    counted = 1 <= len(seeds) <= MOST_SEEDS and len(set(seeds)) == len(seeds)
    if not counted or min(seeds) < 0 or max(seeds) >= 2**63:
        raise UserError(
            f"--seeds {text}: expected a number of seeds from 1 to {MOST_SEEDS}, "
            "or a list of different seeds below 2^63 such as 0,4,7"
        )
    return seeds


def load_task(
    name: str, protocol: str, overrides: Mapping[str, Any], teacher: str | None = None
) -> Task:
    """Resolves an environment recipe under a protocol.

    Args:
        name: Name or path of the recipe.
        protocol: One of the recipe's protocols.
        overrides: Values by dotted key of the task (or `oracle.*`).
        teacher: Names of teachers joined by `+`, which replace the recipe's.

    Raises:
        UserError: The recipe or an argument is invalid.
    """
    path, table = read_merged("envs", name)
    kind = _task_class(table.pop("class", None), path)
    protocols, teachers = (_table(table, key, path) for key in ("protocols", "teachers"))
    if protocol not in protocols:
        raise UserError(f"{path}: unknown protocol '{protocol}'; {nearest(protocol, protocols)}")
    values = {**table, **_table(protocols, protocol, path)}
    overrides = dict(overrides)
    for key in [key for key in overrides if "." not in key]:
        values[key] = overrides.pop(key)
    for key, source in SOURCES.items():
        if key in values:
            raise UserError(f"{path}: key '{key}' cannot be set: {source}")
    if teacher is not None:
        values["teacher"] = teacher
    values["teacher"] = teacher_name(str(values.get("teacher", "")))
    values["oracle"] = _compose(values["teacher"], teachers, path)
    if values["teacher"] == HUMAN and overrides:
        raise UserError(f"{path}: key '{min(overrides)}' cannot be set: '{HUMAN}' is a person")
    for key, value in overrides.items():
        _replace(values, key, value, str(path))
    return build(kind, {**values, "name": path.stem, "protocol": protocol}, str(path))


def _task_class(class_path: Any, path: Path) -> type[Task]:
    """Imports the class that an environment recipe names; `Task` if it names none."""
    if class_path is None:
        return Task
    module, _, name = str(class_path).partition(":")
    where = f"{path}: key 'class' is {class_path!r}"
    try:
        found = getattr(import_module(module), name, None)
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise UserError(f"{where}; it cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(f"{where}; expected module:Class, a subclass of {Task.__module__}:Task")
    return found


def teacher_name(names: str) -> str:
    """The one name of teachers joined by `+`, whose order means nothing."""
    return "+".join(sorted({*names.split("+")}))


def split_overrides(
    arguments: Sequence[str], specs: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Parses `--set` arguments.

    Args:
        arguments: Arguments `env.KEY=VALUE` or `agent.NAME.KEY=VALUE`; VALUE is TOML, or a bare
            word.
        specs: Names of the agents of this benchmark.

    Returns:
        Overrides of the task, and overrides of each agent by name.

    Raises:
        UserError: An argument has another form, or names an agent not in this benchmark.
    """
    task: dict[str, Any] = {}
    agents: dict[str, dict[str, Any]] = {name: {} for name in specs}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        scope, _, rest = key.partition(".")
        name, _, agent_key = rest.rpartition(".")  # a name may contain dots, a key may not
        if not equals or scope not in ("env", "agent") or not (name if scope == "agent" else rest):
            raise UserError(f"--set {argument}: expected env.KEY=VALUE or agent.NAME.KEY=VALUE")
        if scope == "env":
            task[rest] = _value(text)
        elif name not in agents:
            raise UserError(f"--set {argument}: no agent '{name}'; {nearest(name, agents)}")
        else:
            agents[name][agent_key] = _value(text)
    return task, agents


def recipe_stem(name: str) -> str:
    """Name of a recipe that is given by name or by path."""
    return Path(name.removesuffix(".toml")).name


def _value(text: str) -> Any:
    try:
        table = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return table["value"] if len(table) == 1 else text


def read_merged(kind: Kind, name: str) -> tuple[Path, dict[str, Any]]:
    """Reads a recipe, given by name or path, merged with the chain of recipes named by `base`.

    Raises:
        UserError: As `read_recipe` and `chain`.
    """
    path, table = read_recipe(kind, name)
    return path, merged(chain(kind, path, table))


def chain(kind: Kind, path: Path, table: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """Chain of a recipe and its bases, each named by the `base` of the one before.

    Raises:
        UserError: A base is missing or not valid TOML, or the chain is a cycle.
    """
    layers, seen = [(path, table)], {os.path.realpath(path)}
    while (base := layers[-1][1].get("base")) is not None:
        current = layers[-1][0]
        if not isinstance(base, str):
            raise UserError(f"{current}: key 'base' is {base!r}; expected a string")
        layers.append(read_recipe(kind, base, beside=current))
        real = os.path.realpath(layers[-1][0])
        if real in seen:
            raise UserError(f"{path}: key 'base': {layers[-1][0].name} is its own base")
        seen.add(real)
    return layers


def merged(layers: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Merges a chain of recipes into one table; each recipe overrides its base."""
    table: dict[str, Any] = {}
    for _, below in layers:
        table = _merge(below, table)
    table.pop("base", None)
    return table


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
        raise UserError(f"{path}: missing table '{key}'")
    return value


def _compose(teacher: str, teachers: dict[str, Any], path: Path) -> dict[str, Any]:
    """Merges the settings of the named teachers with those of the perfect oracle.

    Raises:
        UserError: A teacher is unknown, a person composed with another, or two of them set a key
            to different values.
    """
    set_by: dict[str, str] = {}
    if HUMAN in teacher.split("+") and teacher != HUMAN:
        raise UserError(f"{path}: teacher '{HUMAN}' is a person and composes with no other teacher")
    for name in ["oracle", *teacher.split("+")]:
        if not isinstance(teachers.get(name), dict):
            raise UserError(f"{path}: unknown teacher '{name}'; {nearest(name, teachers)}")
    for name in teacher.split("+"):
        for key, value in teachers[name].items():
            other = set_by.setdefault(key, name)
            if teachers[other][key] != value:
                raise UserError(
                    f"{path}: teachers '{other}' and '{name}' do not go together: '{key}' is "
                    f"{teachers[other][key]} for one and {value} for the other"
                )
    return {**teachers["oracle"], **{key: teachers[name][key] for key, name in set_by.items()}}


def _replace(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    scope, _, rest = key.partition(".")
    if scope != "oracle" or rest not in values["oracle"]:
        allowed = [f"oracle.{name}" for name in values["oracle"]]
        raise UserError(f"{where}: unknown key '{key}'; {nearest(key, allowed)}")
    values["oracle"][rest] = value
