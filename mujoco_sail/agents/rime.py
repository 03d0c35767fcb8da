"""RIME: PEBBLE that leaves out or flips the labels it finds unlikely, with a warm start.

Before every epoch of a fit, D = KL(y || P) in nats compares each label y with the prediction P, the
mean probability of the ensemble. The epoch fits the labels with D < tau_lower, and those with
D > tau_upper after flipping them; the others have weight 0. Here

    tau_lower = -ln(rho) + alpha rho + min(beta_t s^2, cap)
    beta_t = max(beta_min, beta_max - (beta_max - beta_min) t / k)

Over the t epochs so far, rho is a moving average of the largest D < tau_lower of an epoch, and s^2
is the variance of all D < tau_lower. The warm start is in the exploration phase:

    r = clip((h - mean) / (3 std), -1, 1),    L(nu) = sum_e E_(s,a)[ (r_e(s,a) - r)^2 ]

h is the state entropy reward of PEBBLE. The agent explores with r, the reward networks descend L,
and the critics are not reset at the first session.

Source: RIME (Cheng et al. 2024, arXiv 2402.17257), section 4. The formulas are those of the
released code; the equation numbers of the paper were not verified.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.off_policy import Due
from mujoco_sail.agents.reward_model import Objective
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.entropy import add_to_moments
from mujoco_sail.core.objectives import label_divergence
from mujoco_sail.core.optimiser import unchanged
from mujoco_sail.core.products import memberwise
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.recipes.settings import setting

RHO_RATE, SMALLEST = 0.1, 1e-8  # rate of rho's average and least rho, as in the released code
AT_ONCE = 500  # pairs whose margins are computed together, for the memory of large label budgets


@dataclass(frozen=True, kw_only=True)
class RIMESettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    alpha: float = setting(above=0, infinite=True, per_member=True)  # inf: fits all labels
    beta_max: float = setting(low=0, per_member=True)
    beta_min: float = setting(low=0, per_member=True)
    beta_epochs: int = setting(low=1, per_member=True)  # k
    uncertainty_cap: float = setting(low=0, per_member=True)
    tau_upper: float = setting(above=0, infinite=True, per_member=True)  # inf: flips none
    # Steps on L per step of exploration; 0 for the exploration and critic reset of PEBBLE.
    warm_start_updates: int = setting(low=0, per_member=True)


class RIME(SAIL):
    """PEBBLE with a denoising discriminator and a warm start of its reward."""

    Settings = RIMESettings
    settings: RIMESettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.warm = self.per_member("warm_start_updates")
        # Number, mean and variance of D below tau_lower, and of h; each [M, 3].
        self.divergence, self.entropy = torch.zeros(2, len(self.warm), 3, device=self.device)
        self.rho, self.epochs = torch.zeros(2, len(self.warm), device=self.device)
        self.log_columns("fitted_labels", "flipped_labels", "tau_lower")

    # --- the denoising discriminator ---

    def reward_objective(self, session: Session) -> Objective:
        """Objective of SAIL with the selected labels."""
        return replace(super().reward_objective(session), targets=self.select)

    def select(self, labels: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and weights of an epoch, a `reward_model.Targets`; updates rho, s^2 and t."""
        starts = range(0, labels.shape[1], AT_ONCE)
        parts = [self.pairs.part(slice(start, start + AT_ONCE)) for start in starts]
        margins = torch.cat([self.reward_model.margin(part) for part in parts], -1)
        divergence = label_divergence(margins, labels)
        tau_lower = self.tau_lower()
        trusted = divergence < tau_lower.unsqueeze(1)
        flipped = divergence > self.per_member("tau_upper").unsqueeze(1)
        used = (trusted & active.unsqueeze(1)).to(labels.dtype)
        add_to_moments(self.divergence, divergence, used)
        self.rho += RHO_RATE * used.amax(-1) * ((used * divergence).amax(-1) - self.rho)
        self.epochs += active
        fitted = (trusted | flipped).to(labels.dtype)
        logged = fitted.mean(-1), flipped.to(labels.dtype).mean(-1), tau_lower
        for name, new in zip(("fitted_labels", "flipped_labels", "tau_lower"), logged, strict=True):
            self.logged[name] = torch.where(active, new, self.logged[name])
        weight = fitted * (fitted.shape[1] / fitted.sum(-1, keepdim=True).clamp_min(1))
        return torch.where(flipped, 1 - labels, labels), weight

    def tau_lower(self) -> Tensor:
        """Divergence below which a label is fitted as it is, [M]."""
        low, high = self.per_member("beta_min"), self.per_member("beta_max")
        beta = high - (high - low) * self.epochs / self.per_member("beta_epochs")
        spread = torch.maximum(low, beta) * self.divergence[:, 2]
        rho: Tensor = self.rho.clamp_min(SMALLEST)
        baseline = self.per_member("alpha") * rho - memberwise(torch.log, rho)
        return baseline + torch.minimum(spread, self.per_member("uncertainty_cap"))

    # --- the warm start ---

    def sample(self, uniform: Tensor) -> Tensor:
        """Samples rows; before the first label, the reward is r."""
        rows = super().sample(uniform)
        if not self.labels.shape[1]:
            h = Batch.of(rows, *self.runner.sizes).reward
            add_to_moments(self.entropy, h, torch.ones_like(h))
            h.copy_(torch.where(self.warm.unsqueeze(1) > 0, self.normalised(h), h))
        return rows

    def normalised(self, h: Tensor) -> Tensor:
        """Reward r of state entropies h, both [M, B]."""
        _, mean, variance = self.entropy.unsqueeze(2).unbind(1)
        return torch.clamp((h - mean) / (3 * variance.sqrt()).clamp_min(SMALLEST), -1, 1)

    def schedule(self) -> list[Due]:
        """Schedule of PEBBLE, followed by the steps on L."""
        return [*super().schedule(), Due(0, 1, self.start_warm)]

    def start_warm(self, step: int) -> None:
        """Takes the steps on L of an environment step, until the first session."""
        streams, buffer = self.streams("warm start", step), self.replay_buffer
        for update in range(0 if self.labels.shape[1] else int(self.warm.max())):
            rows = buffer.sample(streams.uniform(self.task.batch_size))
            batch = Batch.of(rows, *self.runner.sizes)
            loss = self.warm_start_loss(
                batch, self.normalised(self.state_entropy(batch.observation))
            )
            gradients = torch.autograd.grad(loss.sum(), self.reward_model.net.parameters)
            active = self.warm > update
            self.reward_model.adam.step(gradients, active.tolist())
            self.reward_model.updates += active

    def warm_start_loss(self, batch: Batch, r: Tensor) -> Tensor:
        """Loss L of each member, [M], for B transitions with the rewards r, [M, B]."""
        inputs = torch.cat([batch.observation, batch.action], -1).unsqueeze(1)
        error: Tensor = self.reward_model.rewards(inputs) - r.unsqueeze(1)
        return error.square().mean(-1).sum(-1)

    def reset_critic(self) -> None:
        """Reinitialises the critics of members without warm start."""
        state = [self.critic.flat, self.target.flat, *self.critic_adam.moments]
        with unchanged(state, self.warm > 0):
            super().reset_critic()
