"""Failures of members are reported and recorded, and do not affect other members."""

from __future__ import annotations

import resource
import tomllib
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.command_line import overrides, program
from helpers.runs import FILES, MakeRun, members_of
from helpers.tiny import CPU, TINY, tiny_task

from mujoco_sail.analysis.tables import table
from mujoco_sail.cli import main
from mujoco_sail.results.checkpoint import DamagedError
from mujoco_sail.training import worker
from mujoco_sail.training.messages import Failure, UserMessage
from mujoco_sail.training.run import Run
from mujoco_sail.training.work_unit import WorkUnit

NAMES = [("pebble", 0), ("sail_revkl", 1), ("sail", 2)]
FAILING = 1  # index among them


def files_of(results: Path, name: tuple[str, int]) -> list[str]:
    folder = results / "half_cheetah" / name[0] / f"seed_{name[1]}"
    return [(folder / file).read_text() for file in FILES]


def about(results: Path, name: tuple[str, int]) -> dict[str, Any]:
    folder = results / "half_cheetah" / name[0] / f"seed_{name[1]}"
    return tomllib.loads((folder / "run.toml").read_text())


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the same members, each trained alone without failures."""
    results = tmp_path_factory.mktemp("unharmed")
    for member in members_of(NAMES):
        Run(tiny_task(), [member], CPU, results, lambda _: None).execute()
    return results


def parameters_of(part: str) -> Callable[[Run, Any], None]:
    def plant(run: Run, agent: Any) -> None:
        with torch.no_grad():
            attrgetter(part)(agent).parameters[0][FAILING, 0, 0, 0] = torch.nan

    return plant


def observation(run: Run, agent: Any) -> None:
    env = run.envs._backend.envs[FAILING].env
    step = env.step
    env.step = lambda action: (np.full(17, np.inf, np.float32), *step(action)[1:])


def reward(run: Run, agent: Any) -> None:
    env = run.envs._backend.envs[FAILING].env
    step = env.step
    env.step = lambda action: (step(action)[0], np.nan, False, False, {})


def crash(run: Run, agent: Any) -> None:
    def step(action: Any) -> None:
        raise ArithmeticError("mjWARN_BADQACC\nthe simulation is unstable")

    run.envs._backend.envs[FAILING].env.step = step


def refusing_teacher(run: Run, agent: Any) -> None:
    run.feedback.faults[FAILING] = "teacher 'skip' refused nearly all"


def evaluation_crash(run: Run, agent: Any) -> None:
    crash(type("Both", (), {"envs": run.evaluation.envs})(), agent)


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (parameters_of("actor"), "not finite: +a parameter of the actor"),
        (parameters_of("critic"), "not finite: +a parameter of the critic"),
        (parameters_of("reward_model.net"), "not finite: +a parameter of the reward"),
        (observation, "not finite: the observation"),
        (reward, "not finite: the reward"),
        (crash, "crashed: ArithmeticError: mjWARN_BADQACC the simulation is unstable"),
        (evaluation_crash, "evaluation: the environment crashed: ArithmeticError"),
        (refusing_teacher, "teacher 'skip' refused nearly all"),
    ],
    ids=[
        "actor",
        "critic",
        "reward net",
        "observation",
        "reward",
        "crash",
        "evaluation",
        "teacher",
    ],
)
def test_a_failed_member_is_reported_and_does_not_change_the_others(
    plant: Callable[[Run, Any], None],
    reason: str,
    unharmed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after_step = Run.after_step

    def planting_after_step(run: Run, step: int, agent: Any) -> None:
        if step == 95 and len(run.members) == len(NAMES):
            plant(run, agent)
        after_step(run, step, agent)

    monkeypatch.setattr(Run, "after_step", planting_after_step)
    members = members_of(NAMES)
    told: list[Any] = []
    unit = WorkUnit(tiny_task(), [members], CPU, tmp_path)
    worker._train(unit, members, 0, told.append, lambda: False)

    (failure,) = [one for one in told if isinstance(one, Failure)]
    assert failure.members == (NAMES[FAILING],)
    assert all(part in failure.reason for part in reason.split("+"))
    assert failure.reason.startswith("step ")
    assert 95 <= int(failure.reason.split()[1].rstrip(":")) <= 150
    found = about(tmp_path, NAMES[FAILING])
    assert found["status"] == "failed"
    assert found["failure"] == failure.reason
    for name in (NAMES[0], NAMES[2]):
        assert about(tmp_path, name)["status"] == "complete"
        assert files_of(tmp_path, name) == files_of(unharmed, name)
    shown = table(tmp_path, "md", "pebble", 0.1)
    assert "failed" in shown
    rows = pd.read_csv(tmp_path / "half_cheetah" / "sail_revkl" / "seed_1" / "evaluations.csv")
    assert rows["step"].tolist() == [75]
    assert rows["episode_return"].notna().all()


def test_when_all_members_fail_the_stack_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step = Run.after_step

    def planting_after_step(run: Run, step: int, agent: Any) -> None:
        with torch.no_grad():
            agent.actor.parameters[0].fill_(torch.nan)
        after_step(run, step, agent)

    monkeypatch.setattr(Run, "after_step", planting_after_step)
    members = members_of(NAMES)
    told: list[Any] = []
    unit = WorkUnit(tiny_task(), [members], CPU, tmp_path)
    worker._train(unit, members, 0, told.append, lambda: False)
    assert [one.members[0] for one in told if isinstance(one, Failure)] == NAMES
    assert {about(tmp_path, name)["status"] for name in NAMES} == {"failed"}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"),
        MemoryError("2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        DamagedError("step_100.json: its checksum differs"),
        OSError(116, "Stale file handle"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_machine_leaves_the_run_to_the_same_command(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step = Run.after_step

    def breaking_after_step(run: Run, step: int, agent: Any) -> None:
        after_step(run, step, agent)
        if step == 95:
            raise error

    unit = WorkUnit(tiny_task(checkpoint_minutes=1e-6), [members_of(NAMES[:1])], CPU, tmp_path)
    told: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(Run, "after_step", breaking_after_step)
        worker.train_stack(unit, unit.stacks[0], told.append, lambda: False)
    (failure,) = [one for one in told if isinstance(one, Failure)]
    assert "the same command resumes from the newest checkpoints" in failure.reason
    assert len(failure.reason.splitlines()) == 1
    assert about(tmp_path, NAMES[0])["status"] == "running"
    told.clear()
    worker.train_stack(unit, unit.stacks[0], told.append, lambda: False)
    assert "from step 95 on" in next(x.text for x in told if isinstance(x, UserMessage))
    assert about(tmp_path, NAMES[0])["status"] == "complete"


def test_a_library_agent_with_a_broken_policy_fails(make_run: MakeRun) -> None:
    run = make_run([("sb3_sac", 0)])
    after_step = run.after_step

    def planting_after_step(step: int, agent: Any) -> None:
        if step == 75:
            next(agent.model.policy.actor.parameters()).data.fill_(torch.nan)
        after_step(step, agent)

    run.after_step = planting_after_step  # type: ignore[method-assign]
    with pytest.raises(Exception, match=r"parameter of the policy|nan|NaN"):
        run.execute()
    assert tomllib.loads((run.files[0].folder / "run.toml").read_text())["status"] == "failed"


def test_a_full_disk_gives_a_one_line_error_and_the_same_command_resumes(
    tmp_path: Path,
) -> None:
    """The full disk is simulated by a limit on file sizes, which raises the same kind of error."""
    options = ["--env", "half_cheetah", "--agents", "pebble", "--seeds", "1"]
    changes = TINY | {"steps": 400, "checkpoint_minutes": 1e-4}
    options += ["--protocol", "quick", "--results", str(tmp_path)]
    options += overrides(changes)
    limit = 130_000  # bytes: enough for the first checkpoints only
    process = program(
        "run",
        *options,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.returncode == 1
    assert "cannot be written: File too large" in process.stderr
    assert "the same command resumes" in process.stderr
    assert "Traceback" not in process.stderr
    assert len(process.stderr.splitlines()) == 1
    folder = tmp_path / "half_cheetah" / "pebble" / "seed_0"
    steps = sorted(int(p.stem.removeprefix("step_")) for p in folder.glob("checkpoints/*.json"))
    assert len(steps) == 2
    assert 0 < steps[-1] < 400
    assert not [path for path in folder.rglob(".*") if path.is_file()]
    assert main(["run", *options]) == 0
    assert about(tmp_path, ("pebble", 0))["status"] == "complete"
