"""What runs on a GPU only: eager and recorded updates, both precisions, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import MakeRun, members_of, stop_after, trained_agent
from helpers.tiny import tiny_task

from mujoco_sail.core.engine import Updater
from mujoco_sail.training.run import Run, Stopped
from mujoco_sail.training.worker import resume_points

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA = torch.device("cuda")
NAMES = [("pebble", 0), ("sail", 1), ("sail_revkl", 2)]


def trained(make_run: MakeRun, **changes: Any) -> Any:
    """The agent after its training."""
    return trained_agent(make_run(NAMES, tiny_task(**changes), device=CUDA))


def parameters(agent: Any) -> list[torch.Tensor]:
    nets = (agent.actor, agent.critic, agent.target, agent.reward_net)
    return [p.detach().cpu() for net in nets for p in net.parameters]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_recorded_update_is_the_eager_one_over_a_whole_run(
    make_run: MakeRun, precision: str
) -> None:
    eager = trained(make_run, precision=precision)
    recorded = trained(make_run, precision=precision, cuda_graph=True)
    assert eager._recorder is None
    assert len(recorded._recorder.recordings) == 2  # with the anchor and without
    for one, other in zip(parameters(eager), parameters(recorded), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    for name, values in eager.metrics().items():
        torch.testing.assert_close(values, recorded.metrics()[name], rtol=1e-3, atol=1e-5)


def test_updates_on_the_gpu_are_those_on_the_cpu(make_run: MakeRun) -> None:
    """From equal parameters and data; random numbers differ between devices."""
    on_cpu, on_gpu = (
        make_run(NAMES, tiny_task(), device=device) for device in (torch.device("cpu"), CUDA)
    )
    one: Any = on_cpu.members[0].entry.agent(on_cpu)
    one.train()
    other: Any = on_gpu.members[0].entry.agent(on_gpu)
    for a, b in (
        (one.critic, other.critic),
        (one.target, other.target),
        (one.actor, other.actor),
        (one.reference, other.reference),
    ):
        for p, q in zip(a.parameters, b.parameters, strict=True):
            q.data.copy_(p.data)
    other.log_alpha.copy_(one.log_alpha)
    streams = one.streams("test")
    rows, uniform = one.sample(streams.uniform(16)), streams.uniform(16, 2 * one.action_size)
    logged = []
    for agent, device in ((one, torch.device("cpu")), (other, CUDA)):
        log = torch.zeros(len(NAMES), 3, device=device)
        updater = Updater(agent._constants, agent.learner(), 16, "eager")
        updater(rows.to(device), uniform.to(device), torch.zeros((), device=device), log)
        logged.append(log.cpu())
    torch.testing.assert_close(*logged, rtol=1e-4, atol=1e-6)


def test_a_run_on_the_gpu_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    members = members_of(NAMES)
    run = Run(tiny_task(), members, CUDA, tmp_path, lambda _: None)
    stop_after(run, 100)
    with pytest.raises(Stopped):
        run.execute()
    ((stack, start),) = resume_points(tiny_task(), members, CUDA, tmp_path, lambda _: None)
    again = Run(tiny_task(), stack, CUDA, tmp_path, lambda _: None, start)
    assert again.step == 100
    again.execute()
    assert (again.files[0].folder / "evaluations.csv").read_text().count("\n") == 3


def test_tf32_rounds_the_products_of_the_runs_that_ask_for_it(make_run: MakeRun) -> None:
    a, b = torch.randn(2, 1, 256, 256, generator=torch.Generator().manual_seed(0)).to(CUDA)
    exact = a.double() @ b.double()
    errors = []
    for precision in ("float32", "tf32", "float32"):
        make_run(NAMES, tiny_task(precision=precision), device=CUDA)
        errors.append(((a @ b - exact).norm() / exact.norm()).item())
    assert errors[0] == errors[2] < 1e-6
    assert 1e-5 < errors[1] < 1e-2
