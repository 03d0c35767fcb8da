"""Recipes: TOML files read into frozen, validated dataclasses."""

from mujoco_sail.recipes.settings import setting
from mujoco_sail.system.errors import UserError

__all__ = ["UserError", "setting"]
