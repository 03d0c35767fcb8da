"""Versions of packages that results depend on."""

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from mujoco_sail import __version__
from mujoco_sail.recipes.task import HUMAN

# Packages of extras, recorded if they are installed. A run without one of them did not need it.
OPTIONAL = frozenset({"dm_control", "metaworld", "shimmy", "stable_baselines3"})
OPTIONAL_KEYS = frozenset(f"versions.{name}" for name in OPTIONAL)
# Keys that were added to the recipes, with the value that a run without them had.
ADDED_KEYS = {"env.oracle.similarity": 0.0}
# Settings of the machine, which change results only by rounding.
MACHINE = ("env.engine", "env.cuda_graph")
INERT = "env.checkpoint_minutes"  # no result depends on it
QUESTION, TEACHER = "env.question", "env.teacher"


def versions(backend: str = "gymnasium", more: Sequence[str] = ()) -> dict[str, str]:
    """Versions of the packages that results with a backend depend on, and those of `more`."""
    simulators = ["mujoco", "gymnasium", "dm_control", "metaworld", "shimmy"]
    if backend == "envpool":
        simulators.append("envpool")  # it includes its own MuJoCo
    found = {}
    for name in [*simulators, *more, "stable_baselines3", "torch"]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name not in OPTIONAL:
                raise
    return found | {"python": platform.python_version(), "mujoco_sail": __version__}


def differ(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs differ in a key of `run.toml`.

    A package of `OPTIONAL` that only one of them has recorded is no difference, nor is a key of
    `ADDED_KEYS` with its value there, nor the question to a person that none was asked. The key
    `INERT` is never a difference.

    Args:
        key: Dotted key, such as `versions.torch`.
        one: Values of one run by dotted keys.
        other: Values of the other run.
    """
    if key == INERT:
        return False
    if key == QUESTION and HUMAN not in (one.get(TEACHER), other.get(TEACHER)):
        return False
    if (key in one) != (key in other):
        recorded = one.get(key, other.get(key))
        return key not in OPTIONAL_KEYS and ADDED_KEYS.get(key) != recorded
    return bool(one.get(key) != other.get(key))
