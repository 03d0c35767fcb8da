"""SAIL and SAIL-RevKL with natural gradient steps of the actor.

The objective with its anchor, the critics, the temperature and the reward are those of
`agents.sail`.

Source: SAIL-RevKL (Wu et al. 2026, arXiv 2606.31524), its scripts; see `core.natural_gradient`.
"""

from dataclasses import dataclass, replace

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.own_losses import refuse_own_losses
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.natural_gradient import NaturalGradient
from mujoco_sail.recipes.settings import setting


@dataclass(frozen=True, kw_only=True)
class NaturalSAILSettings(SAILSettings):
    """Hyperparameters that the protocol does not fix; the actor has no learning rate."""

    max_kl: float = setting(low=1e-10)  # KL(old || new) of an actor step, nats
    cg_iterations: int = setting(low=1)  # conjugate gradient iterations
    damping: float = setting(above=0)  # added to the diagonal of the Fisher information


class NaturalSAIL(SAIL):
    """SAIL-RevKL whose actor takes natural gradient steps instead of Adam steps."""

    Settings = NaturalSAILSettings
    settings: NaturalSAILSettings

    def __init_subclass__(cls) -> None:
        """Checks that the subclass overrides no loss.

        An overridden loss is optimised by autograd and Adam, without natural gradient.

        Raises:
            TypeError: The subclass overrides one.
        """
        super().__init_subclass__()
        refuse_own_losses(cls)

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        chosen = self.settings
        natural = NaturalGradient(chosen.max_kl, chosen.cg_iterations, chosen.damping)
        self._constants = replace(self._constants, natural=natural)
