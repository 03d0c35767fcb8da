"""Requests of `mujoco-sail speed` are real training or a part of it."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers.runs import MakeRun
from helpers.tiny import CPU, tiny_task

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Member
from mujoco_sail.speed import pool, roofline
from mujoco_sail.speed.peers import SB3SACBFloat16
from mujoco_sail.speed.worker import Request, Stopwatch, TimedRun, move_to


class Script:
    """Fake pipe with prepared requests."""

    def __init__(self, *requests: Request) -> None:
        self.requests, self.answers = list(requests), []

    def recv(self) -> Request:
        if not self.requests:
            raise EOFError
        return self.requests.pop(0)

    def send(self, answer: Any) -> None:
        self.answers.append(answer)


def sleep(*arguments: Any) -> None:
    """In the place of a worker: warms up at once, then sleeps."""
    arguments[-1].send(None)
    time.sleep(60)


def paced(folder: Path, *actions: Any, **options: Any) -> tuple[TimedRun, Script]:
    """Run that has executed requests, each once."""
    script = Script(*(Request(action, 0, **options) for action in actions))
    task = tiny_task(steps=10**6, evaluation_every=10**6, log_every=10**6)
    spec = registry.load_spec("sac", {})
    run = TimedRun(task, [Member(spec, 0), Member(spec, 1)], CPU, folder, script)  # type: ignore[arg-type]
    with pytest.raises(EOFError):
        run.execute()
    return run, script


@pytest.mark.parametrize(
    ("actions", "steps", "updates"),
    [
        ([], 0, 0),
        (["train", "train"], 2, 2),
        (["update", "update", "update"], 0, 3),
        (["overhead"], 1, 1),
        (["overhead", "train"], 2, 2),
        (list(roofline.PRODUCT_CALLS), 0, 0),
        (["due"], 0, 0),
    ],
)
def test_a_request_is_real_training_or_a_part_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    actions: list[str],
    steps: int,
    updates: int,
) -> None:
    agents = []
    start = TimedRun._obey
    monkeypatch.setattr(
        TimedRun, "_obey", lambda self, agent: (agents.append(agent), start(self, agent))[1]
    )
    run, script = paced(tmp_path, *actions)
    (agent,) = agents
    warm = run.task.random_steps + 10
    assert agent.replay_buffer.written == warm + steps
    assert agent.updates == 11 + updates
    assert not isinstance(agent.update, Stopwatch)
    assert script.answers[0] is None
    assert len(script.answers) == 1 + len(actions)
    assert all(answer > 0 for answer in script.answers[1:])
    rows = pd.read_csv(run.files[1].folder / "evaluations.csv")
    assert len(rows) == actions.count("due")


@pytest.mark.parametrize("unread", [False, True])
def test_a_worker_that_died_while_it_slept_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unread: bool
) -> None:
    """With a request that it had not read, too, which resets the connection."""
    request = Request("train", 0.1)
    monkeypatch.setattr(pool, "work", sleep)
    with pool.WorkerPool(tiny_task(), [[]], CPU, tmp_path, {}) as workers:
        workers.warm()
        if unread:
            workers.pipes[0].send(request)
        workers.workers[0].kill()
        workers.workers[0].join()
        with pytest.raises(pool.WorkerError, match="its process ended with SIGKILL"):
            workers.run(request, 1)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system ties no process to cores"
)
def test_a_request_moves_all_threads_of_its_process_to_its_cores(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    end = threading.Event()
    older = threading.Thread(target=end.wait)
    older.start()
    core = frozenset([max(allowed)])
    try:
        paced(tmp_path, "train", cores=core)
        assert os.sched_getaffinity(0) == os.sched_getaffinity(older.native_id) == core
    finally:
        move_to(frozenset(allowed))
        end.set()
    assert os.sched_getaffinity(0) == allowed


def test_the_bfloat16_peer_uses_bfloat16_in_updates_only(
    make_run: MakeRun,
) -> None:
    run = make_run([("sb3_sac", 0)])
    spec = dataclasses.replace(run.members[0].spec, agent=SB3SACBFloat16)
    run.members[0] = Member(spec, 0)
    agent: Any = spec.agent(run)
    seen = {True: set(), False: set()}
    agent.model.actor.latent_pi.register_forward_hook(
        lambda module, inputs, output: seen[inputs[0].shape[0] > 1].add(output.dtype)
    )
    agent.train()
    assert seen == {True: {torch.bfloat16}, False: {torch.float32}}
    assert all(value.isfinite().all() for value in agent.metrics().values())
