"""Peers: SAC of other libraries, on the environments and with the sizes of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.agents.registry import load_spec
from mujoco_sail.agents.sb3 import SB3SAC
from mujoco_sail.policies.policy import Policy
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.machine import available_cores

# JAX reads these as it is imported; it would take a GPU's memory by being there.
JAX = {"JAX_PLATFORMS": "cpu"}
# The flags bind older versions, the number of processors those that ignore the flags (0.10).
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "PJRT_NPROC": "1",
}


@dataclass(frozen=True)
class Peer:
    """One way in which a library's SAC is used.

    Attributes:
        spec: The agent.
        precision: Number format of its updates.
        threads: Numbers of threads that its processes are timed with.
        variables: What its processes have in their environment.
    """

    spec: AgentSpec
    precision: str
    threads: Sequence[int]
    variables: Mapping[str, str] = field(default_factory=dict)

    def threads_of(self, processes: int) -> list[int]:
        """Of each of some processes at once: one, or all numbers where there is one process."""
        return [number for number in self.threads if number == 1 or processes == 1]


def load(names: Sequence[str], task: Task, device: torch.device) -> dict[str, list[Peer]]:
    """The ways in which peers are used, by the name that `--peers` gives them.

    Args:
        names: Some of `sb3` and `sbx`.
        task: Environment, sizes and precision.
        device: Where the updates run.

    Raises:
        UserError: SBX is not installed, or shall run elsewhere than on the CPU.
    """
    peers = {}
    for name in names:
        peers[name] = _sbx(device) if name == "sbx" else _sb3(task)
    return peers


def _sb3(task: Task) -> list[Peer]:
    """As it is, and in bfloat16 where that is asked for."""
    spec, threads = load_spec("sb3_sac", {}), sorted({1, available_cores()})
    if task.precision != "bfloat16":
        return [Peer(spec, task.precision, threads)]
    cast = replace(spec, agent=SB3SACBFloat16)
    return [Peer(spec, "float32", threads), Peer(cast, "bfloat16", threads)]


def _sbx(device: torch.device) -> list[Peer]:
    """It has no other precision, and keeps the number of threads that it was started with."""
    if device.type != "cpu":
        raise UserError("--peers sbx: it is timed on the CPU only; add --device cpu")
    import_sbx()
    spec = replace(
        load_spec("sb3_sac", {}),
        name="sbx_sac",
        title="SBX's SAC on the true reward",
        path=f"{__name__}:{SBXSAC.__name__}",
        agent=SBXSAC,
    )
    peers = [Peer(spec, "float32", [1], JAX | ONE_THREAD)]
    if available_cores() > 1:
        peers.append(Peer(spec, "float32", [available_cores()], JAX))
    return peers


def import_sbx() -> Any:
    """SBX, if it is installed.

    Raises:
        UserError: It is not.
    """
    try:
        return import_module("sbx")
    except (ImportError, OSError) as error:
        raise UserError(
            f"--peers sbx: it needs the package sbx-rl ({error}); "
            "pip install 'mujoco-sail[peers]', or use --peers sb3"
        ) from error


class SB3SACBFloat16(SB3SAC):
    """Stable-Baselines3's SAC with its updates under autocast, as its users get bfloat16."""

    def make_model(self) -> BaseAlgorithm:
        """See `StableBaselines.make_model`."""
        model = super().make_model()
        cast = torch.autocast(self.device.type, torch.bfloat16)
        model.train = cast(model.train)  # type: ignore[attr-defined]
        return model


class SBXSAC(SB3SAC):
    """SBX's SAC: Stable-Baselines3 in JAX. It moves its targets in every update."""

    def make_model(self) -> BaseAlgorithm:
        """See `StableBaselines.make_model`."""
        model: BaseAlgorithm = import_sbx().SAC(**self.arguments())
        return model

    def health(self) -> dict[str, Tensor]:
        """See `Agent.health`."""
        policy: Any = self.model.policy
        trees = policy.actor_state.params, policy.qf_state.params, policy.qf_state.target_params
        largest = [np.abs(np.asarray(p)).max() for p in import_module("jax").tree.leaves(trees)]
        return {"a parameter of the policy": torch.tensor(largest).max().unsqueeze(0)}

    def export_policies(self, step: int) -> list[Policy]:
        """None: see `Agent.export_policies`."""
        return []
