"""Peers of `mujoco-sail speed`, with their processes, threads and cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import stable_baselines3
import torch
from helpers.command_line import fails
from helpers.runs import MakeRun
from helpers.tiny import CPU, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.cli import main
from mujoco_sail.speed import peers, rounds, summary
from mujoco_sail.speed import plan as plan_module
from mujoco_sail.speed.plan import Plan
from mujoco_sail.speed.pool import WorkerError, WorkerPool
from mujoco_sail.speed.worker import Request, cores_of, move_to
from mujoco_sail.training import pool

needs_sbx = pytest.mark.skipif(
    find_spec("sbx") is None, reason="needs the extra: pip install 'mujoco-sail[peers]'"
)


@pytest.fixture
def sbx(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Fake of SBX that makes Stable-Baselines3's SAC and records its arguments."""
    asked: dict[str, Any] = {}

    def make(**arguments: Any) -> stable_baselines3.SAC:
        asked.update(arguments)
        return stable_baselines3.SAC(**arguments, device="cpu")

    module = SimpleNamespace(SAC=make, asked=asked)
    monkeypatch.setitem(sys.modules, "sbx", module)  # type: ignore[arg-type]
    return module  # type: ignore[return-value]


class IdlePool:
    """Fake workers with a rate equal to their number of threads."""

    made: ClassVar[list[IdlePool]] = []

    def __init__(self, task: Any, stacks: Any, device: Any, results: Any, variables: Any) -> None:
        self.sizes = [len(stack) for stack in stacks]
        self.agent = stacks[0][0].spec.name
        self.variables = dict(variables)
        self.made.append(self)

    def __enter__(self) -> IdlePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def warm(self) -> None:
        pass

    def run(self, request: Request, workers: int) -> np.ndarray:
        assert workers <= len(self.sizes)
        return np.full(workers, float(request.threads))


@pytest.fixture
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Number of cores of the simulated machine."""
    for module in (pool, peers, plan_module):
        monkeypatch.setattr(module, "available_cores", lambda: request.param)
    return request.param


@pytest.mark.parametrize("cores", [1, 2, 8], indirect=True)
@pytest.mark.parametrize("members", [(1,), (12,), (1, 3, 12)])
def test_as_many_processes_of_a_peer_are_timed_as_of_ours(
    monkeypatch: pytest.MonkeyPatch, sbx: object, cores: int, members: tuple[int, ...]
) -> None:
    monkeypatch.setattr(rounds, "WorkerPool", IdlePool)
    monkeypatch.setattr(IdlePool, "made", [])
    task, sac = tiny_task(), registry.load_spec("sac", {})
    others = peers.load(["sb3", "sbx"], task, CPU)
    plan = Plan(task, [sac], others, members, CPU, 2, 1.0, 100)
    rates = rounds.measure(plan, lambda _: None)
    trained = [r for r in rates if r.measurement == "train"]
    sizes = {count: min(count, cores) for count in members}
    assert {r.members: r.processes for r in trained if r.learner == "sac"} == sizes
    for name in ("sb3_sac", "sbx_sac"):
        found = [(r.processes, r.request.threads) for r in trained if r.learner == name]
        # A single process may have all cores; of several, each has one.
        expected = {(n, 1) for n in sizes.values()} | {(n, cores) for n in sizes.values() if n == 1}
        assert sorted(found) == sorted(expected)
    rows = summary.frame(plan, rates)
    ratios = rows[(rows.measurement == "train") & (rows.against != "")]
    for count, processes in sizes.items():
        # The rate of the fakes is their number of threads.
        its = cores if processes == 1 else 1
        against = [f"{name} {processes}x{its} float32" for name in ("sb3_sac", "sbx_sac")]
        assert ratios[ratios.members == count].against.tolist() == against
    # JAX's number of threads is fixed at its start.
    started = {("PJRT_NPROC" in p.variables) for p in IdlePool.made if p.agent == "sbx_sac"}
    assert started == {its == 1 for its in (1, cores) if its == 1 or 1 in sizes.values()}
    assert all(not p.variables for p in IdlePool.made if p.agent != "sbx_sac")


@pytest.mark.parametrize("cores", [8], indirect=True)
def test_on_cuda_one_process_of_ours_is_timed_beside_one_of_a_peer_per_core(cores: int) -> None:
    plan = Plan(tiny_task(), [], {}, [1, 12], torch.device("cuda"), 2, 1.0, 100)
    assert [plan.at_once(count) for count in (1, 3, 12)] == [1, 1, 1]
    assert [plan.peers_at_once(count) for count in (1, 3, 12)] == [1, 3, cores]


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_each_process_has_its_own_core_if_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 5}, raising=False)
    shares = cores_of(processes)
    expected = [{2}, {5}, {7}] if processes == 3 else [{2, 5, 7}] * processes
    assert shares == expected


def test_a_system_without_affinity_needs_no_pinning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    shares = cores_of(2)
    assert shares == [frozenset()] * 2
    move_to(shares[0])


def test_concurrent_workers_get_different_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    pool = WorkerPool(tiny_task(), [], CPU, Path(), {})
    told: list[list[Request]] = [[], []]
    for requests in told:
        pool.pipes.append(SimpleNamespace(send=requests.append, recv=lambda: 1.0))  # type: ignore[arg-type]
    pool.run(Request("train", 1.0), 2)
    pool.run(Request("train", 1.0, threads=2), 1)
    assert [[request.cores for request in requests] for requests in told] == [
        [{0}, {0, 1}],
        [{1}],
    ]


def test_a_worker_has_its_variables_before_its_agent_is_made(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(
        "import os\n"
        "from mujoco_sail.agents.sac import SAC\n"
        "class Telling(SAC):\n"
        "    def __init__(self, runner):\n"
        "        raise ValueError(os.environ['XLA_FLAGS'])\n"
    )
    recipe = tmp_path / "telling.toml"
    recipe.write_text('base = "sac"\ntitle = "telling"\nclass = "telling:Telling"\n')
    member = Member(registry.load_spec(str(recipe), {}), 0)
    with (
        WorkerPool(tiny_task(), [[member]], CPU, tmp_path, peers.ONE_THREAD) as pool,
        pytest.raises(WorkerError, match="--xla_cpu_multi_thread_eigen=false"),
    ):
        pool.warm()


def test_sleeping_workers_exit_by_themselves(tmp_path: Path) -> None:
    """Killed workers would leave semaphores, about which Python warns after the summary."""
    member = Member(registry.load_spec("sac", {}), 0)
    with WorkerPool(tiny_task(steps=10**6), [[member]], CPU, tmp_path, {}) as pool:
        pool.warm()
    assert [worker.exitcode for worker in pool.workers] == [0]


def test_sbx_gets_the_same_arguments_as_stable_baselines3(
    make_run: MakeRun, sbx: SimpleNamespace
) -> None:
    """Except the device and the interval of target updates, which SBX does not have."""
    task = tiny_task()
    (way, *_) = peers.load(["sbx"], task, CPU)["sbx"]
    run = make_run([("sb3_sac", 3)], task)
    theirs = run.members[0].spec.agent(run).model
    run.members[0] = Member(way.spec, 3)
    model = way.spec.agent(run).model
    asked = sbx.asked
    assert not {"device", "target_update_interval"} & set(asked)
    for name in ("learning_rate", "buffer_size", "learning_starts", "batch_size", "tau", "gamma"):
        assert asked[name] == getattr(theirs, name) == getattr(model, name)
    assert (asked["batch_size"], asked["buffer_size"]) == (task.batch_size, task.steps)
    assert (model.train_freq, model.gradient_steps) == (theirs.train_freq, theirs.gradient_steps)
    assert model.gradient_steps == 1
    assert theirs.policy_kwargs["net_arch"] == model.policy_kwargs["net_arch"] == [16, 16]
    assert asked["ent_coef"] == "auto_0.1" == theirs.ent_coef
    assert asked["seed"] == theirs.seed
    episodes = [m.env.reset() for m in (model, theirs)]
    np.testing.assert_array_equal(*episodes)


def test_a_missing_sbx_is_one_line_that_names_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sbx", None)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    said = fails(capsys, "speed", "--peers", "sb3,sbx", "--device", "cpu")
    assert len(said.splitlines()) == 1
    assert "--peers sbx" in said
    assert "pip install 'mujoco-sail[peers]'" in said
    assert not list(tmp_path.iterdir())


def test_only_sbx_needs_sbx_and_jax(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison stops at once, because the folder cannot be written."""
    for name in ("sbx", "jax"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    assert main(["speed", "--device", "cpu", "--out", "/dev/null/speed"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_sbx_on_a_gpu_is_an_error(sbx: object) -> None:
    with pytest.raises(peers.UserError, match="--peers sbx: it is timed on the CPU only"):
        peers.load(["sbx"], tiny_task(), torch.device("cuda"))


@needs_sbx
def test_sbx_makes_one_update_per_step_and_reports_its_health(make_run: MakeRun) -> None:
    import jax

    task = tiny_task()
    (way, *_) = peers.load(["sbx"], task, CPU)["sbx"]
    run = make_run([("sb3_sac", 0)], task)
    run.members[0] = Member(way.spec, 0)
    agent: Any = way.spec.agent(run)
    agent.train()
    # After the last step it stops without an update.
    assert agent.model._n_updates == task.steps - task.random_steps - 1
    assert agent.health()["a parameter of the policy"].isfinite().all()
    assert all(value.isfinite().all() for value in agent.metrics().values())
    state = agent.model.policy.qf_state
    spoilt = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
    agent.model.policy.qf_state = state.replace(params=spoilt)
    assert agent.health()["a parameter of the policy"].isnan().all()
