"""Memory of a resumed run."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from helpers.tiny import CPU, tiny_task
from torch import Tensor

from mujoco_sail.agents import registry
from mujoco_sail.agents.base import Agent, Member
from mujoco_sail.results.checkpoint import Checkpoints, MemberState
from mujoco_sail.training.messages import Stopped
from mujoco_sail.training.run import Run

STOP = 75


class ReadCheckpoints:
    """Tracks the tensors of all checkpoints that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tensors: list[list[weakref.ref[Tensor]]] = []  # of each checkpoint
        self.alive_before: list[int] = []  # checkpoints alive before each read
        read = Checkpoints.read

        def watched(checkpoints: Checkpoints, step: int) -> MemberState:
            self.alive_before.append(self.alive())
            state = read(checkpoints, step)
            self.tensors.append([weakref.ref(tensor) for tensor in state.tensors.values()])
            return state

        monkeypatch.setattr(Checkpoints, "read", watched)

    def alive(self) -> int:
        gc.collect()
        return sum(any(ref() is not None for ref in tensors) for tensors in self.tensors)


def test_resuming_holds_one_checkpoint_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [Member(registry.load_spec("sail_revkl", {}), seed) for seed in range(4)]
    stopped = Run(tiny_task(), members, CPU, tmp_path, lambda _: None)
    stopped.stopping = lambda: stopped.last_log[0] >= STOP
    with pytest.raises(Stopped):
        stopped.execute()

    read = ReadCheckpoints(monkeypatch)
    alive: list[int] = []
    after_step = Run.after_step

    def counting(self: Run, step: int, agent: Agent) -> None:
        after_step(self, step, agent)
        if step == STOP + 50:
            alive.append(read.alive())

    monkeypatch.setattr(Run, "after_step", counting)
    Run(tiny_task(), members, CPU, tmp_path, lambda _: None, start=STOP).execute()
    assert [len(tensors) > 50 for tensors in read.tensors] == 4 * [True]
    assert max(read.alive_before) <= 1
    assert alive == [0]
