"""What agents act in; `make` gives one environment as they see it."""

from mujoco_sail.environments.factory import make

__all__ = ["make"]
