"""MRN (Meta-Reward-Net): PEBBLE whose reward is also fitted to the preferences of its critics.

    P_theta(sigma_1 > sigma_2) = sigmoid(Q_theta(s_0^1, a_0^1) - Q_theta(s_0^2, a_0^2)) (6)
    L(nu) = -E[ log P_theta'(nu)(y) ], summed over both critics                        (7)
    theta'(nu) = theta - eta grad_theta J_Q(theta; nu)                                (10)

The Q value of a segment's first step is used as its return. The reward parameters nu descend L
through a virtual step of the critics. J_Q is defined in `core.update`. Its gradient is linear in
the rewards r_b = r_nu(s_b, a_b) of the batch, so that d theta' / d r_b = eta / B sum_i grad
Q_i(s_b, a_b) and

    dL/dnu = eta / B sum_b < sum_i grad Q_i(s_b, a_b), grad L(theta') > dr_b/dnu      (11)

The inner product is a directional derivative of the critics, so no second derivative is needed. A
step of Adam on L (equation 12) is added to nu, multiplied by the member's `meta_weight`.

Source: MRN (Liu et al. 2022, Meta-Reward-Net, NeurIPS), section 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.off_policy import Due
from mujoco_sail.agents.own_losses import CRITIC_HOOKS, refuse_own_losses
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.optimiser import MemberAdam, by_member
from mujoco_sail.core.passes import Parameters, output_derivative, parameter_gradients
from mujoco_sail.core.products import memberwise
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.update import critic_gradients, q_values
from mujoco_sail.recipes.settings import setting


@dataclass(frozen=True, kw_only=True)
class MRNSettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    # Factor of the Adam step on L with rate `reward_learning_rate`.
    meta_weight: float = setting(low=0, per_member=True)
    meta_every: int = setting(low=1)  # N: environment steps between these steps
    virtual_rate: float = setting(above=0)  # eta, learning rate of the virtual step


class MRN(SAIL):
    """PEBBLE with a bilevel step of its reward."""

    Settings = MRNSettings
    settings: MRNSettings

    def __init_subclass__(cls) -> None:
        """Checks that the subclass overrides neither the critics' loss nor what it calls.

        The virtual step is derived for the loss of `SAC`.

        Raises:
            TypeError: The subclass overrides it.
        """
        super().__init_subclass__()
        refuse_own_losses(cls, CRITIC_HOOKS)

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.meta_weight = self.per_member("meta_weight")
        self.meta_adam = MemberAdam(
            self.reward_model.net.layers, len(runner.members), self.settings.reward_learning_rate
        )
        self.log_columns("outer_loss")
        self._has_meta = bool(self.meta_weight.any())

    def schedule(self) -> list[Due]:
        """Schedule of PEBBLE, followed by the bilevel step."""
        return [*super().schedule(), Due(0, self.settings.meta_every, self.refine_reward)]

    def refine_reward(self, step: int) -> None:
        """Takes the bilevel step, from the first label session until the label budget is spent."""
        if self._has_meta and self.labels.shape[1] and self.runner.feedback.labels_left:
            self.meta_step(step)

    @torch.no_grad()
    def meta_step(self, step: int) -> None:
        """Takes a gradient step on L (equation 12) and relabels the replay buffer."""
        size, streams = self.task.batch_size, self.streams("virtual step", step)
        rows = self.replay_buffer.sample(streams.uniform(size))
        noise = streams.normal(size, self.action_size)
        gradients = self.meta_gradients(Batch.of(rows, *self.runner.sizes), noise)
        nu, stored = self.reward_model.net.flat, self.replay_buffer.reward
        before, labelled = nu.clone(), stored.clone()
        self.meta_adam.step(gradients)
        # nu <- nu + weight (Adam step); a member of weight 0 keeps exactly the same parameters.
        nu.sub_(before).mul_(self.of_networks(self.meta_weight)).add_(before)
        self.relabel()
        stored.copy_(torch.where(self.meta_weight.unsqueeze(1) > 0, stored, labelled))

    def of_networks(self, values: Tensor) -> Tensor:
        """Repeats values of members, [M], for the rows of `reward_model.net.flat`, [M E, 1]."""
        return values.repeat_interleave(self.settings.ensemble).unsqueeze(1)

    def meta_gradients(self, batch: Batch, next_noise: Tensor) -> list[Tensor]:
        """Gradient dL/dnu (equation 11), in the layout of `reward_model.net.parameters`.

        Args:
            batch: Transitions of the virtual step; their stored rewards are not used.
            next_noise: Standard normal noise of the next actions, [M, B, A].
        """
        with torch.enable_grad():
            inputs = torch.cat([batch.observation, batch.action], -1)
            reward = self.reward_model.rewards(inputs.unsqueeze(1)).mean(1)  # [M, B]
        state, rate = self.sac_state(), self.settings.virtual_rate
        theta = state.critic.parameters
        with torch.no_grad():
            batch = batch._replace(reward=reward.detach())
            next_pi = self.distribution(batch.next_observation)
            grad_theta, _ = critic_gradients(self._constants, state, batch, next_pi, next_noise)
            virtual = [p - rate * g for p, g in zip(theta, grad_theta, strict=True)]
            _, layers = q_values(theta, batch.observation, batch.action)
            along = output_derivative(theta, layers, self.outer_gradients(virtual))
            grad_reward = rate * by_member(along.squeeze(-1), len(reward)).sum(1) / reward.shape[1]
        return list(torch.autograd.grad(reward, self.reward_model.net.parameters, grad_reward))

    def outer_gradients(self, theta: Parameters) -> list[Tensor]:
        """Gradient of L over all labels with respect to the layers of the critics; logs L.

        Args:
            theta: Layers of the critics after the virtual step, [2 M, ...].
        """
        start = self.pairs.inputs[..., 0, :].flatten(1, 2)  # [M, P * 2, O + A]
        q, layers = q_values(theta, *torch.split(start, list(self.runner.sizes), -1))
        first, second = q.view(*q.shape[:2], -1, 2).unbind(-1)  # [M, 2, P]
        margin, label = first - second, self.labels.unsqueeze(1)
        loss = -log_likelihood(margin, label).mean(-1).sum(1)
        self.logged["outer_loss"].copy_(torch.where(self.meta_weight > 0, loss, torch.nan))
        grad_margin = (memberwise(torch.sigmoid, margin) - label) / label.shape[-1]
        grad_q = torch.stack([grad_margin, -grad_margin], -1).flatten(2)
        return parameter_gradients(theta, layers, grad_q.flatten(0, 1).unsqueeze(-1))
