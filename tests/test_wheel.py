"""The wheel contains the recipes and works without a checkout."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from helpers.checkout import build_wheel
from helpers.command_line import SMALL, program


def test_a_wheel_runs_a_benchmark_from_an_empty_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as archive:
        roots = {Path(name).parts[0] for name in archive.namelist()}
        archive.extractall(tmp_path / "site")
    assert {root for root in roots if not root.endswith(".dist-info")} == {"mujoco_sail"}
    assert (tmp_path / "site/mujoco_sail/analysis/report.html.jinja").is_file()

    empty = tmp_path / "empty"
    empty.mkdir()
    options = ["--env", "reacher", "--agents", "pebble", "--seeds", "1", "--protocol", "quick"]
    options += [*SMALL, "--set", "env.query_window=10"]
    done = program(
        "run",
        *options,
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.returncode == 0, done.stderr
    assert (empty / "results/reacher/pebble/seed_0/evaluations.csv").is_file()
