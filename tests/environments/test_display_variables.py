"""Environment variables of rendering have no effect if nothing is rendered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command_line import overrides
from helpers.tiny import TINY

# None of these settings gives a display on any machine.
DEAD = [
    {"MUJOCO_GL": "nonsense", "DISPLAY": ":4711", "WAYLAND_DISPLAY": "nothing"},
    {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "egl"},  # an error even if OSMesa is installed
    {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "nonsense"},
]


@pytest.mark.parametrize("variables", DEAD, ids=lambda variables: "_".join(variables.values()))
def test_training_ignores_the_rendering_variables(
    variables: dict[str, str], tmp_path: Path
) -> None:
    options = ["--env", "walker_walk,door_open", "--agents", "sac", "--seeds", "1"]
    options += ["--protocol", "quick", *overrides(TINY | {"steps": 75})]
    process = subprocess.run(
        [sys.executable, "-m", "mujoco_sail", "run", *options, "--results", tmp_path],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert len(list(tmp_path.glob("*/sac/seed_0/evaluations.csv"))) == 2


def test_an_environment_made_directly_names_the_wrong_variable() -> None:
    code = "import sys; from mujoco_sail import environments as e\n"
    code += "from mujoco_sail.recipes.settings import UserError\n"
    code += "for name in sys.argv[1:]:\n"
    code += " try: e.make(name)\n"
    code += " except UserError as error: print(error)"
    families = ["walker_walk", "door_open", "half_cheetah"]
    process = subprocess.run(
        [sys.executable, "-c", code, *families],
        env={**os.environ, "MUJOCO_GL": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("it cannot be made") == 3
    assert process.stdout.count("with MUJOCO_GL=nonsense") == 3
