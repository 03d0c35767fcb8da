"""Forecast of the time of a benchmark, and durations in messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import overrides, without_workers
from helpers.tiny import CPU, TINY, tiny_task
from rich.console import Console

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.cli import main
from mujoco_sail.recipes.listing import shorter_protocols
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.write import RunWriter
from mujoco_sail.system.durations import duration
from mujoco_sail.training import forecast, plan, pool
from mujoco_sail.training.messages import Progress
from mujoco_sail.training.progress import ProgressDisplay

DAY = 24 * 60 * 60


def members(*names: str, seeds: int = 1) -> list[Member]:
    return [Member(registry.load_spec(name, {}), s) for name in names for s in range(seeds)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (40.2, "40 s"),
        (59.6, "1 min"),
        (250, "4 min"),
        (3569, "59 min"),
        (3599, "1 h 0 min"),
        (3 * 3600 + 12 * 60, "3 h 12 min"),
        (DAY - 20, "1 d 0 h"),
        (2 * DAY + 3 * 3600, "2 d 3 h"),
        (400 * DAY, "400 d 0 h"),
    ],
)
def test_durations_are_formatted_in_suitable_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_lines_show_days_and_hours_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1800.0, 1800.0])
    task = tiny_task(steps=7500)
    monkeypatch.setattr("mujoco_sail.training.progress.time.perf_counter", lambda: next(clock))
    board = ProgressDisplay(task, members("sac"))
    # 1 % of the steps in half an hour.
    board.first["sac", 0] = 0
    board.update(Progress((("sac", 0),), 75, (1.0,)))
    assert "2 d 2 h left" in capsys.readouterr().out


def test_bars_show_days_and_hours_left(monkeypatch: pytest.MonkeyPatch) -> None:
    board = ProgressDisplay(tiny_task(), members("sac"))
    bar = board.bars.tasks[0]
    monkeypatch.setattr(type(bar), "time_remaining", property(lambda self: 51 * 3600.0))
    console = Console(width=200, record=True)
    console.print(board.bars.make_tasks_table([bar]))
    assert "2 d 3 h left" in console.export_text()


# --- messages ---


def job(protocol: str, members: Sequence[Member]) -> plan.Job:
    return plan.Job(load_task("walker_walk", protocol, {}), members, 0, "", "memory")


def said(
    monkeypatch: pytest.MonkeyPatch, folder: Path, job: plan.Job, seconds: float | None
) -> list[str]:
    """Lines about a job with a measured time of `seconds`."""
    monkeypatch.setattr(forecast, "seconds_needed", lambda *_: seconds)
    first, *lines = plan.look_ahead(job, "walker_walk", CPU, folder)
    assert first == "memory"
    return lines


def test_the_time_of_a_long_run_is_printed_with_shorter_protocols(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paper = job("paper", members("pebble", "sac"))
    line = "walker_walk: this will take about 4 d 3 h; shorter: --protocol study or quick"
    assert said(monkeypatch, tmp_path, paper, 99 * 3600) == [line]
    line = "walker_walk: this will take about 3 h 0 min"
    assert said(monkeypatch, tmp_path, paper, 3 * 3600) == [line]
    assert not list(tmp_path.iterdir())


def test_a_quick_run_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pool, "max_workers", lambda device: 2)
    assert said(monkeypatch, tmp_path, job("quick", members("pebble", "sac", seeds=3)), 1.0) == []


def test_a_failed_measurement_does_not_prevent_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert said(monkeypatch, tmp_path, job("paper", members("pebble")), None) == []


def test_agents_of_another_library_are_excluded_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (line,) = said(monkeypatch, tmp_path, job("paper", members("pebble", "sb3_ppo")), 3600)
    assert line == "walker_walk: this will take about 1 h 0 min, not counting sb3_ppo"
    (line,) = said(monkeypatch, tmp_path, job("paper", members("sb3_ppo", "sb3_sac")), 3600)
    assert line == "walker_walk: the time of sb3_ppo, sb3_sac cannot be estimated in advance"


def test_steps_before_a_checkpoint_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paper = job("paper", members("pebble"))
    monkeypatch.setattr(forecast, "seconds_needed", lambda task, by_worker, steps, *_: float(steps))
    assert list(plan.look_ahead(paper, "walker_walk", CPU, tmp_path))[1:] == [
        f"walker_walk: this will take about {duration(400_000)}; shorter: --protocol study or quick"
    ]
    folder = tmp_path / "walker_walk" / "pebble" / "seed_0" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step_399960.json").touch()
    lines = list(plan.look_ahead(paper, "walker_walk", CPU, tmp_path))
    assert lines[1:] == ["walker_walk: this will take about 40 s"]
    member, task = paper.members[0], paper.task
    RunWriter(folder.parent, task, member.spec, 0, "cpu").write_status(
        "failed", 1.0, "for the test"
    )
    lines = list(plan.look_ahead(paper, "walker_walk", CPU, tmp_path))
    assert lines[1].startswith(f"walker_walk: this will take about {duration(400_000)}")
    lines = list(plan.look_ahead(paper, "walker_walk", CPU, tmp_path, resume_failed=True))
    assert lines[1:] == ["walker_walk: this will take about 40 s"]


def test_shorter_protocols_are_the_valid_ones_with_fewer_steps(tmp_path: Path) -> None:
    assert shorter_protocols("walker_walk", 400_000) == ["study", "quick"]
    assert shorter_protocols("walker_walk", 25_000) == []
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'base = "walker_walk"\n[protocols.broken]\nsteps = 1\n[protocols.quick]\nsteps = 20_000\n'
    )
    assert shorter_protocols(str(recipe), 25_000) == ["quick"]


# --- measurement ---


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "SECONDS", 0.02)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", ["sac", "pebble", "sail_revkl"])
def test_a_measurement_consists_of_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stack = members(name, seeds=2)
    counted = []
    update = stack[0].spec.agent.update  # type: ignore[attr-defined]
    monkeypatch.setattr(
        stack[0].spec.agent, "update", lambda self: (counted.append(1), update(self))
    )
    assert forecast._seconds_per_step(tiny_task(), stack, CPU, tmp_path) > 0
    assert len(counted) > forecast.WARM_UP


@pytest.mark.usefixtures("brief")
def test_evaluations_add_the_time_of_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast.TimingRun, "seconds", 1.0, raising=False)
    monkeypatch.setattr(forecast.TimingRun, "after_step", lambda *_: raise_over())
    monkeypatch.setattr(forecast, "_seconds_per_environment_step", lambda run: 0.5)

    def seconds(**changes: Any) -> float:
        task: Task = tiny_task(**changes)
        return forecast._seconds_per_step(task, members("sac"), CPU, tmp_path)

    # Episodes of 40 steps, every 75 steps.
    assert seconds(evaluation_episodes=1) == pytest.approx(1 + 0.5 * 40 / 75)
    assert seconds(evaluation_episodes=3) == pytest.approx(1 + 0.5 * 3 * 40 / 75)


def raise_over() -> None:
    raise forecast.TimingDone


def test_a_failed_measurement_gives_no_estimate() -> None:
    # This environment does not exist.
    task = tiny_task(id="nowhere/Nothing-v0")
    assert forecast.seconds_needed(task, [[members("sac")]], 100, CPU, 1) is None


FILES = ("evaluations.csv", "training.csv", "feedback.csv")


def test_a_measurement_does_not_change_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--env", "half_cheetah", "--agents", "sac,sail", "--seeds", "1"]
    options += ["--protocol", "quick", "--device", "cpu"]
    options += overrides(TINY)
    runs = {}
    for limit in (float("inf"), 0):
        monkeypatch.setattr(forecast, "WORTH_MEASURING", limit)
        folder = tmp_path / str(limit)
        with without_workers():
            assert main(["run", *options, "--results", str(folder)]) == 0
        assert ("this will take about" in capsys.readouterr().out) == (limit == 0)
        runs[limit] = {
            path.relative_to(folder): path.read_bytes() if path.name in FILES else None
            for path in folder.rglob("*")
        }
    assert runs[0] == runs[float("inf")]
