"""Forecast the memory and the time of a benchmark before it starts."""

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
from mujoco_sail.agents.preference_learner import PreferenceLearner
from mujoco_sail.agents.sac import SAC
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.machine import free_memory, synchronise
from mujoco_sail.system.scratch import scratch_folder
from mujoco_sail.system.signals import signals_to_all_blocked
from mujoco_sail.training.run import Run
from mujoco_sail.training.spawning import CONTEXT
from mujoco_sail.training.worker import end_with_the_main_process

MIB = 2**20
GIB = 2**30

# Resident memory, measured with the versions of constraints.txt.
PROCESS = 330 * MIB  # per worker, with its libraries
ENVIRONMENT = {"dm_control": 13 * MIB, "Meta-World": 24 * MIB}  # per environment, by library
GYMNASIUM_ENVIRONMENT = 1.5 * MIB

# Networks per member with the size of an actor or critic: actor, reference policy, two critics, two
# targets, and two Adam moments of each trained network.
NETWORKS = 12
# Activation tensors per layer of a critic that exist at once during the gradient computation.
ACTIVATIONS = 6

# Benchmarks with more floating-point operations per worker than this are timed in advance. On one
# core they take at least about ten minutes.
WORTH_MEASURING = 1e14
RANDOM_STEPS = 20  # before the first update
WARM_UP = 2  # updates before the clock starts: allocators, first-use initialisation
SECONDS = 1.0  # of timed learning; a quarter of it for timed environment steps
CAPACITY = 10_000  # transitions of a replay buffer: far more than a measurement writes
ENDLESS = 10**9  # environment steps

ByWorker = Sequence[Sequence[Sequence[Member]]]  # the stacks of each worker


def memory_needed(
    task: Task, by_worker: ByWorker, sizes: tuple[int, int], device: torch.device
) -> tuple[float, float]:
    """Estimates the bytes of main memory and of GPU memory; the latter is 0 on the CPU.

    Args:
        task: Environment and protocol.
        by_worker: Stacks of each worker process, which trains them one after the other.
        sizes: O and A.
        device: Device of the updates.
    """
    width, layers = task.hidden_units, task.hidden_layers
    parameters = (sum(sizes) + 1) * width + (layers - 1) * width * (width + 1)
    activations = ACTIVATIONS * 2 * task.batch_size * width * layers
    rows = task.stored_transitions * ReplayBuffer.row_bytes(*sizes)
    member = rows + 4 * (NETWORKS * parameters + activations)
    environment = ENVIRONMENT.get(task.id.partition("/")[0], GYMNASIUM_ENVIRONMENT)
    environments = (1 + task.evaluation_episodes) * environment
    # Twice, because joining copies them.
    pairs = 2 * task.labels_in_reach * 2 * task.segment_steps * 4 * (sum(sizes) + 2)
    host = learner = 0.0
    for stacks in by_worker:
        host += PROCESS + max(len(stack) * environments for stack in stacks)
        learner += max(
            len(stack) * (member + pairs * issubclass(stack[0].spec.agent, PreferenceLearner))
            + stack[0].spec.agent.memory(task)
            for stack in stacks
        )
    return (host + learner, 0.0) if device.type == "cpu" else (host, learner)


def check_memory(
    task: Task, members: int, device: torch.device, host: float, learner: float
) -> str:
    """Checks that the memory that `memory_needed` estimated is free.

    Args:
        task: Environment and protocol.
        members: Number of members.
        device: Device of the updates.
        host: Main memory needed, bytes.
        learner: Memory of the device needed, bytes; only used on CUDA.

    Returns:
        One line with the estimate.

    Raises:
        UserError: The members need more memory than is free.
    """
    texts = []
    needs = [("memory", host, free_memory())]
    if device.type == "cuda":
        needs.append(("GPU memory", learner, torch.cuda.mem_get_info(device)[0]))
    for name, needed, free in needs:
        if needed > free:
            raise UserError(
                f"{task.name}: {members} members need about {needed / GIB:.1f} GiB of {name}, "
                f"{free / GIB:.1f} GiB are free;",
                "take fewer seeds or agents at once, or a smaller env.replay_capacity or "
                "env.evaluation_episodes",
            )
        texts.append(f"{needed / GIB:.1f} GiB of {name} ({free / GIB:.1f} free)")
    counted = f"{members} member{'s' if members > 1 else ''}"
    return f"{task.name}: {counted}, about {', '.join(texts)}"


def measurable(members: Sequence[Member]) -> bool:
    """Whether all agents are subclasses of SAC, so that all steps take about equally long."""
    return all(issubclass(member.spec.agent, SAC) for member in members)


def is_long(task: Task, by_worker: ByWorker) -> bool:
    """Whether a benchmark is long enough to measure its speed in advance."""
    most = max(sum(map(len, stacks)) for stacks in by_worker)
    return most * task.steps * update_operations(task, space_sizes(task)) > WORTH_MEASURING


def seconds_needed(
    task: Task, by_worker: ByWorker, steps: int, device: torch.device, threads: int
) -> float | None:
    """Estimates the training time from some steps of all workers at once, in new processes.

    Label sessions are not included; agents that learn from labels are timed as they explore, before
    the first session.

    Args:
        task: Environment and protocol.
        by_worker: Stacks of each worker, all measurable.
        steps: Environment steps of every stack.
        device: Device of the updates.
        threads: Threads per worker.

    Returns:
        Seconds until the last worker ends; None if the measurement fails: the training will fail
        too, or no temporary folder can be made.
    """
    try:
        with scratch_folder() as scratch:
            return steps * _slowest(task, by_worker, device, threads, scratch)
    except (EOFError, OSError):
        return None


def _slowest(
    task: Task, by_worker: ByWorker, device: torch.device, threads: int, scratch: Path
) -> float:
    """Seconds per step of the slowest worker; the arguments are those of `seconds_needed`.

    Raises:
        EOFError: A worker ended without a measurement.
    """
    pipes = [CONTEXT.Pipe(duplex=False) for _ in by_worker]
    workers = [
        CONTEXT.Process(
            target=_work, args=(task, stacks, device, scratch / str(i), threads, sender)
        )
        for i, (stacks, (_, sender)) in enumerate(zip(by_worker, pipes, strict=True))
    ]
    try:
        with signals_to_all_blocked():
            for worker in workers:
                worker.start()
        for _, sender in pipes:
            sender.close()
        return max(float(receiver.recv()) for receiver, _ in pipes)
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
    """Worker process: sends the sum of the seconds per step of its stacks."""
    threading.Thread(target=end_with_the_main_process, daemon=True).start()
    torch.set_num_threads(threads)
    with contextlib.suppress(Exception):  # the run fails again and reports it
        sender.send(sum(_seconds_per_step(task, stack, device, scratch) for stack in stacks))


def _seconds_per_step(
    task: Task, stack: Sequence[Member], device: torch.device, scratch: Path
) -> float:
    """Seconds per environment step of a stack, including the evaluations."""
    moment = dataclasses.replace(
        task,
        teacher="oracle",  # a person is not waited for
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
    """Raised when the measurement is complete."""


class TimingRun(Run):
    """Run that measures the time of its first updates and then ends.

    Attributes:
        seconds: Seconds per environment step with its update.
    """

    def after_step(self, step: int, agent: Agent) -> None:
        """Measures `seconds`.

        Raises:
            TimingDone: `seconds` has been measured.
        """
        timed = step - RANDOM_STEPS - WARM_UP
        if timed == 0:
            synchronise(self.device)
            self.began = time.perf_counter()
        elif timed > 0 and time.perf_counter() - self.began > SECONDS:
            synchronise(self.device)
            self.seconds = (time.perf_counter() - self.began) / timed
            raise TimingDone


def update_operations(task: Task, sizes: tuple[int, int]) -> int:
    """Counts the operations in the matrix products of a SAC update of one member.

    A multiply-add counts as two operations.

    A layer's forward pass, the gradient of its weights and the gradient of its input are one
    product each. The critic step has a forward pass of the actor and of both targets, and a forward
    and backward pass of both critics. The actor step has a forward and backward pass of the actor
    and of both critics, for the latter with respect to the action only.

    Args:
        task: Batch size and hidden layers.
        sizes: O and A.
    """
    observation, action = sizes
    batch, width = task.batch_size, task.hidden_units
    middle = 16 * (task.hidden_layers - 1) * width * width
    # Among the inputs, only the actions of the actor need a gradient.
    first = (8 * (observation + action) + 2 * action + 3 * observation) * width
    # The input gradient of the critics' last layer, of one unit, is an outer product, no matmul.
    last = (8 * 1 + 4 * 2 * action) * width
    return 2 * batch * (middle + first + last)
