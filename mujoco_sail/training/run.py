"""One stack in training: what an agent may use, and what happens after each step."""

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
from mujoco_sail.preferences.sessions import Feedback
from mujoco_sail.recipes.task import Task
from mujoco_sail.results import tracking
from mujoco_sail.results.checkpoint import MemberState
from mujoco_sail.results.write import RunWriter, remove_checkpoints, run_folder
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import WriteError
from mujoco_sail.training.evaluation import Evaluation
from mujoco_sail.training.messages import MembersFailed, Progress, Stopped
from mujoco_sail.training.options import NO_EXTRAS, Extras

# Environment steps between two reports that carry no evaluation, and between two looks at
# whether all numbers are finite.
REPORT_EVERY = 100


class Run:
    """What trains a stack: its environments, teacher, evaluation, checkpoints and files.

    It is the `Runner` that the stack's agent knows.

    Args:
        task: Environment and protocol.
        members: The M members, of one agent class and of equal shape.
        device: Where the updates run.
        results: Folder that the run folders lie in.
        report: Called with the progress.
        start: Step of the members' checkpoints to go on from; 0 begins anew.
        stopping: Whether the stack shall stop.
        say: Called with what a user should know at once.
        extras: What the runs leave beside their own files.

    Attributes:
        step: Environment steps done before.
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
        self.feedback = Feedback(task, self.seeds, device)
        self.evaluation = Evaluation(task, self.seeds, device)
        self.report, self.stopping, self.say, self.extras = report, stopping, say, extras
        self.names = tuple((member.spec.name, member.seed) for member in members)
        self.tracking = tracking.start(extras.track, say)
        self.files = [
            RunWriter(
                run_folder(results, task, m.spec.name, m.seed),
                task,
                m.spec,
                m.seed,
                str(device),
                self.tracking,
            )
            for m in members
        ]
        self.step = start
        if not start:
            for files in self.files:
                files.begin()
        self.failed: dict[int, str] = {}
        self.asked = [0] * len(members)  # questions that lie in feedback.csv
        self.started = time.perf_counter()
        self.last_log = (self.step, self.started)
        self.last_checkpoint = self.started

    @cached_property
    def envs(self) -> VectorEnv:
        """The training environments, one per member."""
        return VectorEnv(self.task, self.seeds, "training", threads_for(self.device))

    def execute(self) -> None:
        """Trains the stack to its end.

        Raises:
            Stopped: It was asked to stop.
            MembersFailed: Some members, or all, have failed; that is written down.
            WriteError: A file could not be written; the last good state lies on the disk.
            Exception: The whole stack failed; that is written down.
        """
        try:
            agent = self.members[0].spec.agent(self)
            if self.step:
                self._load(agent)
            self.report(Progress(self.names, self.step, None))
            agent.train()
            for files, policy in zip(
                self.files, agent.export_policies(self.task.steps), strict=False
            ):
                policy.save(files.folder / "policy")
        except (Stopped, MembersFailed, WriteError, UserError):
            raise
        except Exception as error:
            for m in range(len(self.members)):
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
        """After every environment step: checks, evaluates, logs, saves and reports where due."""
        evaluating = step % self.task.evaluation_every == 0
        if evaluating or step % REPORT_EVERY == 0 or self._faults():
            self._check(step, agent)
        returns = self._evaluate(step, agent) if evaluating else None
        if step % self.task.log_every == 0:
            self._log(step, agent)
        if self.failed:
            self._go_on_without(step, agent)
        if step < self.task.steps:
            self._save(step, agent)
        if returns is not None or step % REPORT_EVERY == 0:
            self.report(Progress(self.names, step, returns))

    def waiting(self) -> None:
        """See `Runner.waiting`; in the middle of a step there is nothing to save.

        Raises:
            Stopped: The stack shall stop; it goes on from its newest checkpoint.
        """
        if self.stopping():
            raise Stopped

    # --- checkpoints ---

    def _save(self, step: int, agent: Agent) -> None:
        """A checkpoint where it is due; the end where it is wanted."""
        stopping = self.stopping()
        age = time.perf_counter() - self.last_checkpoint
        if agent.resumable and (stopping or age > 60 * self.task.checkpoint_minutes):
            self._write_checkpoints(step, agent, range(len(self.members)))
            self.last_checkpoint = time.perf_counter()
        if stopping:
            raise Stopped

    def _write_checkpoints(self, step: int, agent: Agent, members: Iterable[int]) -> None:
        """Writes members down as they are at the end of a step, one after the other."""
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
        """Takes over the members' checkpoints, of which the host holds one at a time."""
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
                    stacked[name] = values.new_empty(shape, device=tensors[name].device)
                stacked[name][m] = values
        tree = unflatten({**plain, **stacked})
        agent.load(tree.get("agent", {}))  # an agent may have nothing to save
        self.envs.load(tree["envs"])
        self.feedback.load(tree["feedback"])

    # --- failures ---

    def _faults(self) -> dict[int, str]:
        # An agent of another library has environments of its own.
        of_envs = self.envs.faults if "envs" in vars(self) else {}
        return of_envs | self.feedback.faults

    def _check(self, step: int, agent: Agent) -> None:
        """Finds members with numbers that are not finite."""
        broken: dict[int, list[str]] = {}
        for quantity, values in agent.health().items():
            for m in (~values.isfinite()).nonzero().flatten().tolist():
                broken.setdefault(m, []).append(quantity)
        reasons = {m: f"not finite: {', '.join(names)}" for m, names in broken.items()}
        for m, reason in (self._faults() | reasons).items():
            self._fail(m, f"step {step}: {reason}")

    def _fail(self, m: int, reason: str) -> None:
        """Writes a member's failure down; nothing more is written of it."""
        if m not in self.failed:
            self.failed[m] = reason
            self._write_feedback(m)
            self.files[m].write_status("failed", self._seconds(), reason)

    def _go_on_without(self, step: int, agent: Agent) -> None:
        """Ends this stack; the members that are well leave checkpoints to go on from."""
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
            success = "" if scores.success is None else float(scores.success[m].mean())
            files.add_evaluation(
                step,
                float(returns.mean()),
                float(returns.std()),
                len(returns),
                success,
                self.feedback.labels_used,
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
