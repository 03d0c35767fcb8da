"""What runs on the nodes of a cluster: a unit of a benchmark, and the board that tells of it."""

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
from mujoco_sail.system.lock import Lock
from mujoco_sail.training import pool, worker
from mujoco_sail.training.messages import Progress
from mujoco_sail.training.work_unit import WorkUnit

EVERY = 1.0  # seconds between two words with the board
# Until a shared file system takes back the locks of a node that is gone (NFS: 90 s).
PATIENCE = 120.0  # seconds


class Board:
    """Where the units leave word for the main process; an actor of its own."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Any]] = []
        self.stopped = False

    def put(self, unit: int, messages: Sequence[Any]) -> bool:
        """Takes messages of a unit; returns whether it shall stop."""
        self.messages += [(unit, message) for message in messages]
        return self.stopped

    def take(self) -> list[tuple[int, Any]]:
        """Hands over what has come."""
        taken, self.messages = self.messages, []
        return taken

    def stop(self) -> None:
        """Asks all units to save what they have and end."""
        self.stopped = True


@dataclass(frozen=True)
class Began:
    """A unit has begun on a node."""

    node: str


class Link:
    """A unit's side of the board: once it has begun, nothing that trains waits for it.

    Args:
        ray: The library.
        board: The actor.
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
        """Leaves word; of progress without evaluations only the newest of a stack is told."""
        with self._lock:
            if self._waiting and _supersedes(message, self._waiting[-1]):
                self._waiting.pop()
            self._waiting.append(message)

    def close(self) -> None:
        """Returns when everything has been told."""
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
            # `ray.get` would lend this task's core to another one meanwhile.
            self.stopped |= self._board.put.remote(self._unit, messages).future().result()
        except self._ray.exceptions.RayError:
            self.stopped = True  # the main process is gone


def train(unit: WorkUnit, number: int, board: Any) -> None:
    """Trains a unit to its end, or saves what it has when it shall stop; in a task of Ray."""
    import ray  # noqa: PLC0415

    link = Link(ray, board, number)
    torch.set_num_threads(1)
    locks: list[Lock] = []
    try:
        for stack in unit.stacks:
            if link.stopped:
                break
            with worker.failures_told(stack, link.send):
                unit.extras.check()
                # What a node that died has finished of it is complete already.
                left = [member for member in stack if unit.status(member) != "complete"]
                pool.check_precision(unit.task, unit.device)
                # A worker of a node that was given up may still live, and write.
                locks += [Lock(lock_of(unit, member), PATIENCE) for member in left]
                worker.train_stack(unit, left, link.send, lambda: link.stopped)
    except SystemExit:
        pass  # it was asked to stop, and has saved what it had
    finally:
        for lock in locks:
            lock.release()
        link.close()


def _supersedes(new: Any, old: Any) -> bool:
    """Whether the old message need not be told any more."""
    both = isinstance(old, Progress) and isinstance(new, Progress)
    return both and old.returns is None and old.members == new.members


def describe(probe: Path) -> Mapping[str, str]:
    """This node: versions that must agree, what it sees of the results, why it cannot compile."""
    return {
        "host": platform.node(),
        "mujoco_sail": __version__,
        "PyTorch": metadata.version("torch"),
        "Python": platform.python_version(),
        "seen": probe.read_text(encoding="utf-8") if probe.exists() else "",
        "obstacle": compilation.obstacle(),
    }


def lock_of(unit: WorkUnit, member: Member) -> Path:
    """What a unit holds locked while it trains a member."""
    return unit.folder(member).with_name(f".seed_{member.seed}.node.lock")
