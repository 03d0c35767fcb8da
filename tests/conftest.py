"""Fixtures shared by several test files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.results import MakeFolder, write_run
from helpers.runs import MakeRun, members_of
from helpers.tiny import CPU, tiny_task
from hypothesis import settings

from mujoco_sail.analysis import stats
from mujoco_sail.analysis.figures import style
from mujoco_sail.recipes.task import Task
from mujoco_sail.training.run import Run

# Files whose tests take the longest, in this order: they run first, so that no worker process waits
# for them at the end, and `make quick` leaves them out.
SLOW = (
    "agents/test_learning.py",
    "training/test_survive.py",
    "core/test_engine.py",
    "cluster/test_cluster.py",
    "labelling/test_chromium.py",
    "training/test_stack.py",
    "system/test_pipes_and_signals.py",
    "test_docs_run.py",
    "environments/test_every_task.py",
    "analysis/test_report.py",
    "training/test_failures.py",
    "training/test_every_agent.py",
    "test_fuzz.py",
    "analysis/test_figure_kinds.py",
    "environments/test_display_variables.py",
    "system/test_lock_and_descriptors.py",
    "training/test_resume.py",
    "study/test_dataset.py",
    "test_python_interface.py",
    "agents/test_sampling_term.py",
    "policies/test_film.py",
    "recipes/test_fuzz_recipes.py",
    "environments/test_seeds.py",
    "results/test_fuzz_results.py",
    "test_command_line.py",
    "speed/test_speed_command.py",
    "training/test_forecast_of_time.py",
    "training/test_engine_choice.py",
    "analysis/test_across_tables.py",
)

torch.set_num_threads(1)
# Tests run in parallel: idle threads of a worker must not spin on cores of other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# For the fuzz tests, see `helpers.fuzzing`; max_examples is a percentage of their numbers.
settings.register_profile("default", database=None, derandomize=True, max_examples=100)
settings.register_profile("hunt", database=None, print_blob=True, max_examples=1000)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(SLOW)}
    if missing := [path for path in ranks if not path.exists()]:
        raise pytest.UsageError(f"conftest.py: SLOW names {missing[0]}, which does not exist")
    for item in items:
        if item.path in ranks:
            item.add_marker("slow")
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Builds a run of tiny size: `make_run([("sail", 0), ("pebble", 1)])`."""
    count = iter(range(1000))

    def make(
        members: Sequence[tuple[str, int]],
        task: Task | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
        device: torch.device = CPU,
    ) -> Run:
        made = members_of(members, settings)
        folder = tmp_path / f"results_{next(count)}"
        return Run(task or tiny_task(), made, device, folder, lambda _: None)

    return make


# --- synthetic results --------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def make(results: Path) -> MakeFolder:
    """Writes a run: `make("walker", "sail", 0, [1, 2, 3], **{"env.protocol": "paper"})`."""
    return partial(write_run, results)


@pytest.fixture
def three_arms(make: MakeFolder) -> None:
    """Runs with final returns 1, 2, 3 (PEBBLE), 2, 3, 4 (SAIL) and 5, 6, 7 (SAC, no queries)."""
    for seed in range(3):
        make("walker_walk", "sail", seed, (0, 0, 2 + seed))
        make("walker_walk", "pebble", seed, (0, 0, 1 + seed))
        make("walker_walk", "sac", seed, (0, 0, 5 + seed), answers=())


@pytest.fixture(scope="module")
def coarse() -> Iterator[None]:
    """Fewer resamples and pixels, for tests with many tables and figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "RESAMPLES", 100)
        patch.setattr(style, "DOTS_PER_INCH", 20)
        yield
