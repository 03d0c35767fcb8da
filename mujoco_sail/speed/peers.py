"""Peers: SAC of other libraries, with the same environments and sizes as ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import AgentSpec
from mujoco_sail.agents.registry import load_spec
from mujoco_sail.agents.sb3 import SB3SAC
from mujoco_sail.policies.policy import Policy
from mujoco_sail.recipes.task import Task
from mujoco_sail.system import packages
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.machine import available_cores

# JAX reads this at import. Otherwise it would allocate memory of a GPU.
JAX = {"JAX_PLATFORMS": "cpu"}
# Older versions of JAX obey the flags; version 0.10 ignores them and obeys PJRT_NPROC.
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "PJRT_NPROC": "1",
}


@dataclass(frozen=True)
class Peer:
    """Configuration of another library's SAC.

    Attributes:
        spec: The agent.
        precision: Number format of its updates.
        threads: Numbers of threads with which its processes are timed.
        variables: Environment variables of its processes.
    """

    spec: AgentSpec
    precision: str
    threads: Sequence[int]
    variables: Mapping[str, str] = field(default_factory=dict)

    def threads_of(self, processes: int) -> list[int]:
        """Numbers of threads to time: 1 if there are several processes, otherwise `threads`."""
        return [number for number in self.threads if number == 1 or processes == 1]


def load(names: Sequence[str], task: Task, device: torch.device) -> dict[str, list[Peer]]:
    """Configurations of each peer, by its name in `--peers`.

    Args:
        names: Names of peers, `sb3` and `sbx`.
        task: The task, with environment, sizes and precision.
        device: Device of the updates.

    Raises:
        UserError: SBX is not installed, or the device is not the CPU.
    """
    peers = {}
    for name in names:
        peers[name] = _sbx(device) if name == "sbx" else _sb3(task)
    return peers


def _sb3(task: Task) -> list[Peer]:
    """Configurations of Stable-Baselines3: float32, and bfloat16 if the task has it."""
    spec, threads = load_spec("sb3_sac", {}), sorted({1, available_cores()})
    if task.precision != "bfloat16":
        return [Peer(spec, task.precision, threads)]
    cast = replace(spec, agent=SB3SACBFloat16)
    return [Peer(spec, "float32", threads), Peer(cast, "bfloat16", threads)]


def _sbx(device: torch.device) -> list[Peer]:
    """Configurations of SBX: float32 only; the number of threads is fixed at its start."""
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
    """Imports SBX.

    Raises:
        UserError: SBX is not installed.
    """
    return packages.load("sbx", "--peers sbx: it", "use --peers sb3")


class SB3SACBFloat16(SB3SAC):
    """Stable-Baselines3's SAC with updates in bfloat16 by autocast."""

    @override
    def make_model(self) -> BaseAlgorithm:
        model = super().make_model()
        cast = torch.autocast(self.device.type, torch.bfloat16)
        model.train = cast(model.train)  # type: ignore[attr-defined]
        return model


class SBXSAC(SB3SAC):
    """SBX's SAC (Stable-Baselines3 in JAX), which updates its target networks in every update."""

    @override
    def make_model(self) -> BaseAlgorithm:
        model: BaseAlgorithm = import_sbx().SAC(**self.arguments())
        return model

    @override
    def health(self) -> dict[str, Tensor]:
        policy: Any = self.model.policy
        trees = policy.actor_state.params, policy.qf_state.params, policy.qf_state.target_params
        largest = [np.abs(np.asarray(p)).max() for p in import_module("jax").tree.leaves(trees)]
        return {"a parameter of the policy": torch.tensor(largest).max().unsqueeze(0)}

    @override
    def export_policies(self, step: int) -> list[Policy]:
        return []
