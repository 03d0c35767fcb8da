"""RUNE: PEBBLE with a reward bonus for disagreement of the reward networks.

    r_t = mean_e r_e(s,a) + beta_t std_e r_e(s,a),    beta_t = beta_0 (1 - rho)^t

t counts environment steps from the start of the run, as in the released code. The bonus starts
with the first labels; before them, the agent explores like PEBBLE.

Source: RUNE (Liang et al. 2022, arXiv 2205.12401), section 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.off_policy import Due
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.recipes.settings import setting


@dataclass(frozen=True, kw_only=True)
class RUNESettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    exploration_weight: float = setting(low=0, per_member=True)  # beta_0
    exploration_decay: float = setting(low=0, below=1, per_member=True)  # rho, per step


class RUNE(SAIL):
    """PEBBLE with the uncertainty of the learned reward as exploration bonus."""

    Settings = RUNESettings
    settings: RUNESettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        # std_E of every stored transition, [M, N], by the networks that computed its reward.
        self.uncertainty = torch.zeros_like(self.replay_buffer.reward)
        self.log_columns("exploration_bonus")
        self._beta = self.beta(0)  # a fixed tensor, which a recorded CUDA graph reads

    def beta(self, step: int) -> Tensor:
        """Weight beta_t of the bonus, [M]."""
        # In double precision: float32 rounds 1 - rho, and the power amplifies the error.
        beta = [
            member.settings.exploration_weight * (1 - member.settings.exploration_decay) ** step
            for member in self.runner.members
        ]
        return torch.tensor(beta, device=self.device)

    def schedule(self) -> list[Due]:
        """Update of beta_t at every step, followed by the schedule of PEBBLE."""
        decay = Due(0, 1, lambda step: self._beta.copy_(self.beta(step)))
        return [decay, *super().schedule()]

    def sample(self, uniform: Tensor) -> Tensor:
        """Samples rows with the learned reward plus the bonus."""
        rows = super().sample(uniform)
        if self.labels.shape[1]:
            uncertainty = self.uncertainty.gather(1, self.replay_buffer.drawn(uniform))
            bonus = self._beta.unsqueeze(1) * uncertainty
            Batch.of(rows, *self.runner.sizes).reward.add_(bonus)
            self.logged["exploration_bonus"].copy_(bonus.mean(-1))
        return rows

    def training_reward(self, observation: Tensor, action: Tensor, task_reward: Tensor) -> Tensor:
        """Mean reward of the ensemble; also stores its std for the next stored transition."""
        mean, deviation = self.mean_and_deviation(observation.unsqueeze(1), action.unsqueeze(1))
        at = self.replay_buffer.written % self.replay_buffer.capacity
        self.uncertainty[:, at] = deviation.squeeze(1)
        return mean.squeeze(1)

    def relabel_part(self, part: slice) -> None:
        """Recomputes reward and uncertainty of a slice of the stored transitions."""
        buffer = self.replay_buffer
        buffer.reward[:, part], self.uncertainty[:, part] = self.mean_and_deviation(
            buffer.observation[:, part], buffer.action[:, part]
        )

    @torch.no_grad()
    def mean_and_deviation(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of r_nu over the ensemble, both [M, B]."""
        rewards = self.reward_model.rewards(torch.cat([observation, action], -1).unsqueeze(1))
        return rewards.mean(1), rewards.std(1, correction=0)
