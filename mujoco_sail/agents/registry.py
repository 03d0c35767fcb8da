"""Load agent recipes and import their classes."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from mujoco_sail.agents import plugins, sources
from mujoco_sail.agents.base import Agent, AgentSpec
from mujoco_sail.recipes.load import (
    chain,
    load_task,
    merged,
    read_recipe,
    recipe_stem,
    split_overrides,
)
from mujoco_sail.recipes.settings import build, dump, key_of
from mujoco_sail.recipes.task import Task
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError

# Keys of a recipe or of the agent table in `run.toml` that are not hyperparameters.
RESERVED = frozenset({"base", "class", "name", "source", "title"})


def load(
    envs: str, agents: str, protocol: str, overrides: Sequence[str], teacher: str | None
) -> tuple[list[Task], list[AgentSpec]]:
    """Loads the tasks and agents of a command line.

    Args:
        envs: Names or paths of environment recipes, separated by commas.
        agents: Names or paths of agent recipes, separated by commas.
        protocol: Protocol of every environment.
        overrides: `--set` arguments.
        teacher: Teachers separated by `+`; None for those of the recipes.

    Raises:
        UserError: A recipe, a class or an argument is invalid.
    """
    env_names, agent_names = envs.split(","), agents.split(",")
    stems = {"--env": env_names, "--agents": agent_names}
    for flag, listed in stems.items():
        short = [recipe_stem(name) for name in listed]
        if repeated := [name for name in short if short.count(name) > 1]:
            raise UserError(f"{flag}: '{repeated[0]}' is named twice")
    for_task, for_agents = split_overrides(overrides, [recipe_stem(name) for name in agent_names])
    tasks = [load_task(name, protocol, for_task, teacher) for name in env_names]
    specs = [load_spec(name, for_agents[recipe_stem(name)]) for name in agent_names]
    plugins.check_names(spec.plugin for spec in specs)
    return tasks, specs


def load_spec(name: str, overrides: Mapping[str, Any]) -> AgentSpec:
    """Loads an agent recipe.

    Args:
        name: Name or path of the recipe.
        overrides: Keys and values that replace settings of the recipe.

    Raises:
        UserError: The recipe, its class or an override is invalid.
    """
    layers = chain("agents", *read_recipe("agents", name))
    path, table = layers[0][0], merged(layers)
    for key in ("class", "title"):
        if not isinstance(table.get(key), str):
            raise UserError(f"{path}: missing key '{key}'; expected a string")
    class_path, title = table.pop("class"), table.pop("title")
    # The class lies next to the recipe that names it, which may be a base recipe.
    home = next(file for file, own in layers if "class" in own)
    agent, plugin = _import_agent(class_path, home)
    settings: Any = build(agent.Settings, {**table, **overrides}, str(path))
    return AgentSpec(path.stem, title, class_path, plugin, agent, settings)


def resolved(task: Task, spec: AgentSpec) -> dict[str, Any]:
    """Resolved recipes of task and agent, as recorded in `run.toml`."""
    agent = {"name": spec.name, "class": spec.path, **dump(spec.settings)}
    plugin = spec.plugin.sources if spec.plugin else ()
    source = sources.digest(spec.agent, type(spec.settings), plugin)
    if source is not None:
        agent["source"] = source
    env, files = dump(task), task.source
    if files is not None:
        env["source"] = files
    return {"env": env, "agent": agent}


def _import_agent(class_path: str, recipe: Path) -> tuple[type[Agent], plugins.Plugin | None]:
    """Imports the class of a recipe; modules next to the recipe precede installed ones."""
    module_name, _, class_name = class_path.partition(":")
    where = f"{recipe}: key 'class' is '{class_path}'"
    try:
        plugin = plugins.beside(recipe.parent, module_name)
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a plug-in may raise anything
        if (lacking := packages.missing(error)) is not None:
            raise UserError(packages.needs(lacking, f"{where}, which", error)) from error
        raise UserError(f"{where}; it cannot be imported: {error}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise UserError(
            f"{where}; expected module:Class, a subclass of mujoco_sail.agents.base:Agent"
        )
    if found.__module__ == "__main__":  # defined by the caller of `mujoco_sail.train`
        raise UserError(f"{where}; workers do not run the script or notebook: expected a module")
    if inspect.isabstract(found) or not is_dataclass(getattr(found, "Settings", None)):
        raise UserError(
            f"{where}; expected a class without abstract methods, whose Settings are a dataclass"
        )
    if taken := RESERVED.intersection(key_of(f.name) for f in fields(found.Settings)):
        raise UserError(f"{where}; its Settings have '{min(taken)}', which is a reserved key")
    for f in fields(found.Settings):
        if "per_member" not in f.metadata:
            raise UserError(
                f"{where}; field '{f.name}' of its Settings is not declared with "
                "mujoco_sail.recipes.setting"
            )
    return found, plugin
