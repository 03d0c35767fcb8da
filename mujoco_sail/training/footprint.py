"""How much memory a benchmark will need, before it starts."""

import torch

from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.machine import free_memory

MIB = 2**20
GIB = 2**30

# Resident memory, measured with the versions of constraints.txt.
PROCESS = 330 * MIB  # a worker with its libraries
ENVIRONMENT = {"dm_control": 13 * MIB, "Meta-World": 24 * MIB}  # each, by library
GYMNASIUM_ENVIRONMENT = 1.5 * MIB

# Networks of the shape of an actor or critic that a member holds: actor, reference, two critics,
# two targets, and two moments of each that is trained.
NETWORKS = 12
# Activations of one critic that live at once while gradients are taken.
ACTIVATIONS = 6


def estimate(
    task: Task, members: int, sizes: tuple[int, int], device: torch.device, workers: int
) -> tuple[float, float]:
    """Bytes of main memory and of the device that updates; the second is 0 on the CPU.

    Args:
        task: Environment and protocol.
        members: All that train at once.
        sizes: O and A.
        device: Where the updates run.
        workers: Processes that will be started.
    """
    width, layers = task.hidden_units, task.hidden_layers
    parameters = (sum(sizes) + 1) * width + (layers - 1) * width * (width + 1)
    activations = ACTIVATIONS * 2 * task.batch_size * width * layers
    capacity = min(task.replay_capacity, task.steps)
    learner = members * (
        capacity * ReplayBuffer.row_bytes(*sizes) + 4 * (NETWORKS * parameters + activations)
    )
    library = task.id.partition("/")[0]
    environments = members * (1 + task.evaluation_episodes)
    host = workers * PROCESS + environments * ENVIRONMENT.get(library, GYMNASIUM_ENVIRONMENT)
    return (host + learner, 0.0) if device.type == "cpu" else (host, learner)


def check(
    task: Task, members: int, sizes: tuple[int, int], device: torch.device, workers: int
) -> str:
    """One line with the estimate.

    Raises:
        UserError: It does not fit.
    """
    host, learner = estimate(task, members, sizes, device, workers)
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
