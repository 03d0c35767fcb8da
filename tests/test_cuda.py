"""Tests on a GPU: eager and recorded updates, all agents, resuming."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import FILES, MakeRun, members_of, rows, stop_after
from helpers.tiny import tiny_task
from torch.utils import _pytree as pytree

from mujoco_sail.core.engine import Updater
from mujoco_sail.training.messages import Stopped
from mujoco_sail.training.run import Run
from mujoco_sail.training.worker import resume_points

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA = torch.device("cuda")
NAMES = [("pebble", 0), ("sail", 1), ("sail_revkl", 2)]


AGENTS = ("sac", "surf", "rune", "mrn", "policer", "qpa", "rime", "pebble_npg", "sail_revkl_npg")


def trained(make_run: MakeRun, names: Sequence[tuple[str, int]] = NAMES, **changes: Any) -> Any:
    """Agent after training."""
    run = make_run(names, tiny_task(**changes), device=CUDA)
    agent: Any = run.members[0].spec.agent(run)
    agent.train()
    assert agent.updates >= 50
    return agent


def assert_equal_training(eager: Any, recorded: Any) -> None:
    assert eager._recorder is None
    one, other = (agent.sac_state() for agent in (eager, recorded))
    for a, b in zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    for name, values in eager.metrics().items():
        torch.testing.assert_close(
            values, recorded.metrics()[name], rtol=1e-3, atol=1e-5, equal_nan=True
        )


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_recorded_and_eager_updates_agree_over_a_run(make_run: MakeRun, precision: str) -> None:
    eager = trained(make_run, precision=precision)
    recorded = trained(make_run, precision=precision, cuda_graph=True)
    assert len(recorded._recorder.recordings) == 2  # with the anchor and without
    assert_equal_training(eager, recorded)


@pytest.mark.parametrize("name", AGENTS)
def test_recorded_and_eager_updates_agree_for_every_agent(make_run: MakeRun, name: str) -> None:
    eager, recorded = (
        trained(make_run, [(name, 0), (name, 1)], cuda_graph=graph) for graph in (False, True)
    )
    assert recorded._recorder.recordings
    assert_equal_training(eager, recorded)


def test_updates_on_gpu_and_cpu_agree(make_run: MakeRun) -> None:
    """Starts from equal states and data, because random numbers differ between devices."""
    on_cpu, on_gpu = (
        make_run(NAMES, tiny_task(), device=device) for device in (torch.device("cpu"), CUDA)
    )
    one: Any = on_cpu.members[0].spec.agent(on_cpu)
    one.train()
    other: Any = on_gpu.members[0].spec.agent(on_gpu)
    other.anchored = one.anchored
    leaves = [pytree.tree_leaves(agent.sac_state()) for agent in (one, other)]
    with torch.no_grad():
        for a, b in zip(*leaves, strict=True):
            if a is not None:
                b.copy_(a)
    streams = one.streams("test")
    batch, uniform = one.sample(streams.uniform(16)), streams.uniform(16, 2 * one.action_size)
    logged = []
    for agent, device in ((one, torch.device("cpu")), (other, CUDA)):
        log = torch.zeros(len(NAMES), 3, device=device)
        updater = Updater(agent._constants, agent.sac_state(), 16, "eager")
        updater(batch.to(device), uniform.to(device), torch.zeros((), device=device), log)
        logged.append(log.cpu())
    torch.testing.assert_close(*logged, rtol=1e-4, atol=1e-6)
    for a, b in zip(*leaves, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b.cpu(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("stop", [90, 100])
def test_a_resumed_run_on_the_gpu_gives_identical_results(tmp_path: Path, stop: int) -> None:
    task, members = tiny_task(cuda_graph=True), members_of(NAMES)
    through = Run(task, members, CUDA, tmp_path / "through", lambda _: None)
    through.execute()
    run = Run(task, members, CUDA, tmp_path / "again", lambda _: None)
    stop_after(run, stop)
    with pytest.raises(Stopped):
        run.execute()
    ((stack, start),) = resume_points(task, members, CUDA, tmp_path / "again", print)
    again = Run(task, stack, CUDA, tmp_path / "again", lambda _: None, start)
    assert again.step == stop
    again.execute()
    for m in range(len(NAMES)):
        for name in FILES:
            assert rows(through, m, name) == rows(again, m, name)


def test_tf32_rounds_only_the_products_of_runs_that_use_it(make_run: MakeRun) -> None:
    a, b = torch.randn(2, 1, 256, 256, generator=torch.Generator().manual_seed(0)).to(CUDA)
    exact = a.double() @ b.double()
    errors = []
    for precision in ("float32", "tf32", "float32"):
        make_run(NAMES, tiny_task(precision=precision), device=CUDA)
        errors.append(((a @ b - exact).norm() / exact.norm()).item())
    assert errors[0] == errors[2] < 1e-6
    assert 1e-5 < errors[1] < 1e-2
