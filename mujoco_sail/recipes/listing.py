"""List of the recipes that the suite ships: environments by family, agents, and text tasks."""

import contextlib
from collections.abc import Iterator

from mujoco_sail.recipes.ids import ENVPOOL_IDS, FAMILIES, family, has_success
from mujoco_sail.recipes.load import (
    Kind,
    load_task,
    read_merged,
    recipe_folder,
    recipe_names,
)
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError, one_line

ROW = "{:<20} {:<11} {:<8} {:<8} {}"
ENDS = {"fixed": "fixed", "variable": "terminates"}  # by horizon


def shipped_name(kind: Kind, stem: str) -> str | None:
    """Name of the suite's recipe whose file has a stem, such as `language/echo` of `echo`.

    None if the suite has no such recipe.
    """
    folder = recipe_folder(kind)
    for path in (*folder.glob(f"{stem}.toml"), *folder.glob(f"*/{stem}.toml")):
        return path.relative_to(folder).as_posix().removesuffix(".toml")
    return None


def lines() -> Iterator[str]:
    """Lines that `mujoco-sail list` prints."""
    rows: dict[str, list[str]] = {name: [] for name in FAMILIES}
    for name in recipe_names("envs"):
        _, table = read_merged("envs", name)
        id, title = (one_line(table.get(key, "")) for key in ("id", "title"))
        horizon = f"{ENDS.get(table.get('horizon', ''), '?')} {table.get('episode_steps', '?')}"
        known = ("yes" if it else "no" for it in (has_success(id), id in ENVPOOL_IDS))
        rows[family(id)].append(ROW.format(f"  {name}", horizon, *known, title))
    for group, tasks in rows.items():
        yield ROW.format(group, "horizon", "success", "EnvPool", "").rstrip()
        yield from tasks
    yield from _titles("Agents", "agents")
    if packages.installed("transformers"):  # of the extra `language`
        yield from _titles("Text tasks, on which agents align a language model", "envs", "language")
        yield from _titles("Agents for text tasks", "agents", "language")


def _titles(heading: str, kind: Kind, group: str = "") -> Iterator[str]:
    yield heading
    names = recipe_names(kind, group)
    width = max([18, *map(len, names)])
    for name in names:
        yield f"  {name:<{width}} {one_line(read_merged(kind, name)[1].get('title', ''))}"


def shorter_protocols(name: str, steps: int) -> list[str]:
    """Protocols of an environment recipe, given by name or path, that have fewer steps."""
    _, table = read_merged("envs", name)
    shorter = []
    for protocol in table["protocols"]:
        with contextlib.suppress(UserError):  # a protocol that is not used may be invalid
            if load_task(name, protocol, {}).steps < steps:
                shorter.append(protocol)
    return shorter
