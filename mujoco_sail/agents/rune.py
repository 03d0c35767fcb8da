"""RUNE: PEBBLE that is also rewarded where its reward networks disagree.

    r_t = mean_E r_nu(s,a) + beta_t std_E r_nu(s,a),    beta_t = beta_0 (1 - rho)^t

t counts environment steps from the start of the run, as in the released code. The bonus begins
with the first labels; the exploration before them is PEBBLE's.

Source: RUNE (Liang et al. 2022, arXiv 2205.12401), section 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.recipes.settings import setting


@dataclass(frozen=True, kw_only=True)
class RUNESettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    exploration_weight: float = setting(low=0, per_member=True)  # beta_0
    exploration_decay: float = setting(low=0, below=1, per_member=True)  # rho, per step


class RUNE(SAIL):
    """PEBBLE with the uncertainty of the learned reward as a bonus.

    It extends `SAIL`, as the recipe of PEBBLE does, whose coefficients are 0 there.
    """

    Settings = RUNESettings
    settings: RUNESettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.logged["exploration_bonus"] = torch.full_like(self.reward_updates, torch.nan)
        self._beta = self.beta(0)  # in one place for a recorded update to read
        self._has_bonus = bool(self._beta.any())

    def beta(self, step: int) -> Tensor:
        """beta_t, [M]."""
        # In double precision: float32 rounds 1 - rho by up to a third of a percent of rho.
        beta = [
            member.settings.exploration_weight * (1 - member.settings.exploration_decay) ** step
            for member in self.runner.members
        ]
        return torch.tensor(beta, device=self.device)

    def learn_step(self, step: int) -> None:
        """See `PEBBLE`, with this step's beta_t."""
        self._beta.copy_(self.beta(step))
        super().learn_step(step)

    def sample(self, uniform: Tensor) -> Tensor:
        """Rows with the learned reward and its bonus.

        The bonus is that of the newest networks, as is every stored reward. Computing it for the
        batch alone takes one forward pass of the ensemble and no memory.
        """
        rows = super().sample(uniform)
        if self._has_bonus and self.labels.shape[1]:
            batch = Batch.of(rows, *self.runner.sizes)
            uncertainty = self.uncertainty(batch.observation, batch.action)
            bonus = self._beta.unsqueeze(1) * uncertainty
            batch.reward.add_(bonus)
            self.logged["exploration_bonus"].copy_(bonus.mean(-1))
        return rows

    @torch.no_grad()
    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Standard deviation of r_nu over the ensemble, [M, B]."""
        rewards = self.ensemble_rewards(torch.cat([observation, action], -1).unsqueeze(1))
        return rewards.std(1, correction=0)
