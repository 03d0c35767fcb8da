"""SAIL and SAIL-RevKL whose actor moves along the natural gradient.

All else is that of `agents.sail`: the objective with its anchor, critics, temperature, reward.

Source: SAIL-RevKL (Wu et al. 2026, arXiv 2606.31524), its scripts; see `core.natural_gradient`.
"""

from dataclasses import dataclass, replace

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.own_losses import own_losses
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.natural_gradient import NaturalGradient
from mujoco_sail.recipes.settings import setting


@dataclass(frozen=True, kw_only=True)
class NaturalSAILSettings(SAILSettings):
    """Hyperparameters that the protocol does not fix; the actor has no learning rate."""

    max_kl: float = setting(low=1e-10)  # KL(old || new) of a step of the actor, nats
    cg_iterations: int = setting(low=1)  # of conjugate gradients
    damping: float = setting(above=0)  # added to the diagonal of the Fisher information


class NaturalSAIL(SAIL):
    """SAIL-RevKL with a natural-gradient step of the actor in place of Adam's."""

    Settings = NaturalSAILSettings
    settings: NaturalSAILSettings

    def __init_subclass__(cls) -> None:
        """Refuses losses that leave the update to autograd, which has no natural gradient.

        Raises:
            TypeError: It overrides one.
        """
        super().__init_subclass__()
        if own := own_losses(cls):
            raise TypeError(f"{cls.__name__} has a loss of its own, {own[0]}: extend SAIL instead")

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        chosen = self.settings
        natural = NaturalGradient(chosen.max_kl, chosen.cg_iterations, chosen.damping)
        self._constants = replace(self._constants, natural=natural)
