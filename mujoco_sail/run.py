"""One stack in training: what an agent may use, and what happens after each step."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mujoco_sail.agents.base import Agent
from mujoco_sail.evaluation import Evaluation
from mujoco_sail.feedback import Feedback
from mujoco_sail.recipes import Entry
from mujoco_sail.results import RunFiles, run_folder
from mujoco_sail.task import Task
from mujoco_sail.worlds import Worlds, spaces


@dataclass(frozen=True)
class Member:
    """One agent entry with one seed."""

    entry: Entry
    seed: int

    @property
    def settings(self) -> Any:
        """The entry's hyperparameters."""
        return self.entry.settings


@dataclass(frozen=True)
class Progress:
    """A step of a stack, for whoever watches.

    Attributes:
        step: Environment steps done.
        returns: Newest mean evaluation return of each member, if there was one.
    """

    members: tuple[tuple[str, int], ...]
    step: int
    returns: tuple[float, ...] | None


class Run:
    """Everything around a stack's agent: worlds, teacher, evaluation, files.

    Args:
        task: Environment and protocol.
        members: The M members, of one agent class and of equal shape.
        device: Where the updates run.
        results: Folder that the run folders lie in.
        report: Called with the progress.
    """

    def __init__(
        self,
        task: Task,
        members: Sequence[Member],
        device: torch.device,
        results: Path,
        report: Callable[[Progress], None],
    ) -> None:
        self.task, self.members, self.device = task, list(members), device
        self.seeds = [member.seed for member in members]
        self.sizes = spaces(task)  # O, A
        self.feedback = Feedback(task, self.seeds, device)
        self.evaluation = Evaluation(task, self.seeds, device)
        self.report = report
        self.names = tuple((member.entry.name, member.seed) for member in members)
        self.files = [
            RunFiles(
                run_folder(results, task, m.entry.name, m.seed), task, m.entry, m.seed, str(device)
            )
            for m in members
        ]
        self.started = time.perf_counter()
        self.last_log = (0, self.started)

    @cached_property
    def worlds(self) -> Worlds:
        """The training environments, one per member."""
        return Worlds(self.task, self.seeds, "training")

    def execute(self) -> None:
        """Trains the stack to its end; a failure is written down, then raised."""
        try:
            agent = self.members[0].entry.agent(self)
            agent.train()
        except Exception as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        self._finish("complete")

    def tick(self, step: int, agent: Agent) -> None:
        """After every environment step: evaluates, logs and reports where it is due."""
        returns = None
        if step % self.task.evaluation_every == 0:
            returns = self._evaluate(step, agent)
        if step % self.task.log_every == 0:
            self._log(step, agent)
        if returns is not None or step % REPORT_EVERY == 0:
            self.report(Progress(self.names, step, returns))

    def _evaluate(self, step: int, agent: Agent) -> tuple[float, ...]:
        scores = self.evaluation(agent.policy, step // self.task.evaluation_every)
        for m, files in enumerate(self.files):
            returns = scores.returns[m]
            success = "" if scores.success is None else float(scores.success[m].mean())
            files.evaluation(
                step,
                float(returns.mean()),
                float(returns.std()),
                len(returns),
                success,
                self.feedback.used,
            )
        return tuple(scores.returns.mean(1))

    def _log(self, step: int, agent: Agent) -> None:
        now = time.perf_counter()
        steps, since = self.last_log
        self.last_log = step, now
        columns = {name: values.tolist() for name, values in agent.metrics().items()}
        columns["labels"] = [self.feedback.used] * len(self.files)
        columns["steps_per_second"] = [round((step - steps) / (now - since), 1)] * len(self.files)
        for m, files in enumerate(self.files):
            files.training_row({"step": step} | {name: v[m] for name, v in columns.items()})
            files.feedback(self.feedback.queries[m])

    def _finish(self, status: str, failure: str | None = None) -> None:
        for m, files in enumerate(self.files):
            files.feedback(self.feedback.queries[m])
            files.status(status, time.perf_counter() - self.started, failure)


# Environment steps between two reports that carry no evaluation.
REPORT_EVERY = 100
