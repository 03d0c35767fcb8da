"""Versions of packages that results depend on."""

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from mujoco_sail import __version__

# Packages of extras: recorded where they are installed. A run that does not name one did without.
OPTIONAL = frozenset({"dm_control", "metaworld", "shimmy", "stable_baselines3"})
OPTIONAL_KEYS = frozenset(f"versions.{name}" for name in OPTIONAL)


def versions(backend: str = "gymnasium") -> dict[str, str]:
    """Versions of the packages that results with a backend depend on."""
    simulators = ["mujoco", "gymnasium", "dm_control", "metaworld", "shimmy"]
    if backend == "envpool":
        simulators.append("envpool")  # it includes its own MuJoCo
    found = {}
    for name in [*simulators, "stable_baselines3", "torch"]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name not in OPTIONAL:
                raise
    return found | {"python": platform.python_version(), "mujoco_sail": __version__}


def differ(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs do not say the same of themselves.

    Args:
        key: Dotted, such as `versions.torch`.
        one: What `run.toml` says, by dotted keys.
        other: Likewise; a package of `OPTIONAL` that only one of them names makes no difference.
    """
    if (key in one) != (key in other):
        return key not in OPTIONAL_KEYS
    return bool(one.get(key) != other.get(key))
