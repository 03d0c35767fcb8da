"""Soft actor-critic on the task reward, all members as one stack.

Source: SAC (Haarnoja et al. 2018, arXiv 1812.05905).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.distributions import SquashedGaussian
from mujoco_sail.core.graphs import GraphRecorder
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.replay_buffer import Batch, ReplayBuffer
from mujoco_sail.core.streams import Streams
from mujoco_sail.policies.policy import Policy
from mujoco_sail.recipes.settings import setting

CRITICS = 2


@dataclass(frozen=True, kw_only=True)
class SACSettings:
    """Hyperparameters that the protocol does not fix."""

    discount: float = setting(low=0, below=1)  # gamma
    tau: float = setting(above=0, high=1)  # share of the critic in a target update
    target_every: int = setting(low=1)  # updates between target updates
    initial_temperature: float = setting(above=0)  # alpha at the start
    log_std_low: float = setting()
    log_std_high: float = setting()


class SAC(Agent):
    """Soft actor-critic with two critics and a learned temperature."""

    Settings = SACSettings
    settings: SACSettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        task, hidden = runner.task, [runner.task.hidden_units] * runner.task.hidden_layers
        observation_size, self.action_size = runner.sizes
        self.critic_sizes = [observation_size + self.action_size, *hidden, 1]
        self.replay_buffer = ReplayBuffer(
            len(runner.members),
            min(task.replay_capacity, task.steps),
            observation_size,
            self.action_size,
            task.query_window,
            runner.device,
        )
        self.critic_streams = self.streams("critic")
        self.reset_critic()
        self.actor = StackedMLP(
            [observation_size, *hidden, 2 * self.action_size],
            1,
            self.streams("actor"),
            "relu",
            task.precision,
        )
        self.actor_adam = MemberAdam(self.actor.parameters, task.learning_rate)
        alpha = torch.full((len(runner.members),), self.settings.initial_temperature)
        self.log_alpha = alpha.log().to(runner.device)
        self.alpha_adam = MemberAdam([self.log_alpha], task.learning_rate)
        # The heuristic of appendix D: minus the number of action dimensions.
        self.target_entropy = -float(self.action_size)
        self.action_streams = self.streams("action")
        self.batch_streams = self.streams("batch")
        self.noise_streams = self.streams("update noise")
        self.updates = 0
        generators = self.batch_streams.generators + self.noise_streams.generators
        records = runner.task.cuda_graph and runner.device.type == "cuda"
        self._recorder = GraphRecorder(generators) if records else None
        self.logged = {
            name: torch.full((len(runner.members),), torch.nan, device=runner.device)
            for name in ("critic_loss", "actor_loss", "entropy")
        }

    def streams(self, purpose: str, index: int = 0) -> Streams:
        """Generators of the members for one purpose."""
        return Streams([member.seed for member in self.runner.members], purpose, self.device, index)

    # --- acting ---

    def distribution(
        self, observation: Tensor, actor: StackedMLP | None = None
    ) -> SquashedGaussian:
        """pi(.|s) for observations [M, B, O], of the current actor unless told otherwise."""
        output = (actor or self.actor)(observation.unsqueeze(1)).squeeze(1)
        return SquashedGaussian.from_output(
            output, self.settings.log_std_low, self.settings.log_std_high
        )

    @torch.no_grad()
    def policy(self, observation: Tensor) -> Tensor:
        """Deterministic actions, see `Agent.policy`."""
        return self.distribution(observation).mode()

    def export_policies(self, step: int) -> list[Policy]:
        """See `Agent.export_policies`: tanh of the mean."""
        weights, biases = self.actor.parameters[::2], self.actor.parameters[1::2]
        # The mean is the first half of the output.
        weights[-1], biases[-1] = (p[-1][..., : self.action_size] for p in (weights, biases))
        return [
            self._make_policy(
                m,
                step,
                [(w[m, 0].T, b[m, 0, 0]) for w, b in zip(weights, biases, strict=True)],
                "relu",
                "tanh",
            )
            for m in range(len(self.runner.members))
        ]

    @torch.no_grad()
    def act(self, observation: Tensor, step: int) -> Tensor:
        """Exploring actions, [M, A], for observations [M, O]."""
        if step <= self.task.random_steps:
            return 2 * self.action_streams.uniform(self.action_size) - 1
        noise = self.action_streams.normal(1, self.action_size)
        return self.distribution(observation.unsqueeze(1)).action(noise).squeeze(1)

    # --- learning ---

    def train(self) -> None:
        """One environment step and one update at a time, see `Agent.train`."""
        envs = self.runner.envs
        for step in range(self.runner.step + 1, self.task.steps + 1):
            observation = self._tensor(envs.observation)
            action = self.act(observation, step)
            command = action.cpu().numpy()
            # The update is launched before the environments step, so that a GPU learns while the
            # CPU simulates; it draws from the transitions of the steps before this one.
            if step >= self.task.random_steps and len(self.replay_buffer):
                self.learn_step(step)
            result = envs.step(command)
            task_reward = self._tensor(result.reward)
            self.replay_buffer.add(
                observation,
                action,
                self.training_reward(observation, action, task_reward),
                task_reward,
                self._tensor(result.observation),
                self._tensor(result.terminated),
                result.terminated | result.truncated,
            )
            self.runner.after_step(step, self)

    def training_reward(self, observation: Tensor, action: Tensor, task_reward: Tensor) -> Tensor:
        """The reward that the learner maximises, [M]: here the task's own."""
        return task_reward

    def learn_step(self, step: int) -> None:
        """What is due at an environment step: here one update."""
        self.update()

    def sample(self) -> Batch:
        """A batch of transitions with the reward that the learner maximises."""
        return self.replay_buffer.sample(self.batch_streams, self.task.batch_size)

    def update(self) -> None:
        """One gradient step of critics, actor and temperature."""
        self.updates += 1
        moves_target = self.updates % self.settings.target_every == 0
        graph_key = self.graph_key()
        if self._recorder is None or graph_key is None:
            self.logged |= self._update(moves_target)
        else:
            nets = (self.actor, self.critic, self.target)
            self.logged |= self._recorder(
                partial(self._update, moves_target),
                (moves_target, *graph_key),
                [p for net in nets for p in net.parameters],
            )

    def graph_key(self) -> tuple[Hashable, ...] | None:
        """Key of this update's CUDA graph: updates of equal keys launch the same kernels.

        None where every update is different, so that a recording could not be used again.
        """
        return (self.critic,)

    def _update(self, moves_target: bool) -> dict[str, Tensor]:
        """Does an update; returns what is logged of it, each [M]."""
        batch = self.sample()
        logged = self.update_critic(batch) | self.update_actor(batch.observation)
        if moves_target:
            self.target.move_towards(self.critic, self.settings.tau)
        return logged

    def update_critic(self, batch: Batch) -> dict[str, Tensor]:
        """J_Q = E[ 1/2 (Q(s,a) - y)^2 ], equations 5 and 6."""
        with torch.no_grad():
            next_action, next_log_prob = self.distribution(
                batch.next_observation
            ).action_and_log_prob(self._noise(batch.next_observation))
            next_q = self.q(self.target, batch.next_observation, next_action).amin(1)
            next_value = next_q - self.alpha * next_log_prob
            y = batch.reward + self.settings.discount * (1 - batch.terminated) * next_value
        y = y[:, None, :, None]  # for every critic
        q, gradients = self.critic.parameter_gradients(
            self._inputs(batch.observation, batch.action),
            lambda q, members: (q - y[members]) / q.shape[2],
        )
        self.critic_adam.step(gradients)
        return {"critic_loss": 0.5 * (q - y).square().mean(2).sum((1, 2))}

    def update_actor(self, observation: Tensor) -> dict[str, Tensor]:
        """J_pi and J_alpha on one batch of states, equations 7 and 18."""
        pi = self.distribution(observation)
        action, log_prob = pi.action_and_log_prob(self._noise(observation))
        actor_loss = self.actor_loss(observation, pi, action, log_prob)  # [M]
        self.actor_adam.step(torch.autograd.grad(actor_loss.sum(), self.actor.parameters))

        entropy = -log_prob.detach().mean(-1)  # [M]
        # J_alpha = alpha (entropy - target) is its own gradient by log alpha.
        self.alpha_adam.step([self.log_alpha.exp() * (entropy - self.target_entropy)])
        return {"actor_loss": actor_loss.detach(), "entropy": entropy}

    def actor_loss(
        self, observation: Tensor, pi: SquashedGaussian, action: Tensor, log_prob: Tensor
    ) -> Tensor:
        """J_pi = E[ alpha log pi(a|s) - min_i Q_i(s,a) ], equation 7.

        Args:
            observation: [M, B, O].
            pi: The policy at these observations.
            action: Reparametrised sample from it, [M, B, A].
            log_prob: Its log-density, [M, B].

        Returns:
            [M].
        """
        return (self.alpha * log_prob - self.min_q(observation, action)).mean(-1)

    def min_q(self, observation: Tensor, action: Tensor) -> Tensor:
        """min_i Q_i(s,a), [M, B], with the gradient of the action but none of the critics."""

        def output_gradient(q: Tensor, members: slice) -> Tensor:
            return torch.zeros_like(q).scatter_(1, q.argmin(1, keepdim=True), 1)

        q, of_action = self.critic.input_gradient(
            self._inputs(observation, action.detach()),
            output_gradient,
            slice(observation.shape[-1], None),
        )
        # The second term is 0 in value; it attaches the gradient of the minimum with respect to the
        # action (at a tie, that of the first critic) to autograd.
        return q.amin(1).squeeze(-1) + (of_action * (action - action.detach())).sum(-1)

    @property
    def alpha(self) -> Tensor:
        """Temperature, [M, 1]."""
        return self.log_alpha.exp().unsqueeze(1)

    def q(self, critic: StackedMLP, observation: Tensor, action: Tensor) -> Tensor:
        """Q(s, a) of every critic, [M, C, B]."""
        return critic(self._inputs(observation, action)).squeeze(-1)

    @staticmethod
    def _inputs(observation: Tensor, action: Tensor) -> Tensor:
        """Input of all critics of a member, [M, 1, B, O + A]."""
        return torch.cat([observation, action], -1).unsqueeze(1)

    def reset_critic(self) -> None:
        """Draws new critics, copies them to the targets and resets their optimiser."""
        self.critic = StackedMLP(
            self.critic_sizes, CRITICS, self.critic_streams, "relu", self.task.precision
        )
        self.target = self.critic.frozen_copy()
        self.critic_adam = MemberAdam(self.critic.parameters, self.task.learning_rate)

    def health(self) -> dict[str, Tensor]:
        """See `Agent.health`."""
        newest = (self.replay_buffer.written - 1) % self.replay_buffer.capacity
        losses = {f"the {name}": self.logged[name] for name in ("critic_loss", "actor_loss")}
        return {
            "a parameter of the critic": self.critic.largest(),
            "a parameter of the actor": self.actor.largest(),
            "the temperature": self.alpha.squeeze(1),
            **(losses if self.updates else {}),
            "the reward": self.replay_buffer.reward[:, newest],
        }

    def metrics(self) -> dict[str, Tensor]:
        """See `Agent.metrics`."""
        updates = torch.full_like(self.log_alpha, self.updates)
        return {"updates": updates, **self.logged, "temperature": self.alpha.squeeze(1)}

    def _noise(self, observation: Tensor) -> Tensor:
        return self.noise_streams.normal(observation.shape[1], self.action_size)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=self.log_alpha.dtype, device=self.device)
