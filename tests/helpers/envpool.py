"""Tasks that EnvPool supports."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from mujoco_sail.environments.envpool import ENVPOOL_IDS
from mujoco_sail.recipes.load import load_task, recipe_names
from mujoco_sail.recipes.task import Task

needs_envpool = pytest.mark.skipif(
    find_spec("envpool") is None, reason="needs the extra: pip install 'mujoco-sail[fast]'"
)
TASKS = [name for name in recipe_names("envs") if load_task(name, "quick", {}).id in ENVPOOL_IDS]


def task_of(name: str, backend: str = "envpool", **changes: Any) -> Task:
    return load_task(name, "quick", {"backend": backend, **changes})
