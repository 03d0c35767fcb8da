"""Soft actor-critic on the task reward, for a stack of members.

An agent states its losses in methods, which a subclass may override. Those of the suite, and the
methods that they call, are marked `written_out`: core/update.py computes their gradients without
autograd, so that the whole update can be compiled. Tests compare these gradients with the stated
losses and with finite differences.

    loss        stated in                              gradient
    J_Q         SAC.critic_loss, SAC.critic_target     core/update.py, critic_gradients
    J_pi        SAC.actor_loss; SAIL's adds the anchor core/update.py, update
    J_alpha     core/update.py, temperature_step       core/update.py, temperature_step
    reward      PreferenceLearner.reward_objective     autograd, in RewardModel.fit

    SAC.update               draws random numbers
    SAC.update_with          on CUDA, replays a recorded graph of the calls below
      SAC._call_updater      samples a batch and calls the function that SAC.make_updater returned:
        core/engine.py       if none is overridden: core/update.py, eager or compiled
        own_losses.py        if one is overridden: the agent's losses with autograd, eager

Source: SAC (Haarnoja et al. 2018, arXiv 1812.05905).
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.off_policy import Due, OffPolicy
from mujoco_sail.agents.own_losses import own_losses, update_by_autograd, written_out
from mujoco_sail.core.distributions import LogStd, SquashedGaussian
from mujoco_sail.core.engine import GraphRecorder, Updater
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.streams import Draws
from mujoco_sail.core.update import CRITICS, LOGGED, Constants, SACState
from mujoco_sail.policies.policy import Policy
from mujoco_sail.recipes.settings import demand, setting


@dataclass(frozen=True, kw_only=True)
class SACSettings:
    """Hyperparameters that the protocol does not fix."""

    discount: float = setting(low=0, below=1)  # of future rewards
    tau: float = setting(above=0, high=1)  # factor of the critic in a target update
    target_every: int = setting(low=1)  # updates between target updates
    initial_temperature: float = setting(above=0)  # initial alpha
    log_std_low: float = setting(low=-40)
    log_std_high: float = setting()
    log_std_form: Literal["tanh", "clamp"] = setting()  # how log-std is bounded
    temperature_loss: Literal["alpha", "log_alpha"] = setting()  # see `core.update`

    def __post_init__(self) -> None:
        """Checks that the settings are consistent."""
        low, high = self.log_std_low, self.log_std_high
        # The ratio of the largest and the smallest variance must be finite in float32.
        fits = low < high <= low + 40
        demand(self, [("log_std_high", fits, f"above log_std_low = {low}, by at most 40")])


class SAC(OffPolicy):
    """Soft actor-critic with two critics and a learned temperature."""

    Settings = SACSettings
    settings: SACSettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        task, settings, members = runner.task, self.settings, len(runner.members)
        hidden = [task.hidden_units] * task.hidden_layers
        observation_size, self.action_size = runner.sizes
        self.critic_streams = self.streams("critic")
        sizes = [observation_size + self.action_size, *hidden, 1]
        self.critic = StackedMLP(sizes, CRITICS, self.critic_streams, "relu", task.precision)
        self.target = self.critic.frozen_copy()
        sizes = [observation_size, *hidden, 2 * self.action_size]
        self.actor = StackedMLP(sizes, 1, self.streams("actor"), "relu", task.precision)
        alpha = torch.full((members,), settings.initial_temperature, device=runner.device)
        self.log_alpha, rate = alpha.log(), task.learning_rate
        self.critic_adam = MemberAdam(self.critic.layers, members, rate)
        self.actor_adam = MemberAdam(self.actor.layers, members, rate)
        self.alpha_adam = MemberAdam([self.log_alpha], members, rate)
        self.action_noise = Draws(self.streams("action"), "normal", [1, self.action_size])
        # All random numbers of an update are one draw per member, copied to a fixed tensor, which a
        # recorded CUDA graph reads.
        size = task.batch_size * (1 + 2 * self.action_size)
        self.update_draws = Draws(self.streams("update"), "uniform", [size])
        self._drawn = torch.zeros(members, size, device=runner.device)
        self.updates = 0
        log = torch.full((members, len(LOGGED)), torch.nan, device=runner.device)
        self.logged = dict(zip(LOGGED, log.unbind(1), strict=True))
        self._constants = Constants(
            *runner.sizes,
            settings.discount,
            rate,
            LogStd(settings.log_std_low, settings.log_std_high, settings.log_std_form),
            settings.temperature_loss,
            task.precision,
        )
        self._log, self._tau = log, torch.zeros((), device=runner.device)
        # Valid as long as `sac_state` returns the same tensors.
        self._updater: Callable[[Tensor, Tensor, Tensor, Tensor], None] | None = None
        records = task.cuda_graph and runner.device.type == "cuda"
        self._recorder = GraphRecorder() if records else None

    # --- acting ---

    @written_out
    def distribution(
        self, observation: Tensor, actor: StackedMLP | None = None
    ) -> SquashedGaussian:
        """Policy pi(.|s) for observations [M, B, O], by default of the current actor."""
        output = (actor or self.actor)(observation.unsqueeze(1)).squeeze(1)
        return SquashedGaussian.from_output(output, self._constants.log_std)

    @torch.no_grad()
    def policy(self, observation: Tensor) -> Tensor:
        """Deterministic actions: the mode of the policy."""
        return self.distribution(observation).mode()

    def export_policies(self, step: int) -> list[Policy]:
        """Deterministic policies: tanh of the mean."""
        weights, biases = self.actor.parameters[::2], self.actor.parameters[1::2]
        # The mean is the first half of the output.
        weights[-1], biases[-1] = (p[-1][..., : self.action_size] for p in (weights, biases))
        layers = [
            [(w[m, 0].T, b[m, 0, 0]) for w, b in zip(weights, biases, strict=True)]
            for m in range(len(self.runner.members))
        ]
        return [self._make_policy(m, step, own, "relu", "tanh") for m, own in enumerate(layers)]

    @torch.no_grad()
    def act(self, observation: Tensor, step: int) -> Tensor:
        """Exploratory actions, [M, A], for observations [M, O]."""
        if step <= self.task.random_steps:
            return 2 * self.action_noise.streams.uniform(self.action_size) - 1
        noise = self.action_noise.next()
        return self.acting_policy(observation).action(noise).squeeze(1)

    def acting_policy(self, observation: Tensor) -> SquashedGaussian:
        """Policy for exploration, with parameters [M, 1, A], for observations [M, O]."""
        return self.distribution(observation.unsqueeze(1))

    # --- learning ---

    def schedule(self) -> list[Due]:
        """One update at every step from `task.random_steps` on."""
        return [Due(0, 1, lambda _: self.update())]

    def update(self) -> None:
        """Takes one gradient step of critics, actor and temperature."""
        self.updates += 1
        moves_target = self.updates % self.settings.target_every == 0
        self.update_with(self.update_draws.next(), self.settings.tau if moves_target else 0.0)

    def update_with(self, drawn: Tensor, tau: float) -> None:
        """Takes an update with random numbers like those of `update_draws`, [M, ...]."""
        self._tau.fill_(tau)
        self._drawn.copy_(drawn)
        key = self.graph_key()
        if self._recorder is None or key is None:
            self._call_updater()
        else:
            self._recorder(self._call_updater, key)

    def graph_key(self) -> Hashable | None:
        """Key of the CUDA graph of this update; updates with equal keys launch the same kernels.

        None if every update is different, so that no graph is recorded.
        """
        return ()

    def _call_updater(self) -> None:
        """Takes an update with the random numbers in `_drawn`."""
        size, drawn = self.task.batch_size, self._drawn
        rows, uniform = self.sample(drawn[:, :size]), drawn[:, size:].view(len(drawn), size, -1)
        if self._updater is None:
            self._updater = self.make_updater()
        self._updater(rows, uniform, self._tau, self._log)

    def make_updater(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], None]:
        """Function that takes an update, given rows, uniform numbers, tau and the log."""
        constants, state, task = self._constants, self.sac_state(), self.task
        if own_losses(type(self)):
            return partial(update_by_autograd, self, constants, state)
        later, say, waiting = self.later_sac_states(), self.runner.say, self.runner.waiting
        return Updater(constants, state, task.batch_size, task.engine, later, say, waiting)

    def sac_state(self) -> SACState:
        """Tensors that an update reads and writes."""
        return SACState(
            self.actor_adam.trained,
            self.critic_adam.trained,
            self.target.layers,
            self.alpha_adam.trained,
        )

    def later_sac_states(self) -> list[SACState]:
        """`sac_state` in later phases of the training, when its tensors have other values."""
        return []

    # --- losses: a subclass may override the methods marked `written_out`, see the module docstring

    @written_out
    def critic_loss(self, batch: Batch, next_action: Tensor, next_log_prob: Tensor) -> Tensor:
        """Critic loss J_Q = E[ 1/2 sum_i (Q_i(s,a) - y)^2 ], equation 5.

        Args:
            batch: B transitions of every member.
            next_action: Sample from the policy at their next observations, [M, B, A].
            next_log_prob: Log-density of this sample, [M, B].

        Returns:
            Loss of each member, [M].
        """
        y = self.critic_target(batch, next_action, next_log_prob)
        error = self.q(self.critic, batch.observation, batch.action) - y.unsqueeze(1)
        return 0.5 * error.square().mean(-1).sum(-1)

    @written_out
    @torch.no_grad()
    def critic_target(self, batch: Batch, next_action: Tensor, next_log_prob: Tensor) -> Tensor:
        """Target of the critics, equation 6.

        y = r + discount (1 - terminated) (min_i Q'_i(s',a') - alpha log pi(a'|s'))

        Args:
            batch: B transitions of every member.
            next_action: a', sample from the policy at their next observations, [M, B, A].
            next_log_prob: log pi(a'|s'), [M, B].

        Returns:
            Target y, [M, B], without gradient.
        """
        next_q = self.q(self.target, batch.next_observation, next_action).amin(1)
        soft_value = next_q - self.alpha * next_log_prob
        return batch.reward + self.settings.discount * (1 - batch.terminated) * soft_value

    @written_out
    def actor_loss(
        self, observation: Tensor, pi: SquashedGaussian, action: Tensor, log_prob: Tensor
    ) -> Tensor:
        """Actor loss J_pi = E[ alpha log pi(a|s) - min_i Q_i(s,a) ], equation 7.

        Args:
            observation: Observations, [M, B, O].
            pi: Policy at these observations.
            action: Reparametrised sample from the policy, [M, B, A].
            log_prob: Log-density of this sample, [M, B].

        Returns:
            Loss of each member, [M].
        """
        return (self.alpha * log_prob - self.min_q(observation, action)).mean(-1)

    @written_out
    def min_q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Minimum of the critics, min_i Q_i(s,a), [M, B]."""
        return self.q(self.critic, observation, action).min(1).values

    @property
    def alpha(self) -> Tensor:
        """Entropy temperature, [M, 1]."""
        return self.log_alpha.exp().unsqueeze(1)

    @written_out
    def q(self, critic: StackedMLP, observation: Tensor, action: Tensor) -> Tensor:
        """Q(s, a) of every critic, [M, C, B]."""
        return critic(torch.cat([observation, action], -1).unsqueeze(1)).squeeze(-1)

    def reset_critic(self) -> None:
        """Reinitialises the critics, their targets and their optimiser."""
        self.critic.redraw(self.critic_streams)
        self.target.copy_from(self.critic)
        self.critic_adam.reset()

    @override
    def health(self) -> dict[str, Tensor]:
        newest = (self.replay_buffer.written - 1) % self.replay_buffer.capacity
        losses = {f"the {name}": self.logged[name] for name in ("critic_loss", "actor_loss")}
        return {
            "a parameter of the critic": self.critic.largest(),
            "a parameter of the actor": self.actor.largest(),
            "the temperature": self.alpha.squeeze(1),
            **(losses if self.updates else {}),
            "the reward": self.replay_buffer.reward[:, newest],
        }

    @override
    def metrics(self) -> dict[str, Tensor]:
        updates = torch.full_like(self.log_alpha, self.updates)
        return {"updates": updates, **self.logged, "temperature": self.alpha.squeeze(1)}
