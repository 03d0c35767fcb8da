"""Select unfinished runs and lock them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mujoco_sail.agents.base import AgentSpec, Member
from mujoco_sail.environments.envpool import import_envpool
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.recipes.task import HUMAN, Task
from mujoco_sail.results.write import lock_of, remove_checkpoints, run_folder, status_of
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.lock import Lock, remove_if_free


def unfinished_members(
    task: Task, specs: Sequence[AgentSpec], seeds: Sequence[int], results: Path
) -> list[Member]:
    """Selects the members whose runs are not complete, agent by agent.

    Checkpoints and lock files that complete runs have left over are removed.

    Raises:
        UserError: The environment cannot be created, its backend does not support it or these
            agents, or a folder contains a run of another recipe.
    """
    _check_backend(task, specs)
    space_sizes(task)
    for spec in specs:
        if obstacle := spec.agent.obstacle(task):
            raise UserError(f"{task.name}: {spec.name}: {obstacle}")
    members = []
    for spec, seed in itertools.product(specs, seeds):
        folder = run_folder(results, task, spec.name, seed)
        if status_of(folder, task, spec) == "complete":
            # Left by a process that was killed at the end.
            remove_checkpoints(folder)
            remove_if_free(lock_of(folder))
        else:
            members.append(Member(spec, seed))
    return members


def _check_backend(task: Task, specs: Sequence[AgentSpec]) -> None:
    alone = [spec.name for spec in specs if spec.agent.own_environments]
    if task.human and alone:
        raise UserError(
            f"--teacher {HUMAN}: {alone[0]} makes environments of its own, of which no states are "
            "kept; expected other agents"
        )
    if task.backend == "envpool":
        import_envpool(task)
        if alone:
            raise UserError(
                f"{task.name}: key 'backend' is 'envpool'; expected gymnasium, for {alone[0]} "
                "makes environments of its own"
            )


@contextmanager
def locked(
    task: Task,
    members: Sequence[Member],
    results: Path,
    say: Callable[[str], None],
    resume_failed: bool,
) -> Iterator[tuple[list[Member], list[Lock]]]:
    """Locks the runs of members against other commands, as a context manager.

    Unless failed runs are resumed, their checkpoints are removed.

    Yields:
        The unfinished members, and the locks.

    Raises:
        UserError: Another process trains one of the members, or a folder contains a different run.
    """
    locks: list[Lock] = []
    left, afresh = [], []
    try:
        for member in members:
            folder = run_folder(results, task, member.spec.name, member.seed)
            locks.append(Lock(lock_of(folder)))
            # Read again: another command may have completed the run in the meantime.
            status = status_of(folder, task, member.spec)
            if status == "failed" and not resume_failed:
                afresh.append(folder)
            if status != "complete":
                left.append(member)
        if afresh:
            runs = "1 failed run starts" if len(afresh) == 1 else f"{len(afresh)} failed runs start"
            say(f"{task.name}: {runs} again from step 0 (from checkpoints with --resume)")
        for folder in afresh:
            remove_checkpoints(folder)
        if not all(lock.binding for lock in locks):
            say(
                f"{task.name}: the file system of {results} has no locks: a second command on "
                "these runs would not be stopped, and would overwrite their files: do not start one"
            )
        yield left, locks
    finally:
        for lock in locks:
            lock.release()
