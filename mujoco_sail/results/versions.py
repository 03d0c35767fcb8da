"""Versions of packages that results depend on."""

import platform
from importlib import metadata

from mujoco_sail import __version__


def versions(backend: str = "gymnasium") -> dict[str, str]:
    """Versions of the packages that results with a backend depend on."""
    simulators = ["mujoco", "gymnasium", "dm_control", "metaworld", "shimmy"]
    if backend == "envpool":
        simulators.append("envpool")  # it includes its own MuJoCo
    learners = ["stable_baselines3", "torch"]
    found = {name: metadata.version(name) for name in simulators + learners}
    return found | {"python": platform.python_version(), "mujoco_sail": __version__}
