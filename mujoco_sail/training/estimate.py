"""How long a benchmark will take, from a moment of the same work."""

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from mujoco_sail.agents.base import Agent, Member
from mujoco_sail.agents.operations import update_operations
from mujoco_sail.agents.sac import SAC
from mujoco_sail.core.scratch import scratch_folder
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.machine import synchronise
from mujoco_sail.system.signals import signals_to_all_blocked
from mujoco_sail.training.run import Run
from mujoco_sail.training.spawning import CONTEXT
from mujoco_sail.training.worker import end_with_the_main_process

# Runs of more floating-point operations per worker than this, which take a core at least some ten
# minutes, are timed in advance.
WORTH_MEASURING = 1e14
RANDOM_STEPS = 20  # before the first update
WARM_UP = 2  # updates before the clock starts: allocators, first-use initialisation
SECONDS = 1.0  # on the clock, for learning and again for a moment of stepping alone
CAPACITY = 10_000  # transitions of a replay buffer: far more than are written meanwhile
ENDLESS = 10**9  # environment steps

Shares = Sequence[Sequence[Sequence[Member]]]  # the stacks of each worker


def measurable(members: Sequence[Member]) -> bool:
    """Whether all members learn as SAC does, so that their steps take about equally long."""
    return all(issubclass(member.spec.agent, SAC) for member in members)


def is_long(task: Task, shares: Shares) -> bool:
    """Whether a look ahead is worth its seconds."""
    most = max(sum(map(len, stacks)) for stacks in shares)
    return most * task.steps * update_operations(task, space_sizes(task)) > WORTH_MEASURING


def seconds_needed(
    task: Task, shares: Shares, steps: int, device: torch.device, threads: int
) -> float | None:
    """Times some steps of all workers at once, in processes of their own.

    Sessions with the teacher are left out.

    Args:
        task: Environment and protocol.
        shares: Each worker's stacks, all measurable.
        steps: Environment steps that every stack will take.
        device: Where the updates run.
        threads: Threads of each worker.

    Returns:
        Until the last worker is done; None if a moment fails: then the run will, and says why.
    """
    pipes = [CONTEXT.Pipe(duplex=False) for _ in shares]
    with scratch_folder() as scratch:
        workers = [
            CONTEXT.Process(
                target=_work, args=(task, stacks, device, scratch / str(i), threads, sender)
            )
            for i, (stacks, (_, sender)) in enumerate(zip(shares, pipes, strict=True))
        ]
        try:
            with signals_to_all_blocked():
                for worker in workers:
                    worker.start()
            for _, sender in pipes:
                sender.close()
            return steps * max(float(receiver.recv()) for receiver, _ in pipes)
        except EOFError:
            return None
        finally:
            for worker in workers:
                if worker.pid is not None:
                    worker.kill()
                    worker.join()


def _work(
    task: Task,
    stacks: Sequence[Sequence[Member]],
    device: torch.device,
    scratch: Path,
    threads: int,
    sender: Connection,
) -> None:
    """A worker: sends the seconds of a step of each of its stacks, added up."""
    threading.Thread(target=end_with_the_main_process, daemon=True).start()
    torch.set_num_threads(threads)
    with contextlib.suppress(Exception):  # what fails here fails again, and is told, in the run
        sender.send(sum(_seconds_per_step(task, stack, device, scratch) for stack in stacks))


def _seconds_per_step(
    task: Task, stack: Sequence[Member], device: torch.device, scratch: Path
) -> float:
    """Seconds of an environment step of a stack, its share of the evaluations included."""
    moment = dataclasses.replace(
        task,
        steps=ENDLESS,
        random_steps=RANDOM_STEPS,
        exploration_steps=ENDLESS,
        evaluation_every=ENDLESS,
        log_every=ENDLESS,
        checkpoint_minutes=math.inf,
        replay_capacity=min(task.replay_capacity, CAPACITY),
        reference_after=RANDOM_STEPS,
    )
    run = TimingRun(moment, stack, device, scratch, lambda _: None)
    agent = run.members[0].spec.agent(run)
    with contextlib.suppress(TimingDone):
        agent.train()
    # An evaluation steps K environments of each member to the end of an episode.
    steps = task.evaluation_episodes * task.episode_steps / task.evaluation_every
    return run.seconds + steps * _seconds_per_environment_step(run)


def _seconds_per_environment_step(run: Run) -> float:
    actions = np.zeros((len(run.members), run.sizes[1]), np.float32)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS / 4:
        run.envs.step(actions)
        steps += 1
    return (time.perf_counter() - began) / steps


class TimingDone(Exception):  # noqa: N818
    """What was to be timed has been."""


class TimingRun(Run):
    """A run that times its first updates and ends.

    Attributes:
        seconds: Of an environment step with its update.
    """

    def after_step(self, step: int, agent: Agent) -> None:
        """See `Run.after_step`.

        Raises:
            TimingDone: `seconds` is known.
        """
        timed = step - RANDOM_STEPS - WARM_UP
        if timed == 0:
            synchronise(self.device)
            self.began = time.perf_counter()
        elif timed > 0 and time.perf_counter() - self.began > SECONDS:
            synchronise(self.device)
            self.seconds = (time.perf_counter() - self.began) / timed
            raise TimingDone
