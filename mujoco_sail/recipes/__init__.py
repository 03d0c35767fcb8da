"""From TOML to frozen, validated objects."""

from mujoco_sail.recipes.settings import setting
from mujoco_sail.system.errors import UserError

__all__ = ["UserError", "setting"]
