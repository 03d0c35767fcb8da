"""From TOML to frozen, validated objects."""

from mujoco_sail.recipes.settings import RecipeError, setting

__all__ = ["RecipeError", "setting"]
