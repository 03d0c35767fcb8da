"""Fuzzing of recipes: each is loaded, or gives an error of one or two lines.

`helpers.fuzzing` sets the number of cases. An agent recipe names a class, whose module is imported:
here the class does not exist or is not an agent.
"""

from __future__ import annotations

import contextlib
import tomllib

import tomli_w
from helpers.fuzz_values import AGENTS, ENVS, documents, texts
from helpers.fuzzing import cases, check_message, watch, workplace
from hypothesis import given
from hypothesis import strategies as st

from mujoco_sail.agents import registry
from mujoco_sail.system.errors import UserError


def load(env: str = "walker_stand", agents: str = "sac", protocol: str = "quick") -> None:
    """Loads recipes; checks that they can be written to run.toml and read back."""
    with watch():
        try:
            tasks, specs = registry.load(env, agents, protocol, [], None)
        except UserError as error:
            check_message(str(error))
            return
    for task in tasks:
        assert all(text.isprintable() for text in (task.name, task.title, task.id))
        for spec in specs:
            table = registry.resolved(task, spec)
            assert repr(tomllib.loads(tomli_w.dumps(table))) == repr(table)


@cases("environment recipes")
@given(data=documents(ENVS), protocol=st.sampled_from(["quick", "paper"]))
def test_an_environment_recipe_is_loaded_or_gives_a_user_error(data: bytes, protocol: str) -> None:
    with workplace() as here:
        (here / "mine.toml").write_bytes(data)
        load(env="mine.toml", protocol=protocol)


CLASSES = st.one_of(
    st.sampled_from(
        [
            *("mujoco_sail.agents.sac:SAC", "mujoco_sail.agents.sail:SAIL"),
            *("mujoco_sail.agents.base:Agent", "mujoco_sail.agents.sac:Sack"),
            *("mujoco_sail.agents.sac", "mujoco_sail:", ":", ":SAC", "pathlib:Path", "os:system"),
            *("builtins:int", "..sac:SAC", "mujoco_sail..sac:SAC", "a\0:b", "os:a\0b"),
        ]
    ),
    texts.map("nowhere_{}".format),
    texts.map("os:{}".format),
)


@st.composite
def agent_recipes(draw: st.DrawFn) -> bytes:
    """Agent recipe whose class, if it has one, is one of `CLASSES`."""
    data = draw(documents(AGENTS))
    with contextlib.suppress(ValueError, RecursionError):
        table = tomllib.loads(data.decode())
        if isinstance(table.get("class"), str):
            table["class"] = draw(CLASSES)
            data = tomli_w.dumps(table).encode()
    return data


@cases("agent recipes")
@given(data=agent_recipes(), base=st.one_of(st.none(), documents(AGENTS)))
def test_an_agent_recipe_is_loaded_or_gives_a_user_error(data: bytes, base: bytes | None) -> None:
    with workplace() as here:
        (here / "mine.toml").write_bytes(data)
        if base is not None and b"class" not in base:
            for name in ("sac", "pebble"):  # found before the suite's: loops and deeper damage
                (here / f"{name}.toml").write_bytes(base)
        load(agents="mine.toml")
