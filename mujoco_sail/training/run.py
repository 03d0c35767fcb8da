"""Training of one stack: environments, teacher, evaluation, checkpoints and files."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mujoco_sail.agents.base import Agent, Member
from mujoco_sail.core.products import set_precision
from mujoco_sail.core.state import flatten, unflatten
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.environments.vector import VectorEnv, threads_for
from mujoco_sail.preferences.person import Unanswered
from mujoco_sail.preferences.sessions import Feedback
from mujoco_sail.recipes.task import Task
from mujoco_sail.results import tracking
from mujoco_sail.results.checkpoint import MemberState
from mujoco_sail.results.write import RunWriter, remove_checkpoints
from mujoco_sail.system.errors import UserError
from mujoco_sail.training import asking
from mujoco_sail.training.evaluation import Evaluation
from mujoco_sail.training.messages import (
    MembersFailed,
    Progress,
    Stopped,
    is_of_machine,
    names_of,
)
from mujoco_sail.training.options import NO_EXTRAS, Extras

# Environment steps between two progress reports without evaluation, and between two checks for
# non-finite numbers.
REPORT_EVERY = 100


class Run:
    """Training of one stack; the `Runner` of its agent.

    Args:
        task: Environment and protocol.
        members: The M members, with one agent class and equal network shapes.
        device: Device of the updates.
        results: Folder of the results.
        report: Called with the progress.
        start: Step of the checkpoints to resume from; 0 starts new runs.
        stopping: Returns whether the stack must stop.
        say: Called with lines for the user.
        extras: Optional outputs of the runs.

    Attributes:
        step: Step at which the training starts: 0, or that of the checkpoint.
    """

    def __init__(
        self,
        task: Task,
        members: Sequence[Member],
        device: torch.device,
        results: Path,
        report: Callable[[Progress], None],
        start: int = 0,
        stopping: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        set_precision(task.precision, device)
        self.task, self.members, self.device = task, list(members), device
        self.seeds = [member.seed for member in members]
        self.sizes = space_sizes(task)  # O, A
        person = asking.person_for(task, self.members, results, lambda: self.envs)
        self.feedback = Feedback(task, self.seeds, device, person)
        self.evaluation = Evaluation(task, self.seeds, device)
        self.report, self.stopping, self.say, self.extras = report, stopping, say, extras
        self.names = names_of(members)
        self.tracking = tracking.start(extras.track, say)
        self.files = [RunWriter.of(results, task, m, device, self.tracking) for m in members]
        self.step = start
        if not start:
            for files in self.files:
                files.begin()
        self.failed: dict[int, str] = {}
        self.asked = [0] * len(members)  # queries already written to feedback.csv
        self.started = time.perf_counter()
        self.last_log = (self.step, self.started)
        self.last_checkpoint = self.started

    @cached_property
    def envs(self) -> VectorEnv:
        """Training environments, one per member."""
        threads, keep = threads_for(self.device), asking.states_kept(self.task)
        return VectorEnv(self.task, self.seeds, "training", threads, keep)

    def execute(self) -> None:
        """Trains the stack to completion.

        Raises:
            Stopped: The stack was asked to stop.
            Unanswered: The stack must wait for a person; its checkpoint is that of the step before.
            MembersFailed: Some or all members failed; their status files say so.
            Exception: If `is_of_machine`, the previous state remains on disk. Any other: the
                whole stack failed; the status files of all members say so.
        """
        try:
            agent = self.members[0].spec.agent(self)
            try:
                if agent.resumable:
                    agent.state()
            except TypeError as error:  # before the training, not at the first checkpoint
                raise UserError(str(error)) from error
            if self.step:
                self._load(agent)
            self.report(Progress(self.names, self.step, None))
            agent.train()
            for files, policy in zip(
                self.files, agent.export_policies(self.task.steps), strict=False
            ):
                policy.save(files.folder / "policy")
        except (Stopped, Unanswered, MembersFailed, UserError):
            raise
        except Exception as error:
            for m in range(0 if is_of_machine(error) else len(self.members)):
                self._fail(m, f"{type(error).__name__}: {error}")
            raise
        finally:
            for each in self.tracking:
                each.finish()
        labelled = agent.labelled_pairs() if self.extras.keep_preferences else None
        for m, files in enumerate(self.files):
            self._write_feedback(m)
            if labelled is not None:
                pairs, labels = labelled
                files.write_preferences(pairs.member(m), labels[m : m + 1], self.sizes)
            files.write_status("complete", self._seconds())
            remove_checkpoints(files.folder)

    def after_step(self, step: int, agent: Agent) -> None:
        """Checks, evaluates, logs, saves and reports after an environment step, each if due."""
        evaluating = step % self.task.evaluation_every == 0
        if evaluating or step % REPORT_EVERY == 0 or self._faults():
            self._check(step, agent)
        returns = self._evaluate(step, agent) if evaluating else None
        if step % self.task.log_every == 0:
            self._log(step, agent)
        if self.failed:
            self._end_for_survivors(step, agent)
        if step < self.task.steps:
            self._save(step, agent)
        if returns is not None or step % REPORT_EVERY == 0:
            self.report(Progress(self.names, step, returns))

    def waiting(self) -> None:
        """Stops the stack on request; without a new checkpoint, as a step is incomplete.

        Raises:
            Stopped: The stack must stop; it can be resumed from its newest checkpoint.
        """
        if self.stopping():
            raise Stopped

    # --- checkpoints ---

    def _save(self, step: int, agent: Agent) -> None:
        """Writes a checkpoint if it is due; stops the stack if requested."""
        stopping = self.stopping()
        age = time.perf_counter() - self.last_checkpoint
        due = age > 60 * self.task.checkpoint_minutes or asking.asks_next(self, step, agent)
        if agent.resumable and (stopping or due):
            self._write_checkpoints(step, agent, range(len(self.members)))
            self.last_checkpoint = time.perf_counter()
        if stopping:
            raise Stopped

    def _write_checkpoints(self, step: int, agent: Agent, members: Iterable[int]) -> None:
        """Writes checkpoints of members at the end of a step, one after the other."""
        tensors, plain = flatten(self._tree(agent))
        for m in members:
            self._write_feedback(m)
            slices = {name: t[m].cpu() for name, t in tensors.items()}
            files = self.files[m]
            files.checkpoints.write(MemberState(step, slices, plain, files.state(self._seconds())))

    def _tree(self, agent: Agent) -> dict[str, Any]:
        return {
            "agent": agent.state(),
            "envs": self.envs.state(),
            "feedback": self.feedback.state(),
        }

    def _load(self, agent: Agent) -> None:
        """Loads the members' checkpoints, with one at a time in main memory."""
        tensors, plain = flatten(self._tree(agent))
        names = {*tensors, *plain}
        stacked: dict[str, Tensor] = {}
        for m, files in enumerate(self.files):
            saved = files.checkpoints.read(self.step)
            if odd := sorted(names ^ {*saved.tensors, *saved.plain}):
                raise UserError(
                    f"{files.folder}: the checkpoint of step {self.step} is of another "
                    f"version of the agent: {odd[0]} is not in both"
                )
            files.begin(saved.files)
            plain = dict(saved.plain)
            for name, values in saved.tensors.items():
                if not m:
                    shape = (len(self.files), *values.shape)
                    device = tensors[name].device if name in tensors else self.device
                    stacked[name] = values.new_empty(shape, device=device)
                stacked[name][m] = values
        tree = unflatten({**plain, **stacked})
        agent.load(tree.get("agent", {}))  # an agent may have no state
        self.envs.load(tree["envs"])
        self.feedback.load(tree["feedback"])

    # --- failures ---

    def _faults(self) -> dict[int, str]:
        # An agent of another library may use its own environments.
        of_envs = self.envs.faults if "envs" in vars(self) else {}
        return of_envs | self.feedback.faults

    def _check(self, step: int, agent: Agent) -> None:
        """Marks members with non-finite numbers or other faults as failed."""
        broken: dict[int, list[str]] = {}
        for quantity, values in agent.health().items():
            for m in (~values.isfinite()).nonzero().flatten().tolist():
                broken.setdefault(m, []).append(quantity)
        reasons = {m: f"not finite: {', '.join(names)}" for m, names in broken.items()}
        for m, reason in (self._faults() | reasons).items():
            self._fail(m, f"step {step}: {reason}")

    def _fail(self, m: int, reason: str) -> None:
        """Records the failure of a member; nothing else is written for it afterwards."""
        if m not in self.failed:
            self.failed[m] = reason
            self._write_feedback(m)
            self.files[m].write_status("failed", self._seconds(), reason)

    def _end_for_survivors(self, step: int, agent: Agent) -> None:
        """Writes checkpoints of the members that have not failed, and raises `MembersFailed`."""
        left = [m for m in range(len(self.members)) if m not in self.failed]
        if not agent.resumable:
            step = 0
        elif left:
            self._write_checkpoints(step, agent, left)
        reasons = {self.names[m]: reason for m, reason in self.failed.items()}
        raise MembersFailed(reasons, [self.members[m] for m in left], step)

    # --- files ---

    def _evaluate(self, step: int, agent: Agent) -> tuple[float, ...]:
        scores = self.evaluation(agent.policy, step // self.task.evaluation_every)
        for m, reason in scores.faults.items():
            self._fail(m, f"step {step}: evaluation: {reason}")
        for m, files in enumerate(self.files):
            if m in self.failed:
                continue
            returns = scores.returns[m]
            own = {name: float(values[m]) for name, values in agent.evaluated().items()}
            if scores.success is not None:
                own["success_rate"] = float(scores.success[m].mean())
            files.add_evaluation(
                step,
                float(returns.mean()),
                float(returns.std()),
                len(returns),
                own.pop("success_rate", ""),
                self.feedback.labels_used,
                **own,
            )
        return tuple(scores.returns.mean(1))

    def _log(self, step: int, agent: Agent) -> None:
        now = time.perf_counter()
        steps, since = self.last_log
        self.last_log = step, now
        columns = {name: values.tolist() for name, values in agent.metrics().items()}
        columns["labels"] = [self.feedback.labels_used] * len(self.files)
        for m, files in enumerate(self.files):
            if m not in self.failed:
                row = {"step": step} | {name: v[m] for name, v in columns.items()}
                files.add_training_row(row, (step - steps) / (now - since))
                self._write_feedback(m)

    def _write_feedback(self, m: int) -> None:
        if new := self.feedback.queries[m][self.asked[m] :]:
            self.files[m].add_queries(new)
            self.asked[m] += len(new)

    def _seconds(self) -> float:
        return time.perf_counter() - self.started
