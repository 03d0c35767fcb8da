"""Code that runs on the nodes of a cluster: training of a work unit, and its message board."""

import platform
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mujoco_sail import __version__
from mujoco_sail.agents.base import Member
from mujoco_sail.core import compilation
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.lock import Lock
from mujoco_sail.training import plan, worker
from mujoco_sail.training.messages import Progress
from mujoco_sail.training.work_unit import WorkUnit

EVERY = 1.0  # seconds between two calls of the board
# Seconds to wait until a shared file system releases the locks of a lost node (NFS: 90 s).
PATIENCE = 120.0


class Board:
    """Message board on which units leave messages for the main process; a Ray actor."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Any]] = []
        self.stopped = False

    def put(self, unit: int, messages: Sequence[Any]) -> bool:
        """Adds messages of a unit; returns whether the unit must stop."""
        self.messages += [(unit, message) for message in messages]
        return self.stopped

    def take(self) -> list[tuple[int, Any]]:
        """Removes and returns all messages."""
        taken, self.messages = self.messages, []
        return taken

    def stop(self) -> None:
        """Asks all units to write checkpoints and end."""
        self.stopped = True


@dataclass(frozen=True)
class Began:
    """Message that a unit has started on a node."""

    node: str


class Link:
    """Connection of a unit to the board; training never waits for it.

    Args:
        ray: The Ray module.
        board: Handle of the `Board` actor.
        unit: Number of the unit.
    """

    def __init__(self, ray: Any, board: Any, unit: int) -> None:
        self._ray, self._board, self._unit = ray, board, unit
        self._waiting: list[Any] = [Began(ray.get_runtime_context().get_node_id())]
        self._lock, self._done = threading.Lock(), threading.Event()
        self.stopped = False
        self._tell()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def send(self, message: Any) -> None:
        """Queues a message; it replaces an older progress message without evaluation."""
        with self._lock:
            if self._waiting and _supersedes(message, self._waiting[-1]):
                self._waiting.pop()
            self._waiting.append(message)

    def close(self) -> None:
        """Sends all queued messages and ends the thread."""
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._done.wait(EVERY):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            messages, self._waiting = self._waiting, []
        try:
            # `ray.get` would let another task use the core of this one in the meantime.
            self.stopped |= self._board.put.remote(self._unit, messages).future().result()
        except self._ray.exceptions.RayError:
            self.stopped = True  # the main process is gone


def train(unit: WorkUnit, number: int, board: Any) -> None:
    """Ray task: trains a unit to completion, or until it is asked to stop."""
    import ray  # noqa: PLC0415

    link = Link(ray, board, number)
    torch.set_num_threads(1)
    locks: list[Lock] = []
    try:
        for stack in unit.stacks:
            if link.stopped:
                break
            with worker.failures_told(unit, stack, link.send):
                unit.extras.check()
                check_shared(unit, stack)
                # A lost node may have completed some of the runs.
                left = [member for member in stack if unit.status(member) != "complete"]
                if not left:
                    continue
                plan.check_precision(unit.task, unit.device)
                # A worker on a node that was considered lost may still run and write files.
                for member in left:
                    locks.append(Lock(lock_of(unit, member), PATIENCE))
                worker.train_stack(unit, left, link.send, lambda: link.stopped)
    except SystemExit:
        pass  # stopped on request, after checkpoints
    finally:
        for lock in locks:
            lock.release()
        link.close()


def check_shared(unit: WorkUnit, stack: Sequence[Member]) -> None:
    """Checks that this node sees the folder of the main process, also if it joined later.

    Raises:
        UserError: The folder lacks a lock of the main process for a member of the stack.
    """
    if not all(unit.lock(member).exists() for member in stack):
        raise UserError(
            f"node {platform.node()} does not share the results folder {unit.results}: mount it "
            "there, then the same command resumes"
        )


def _supersedes(new: Any, old: Any) -> bool:
    """Whether the new message makes the old one unnecessary."""
    both = isinstance(old, Progress) and isinstance(new, Progress)
    return both and old.returns is None and old.members == new.members


def describe(probe: Path) -> Mapping[str, str]:
    """Description of this node: versions, content of the probe file, obstacle to compilation."""
    return {
        "host": platform.node(),
        "mujoco_sail": __version__,
        "PyTorch": metadata.version("torch"),
        "Python": platform.python_version(),
        "seen": probe.read_text(encoding="utf-8") if probe.exists() else "",
        "obstacle": compilation.obstacle(),
    }


def lock_of(unit: WorkUnit, member: Member) -> Path:
    """Lock file that a unit holds while it trains a member."""
    return unit.folder(member).with_name(f".seed_{member.seed}.node.lock")
