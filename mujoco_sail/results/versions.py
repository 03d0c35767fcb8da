"""Versions that a result depends on."""

import platform
from importlib import metadata

from mujoco_sail import __version__


def versions(backend: str = "gymnasium") -> dict[str, str]:
    """Versions that a result of a backend depends on."""
    simulators = ["mujoco", "gymnasium", "dm_control", "metaworld", "shimmy"]
    if backend == "envpool":
        simulators.append("envpool")  # it carries a MuJoCo of its own
    learners = ["stable_baselines3", "torch"]
    found = {name: metadata.version(name) for name in simulators + learners}
    return found | {"python": platform.python_version(), "mujoco_sail": __version__}
