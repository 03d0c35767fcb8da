"""Environments that agents act in; `make` gives one of them."""

from mujoco_sail.environments.factory import make

__all__ = ["make"]
