"""What runs on the nodes of a cluster: a part of a benchmark, and the board that tells of it."""

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
from mujoco_sail.recipes.task import Task
from mujoco_sail.results.write import run_folder, status_of
from mujoco_sail.system.lock import Lock
from mujoco_sail.training import pool, worker
from mujoco_sail.training.extras import Extras
from mujoco_sail.training.messages import Progress

EVERY = 1.0  # seconds between two words with the board
# Until a shared file system takes back the locks of a node that is gone (NFS: 90 s).
PATIENCE = 120.0  # seconds


@dataclass(frozen=True)
class Part:
    """One task of the cluster.

    Attributes:
        task: Environment and protocol.
        stacks: They train one after the other.
        device: Where their updates run.
        results: The folder that every node sees.
        extras: What the runs leave beside their own files.
    """

    task: Task
    stacks: Sequence[Sequence[Member]]
    device: torch.device
    results: Path
    extras: Extras

    @property
    def members(self) -> tuple[tuple[str, int], ...]:
        """All of them."""
        return tuple((m.spec.name, m.seed) for stack in self.stacks for m in stack)

    @property
    def steps(self) -> int:
        """Member-steps of all of it."""
        return self.task.steps * len(self.members)


class Board:
    """Where the parts leave word for the main process; an actor of its own."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Any]] = []
        self.stopped = False

    def put(self, part: int, messages: Sequence[Any]) -> bool:
        """Takes messages of a part; returns whether it shall stop."""
        self.messages += [(part, message) for message in messages]
        return self.stopped

    def take(self) -> list[tuple[int, Any]]:
        """Hands over what has come."""
        taken, self.messages = self.messages, []
        return taken

    def stop(self) -> None:
        """Asks all parts to save what they have and end."""
        self.stopped = True


@dataclass(frozen=True)
class Began:
    """A part has begun on a node."""

    node: str


class Link:
    """A part's side of the board: once it has begun, nothing that trains waits for it.

    Args:
        ray: The library.
        board: The actor.
        part: Number of the part.
    """

    def __init__(self, ray: Any, board: Any, part: int) -> None:
        self._ray, self._board, self._part = ray, board, part
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
            self.stopped |= self._board.put.remote(self._part, messages).future().result()
        except self._ray.exceptions.RayError:
            self.stopped = True  # the main process is gone


def train(part: Part, number: int, board: Any) -> None:
    """Trains a part to its end, or saves what it has when it shall stop; in a task of Ray."""
    import ray  # noqa: PLC0415

    link = Link(ray, board, number)
    torch.set_num_threads(1)
    locks: list[Lock] = []
    try:
        for stack in part.stacks:
            if link.stopped:
                break
            with worker.failures_told(stack, link.send):
                part.extras.check()
                # What a node that died has finished of it is complete already.
                left = [member for member in stack if _status(part, member) != "complete"]
                pool.check_precision(part.task, part.device)
                # A worker of a node that was given up may still live, and write.
                locks += [Lock(lock_of(part, member), PATIENCE) for member in left]
                worker.train_stack(
                    part.task,
                    left,
                    part.device,
                    part.results,
                    link.send,
                    lambda: link.stopped,
                    part.extras,
                )
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
    """This node: versions that must agree, and what it sees of the results folder."""
    return {
        "host": platform.node(),
        "mujoco_sail": __version__,
        "PyTorch": metadata.version("torch"),
        "Python": platform.python_version(),
        "seen": probe.read_text(encoding="utf-8") if probe.exists() else "",
    }


def lock_of(part: Part, member: Member) -> Path:
    """What a part holds locked while it trains a member."""
    return _folder(part, member).with_name(f".seed_{member.seed}.node.lock")


def _folder(part: Part, member: Member) -> Path:
    return run_folder(part.results, part.task, member.spec.name, member.seed)


def _status(part: Part, member: Member) -> str | None:
    return status_of(_folder(part, member), part.task, member.spec)
