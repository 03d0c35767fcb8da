"""Losses of a subclass's own: how they are recognised, and the update that they are part of.

The suite's losses are marked `written_out`: `core.update` has their gradients. A method that
overrides one has no mark, and autograd differentiates it.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from mujoco_sail.core.distributions import SquashedGaussian, standard_normals
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.optimiser import Trained, adam_step
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.update import LOGGED, Constants, SACState, critic_step, follow_actor

CRITIC_HOOKS = ("critic_loss", "critic_target")
HOOKS = (*CRITIC_HOOKS, "actor_loss")

_WRITTEN_OUT: set[Any] = set()
Loss = TypeVar("Loss", bound=Callable[..., Tensor])


class HasLosses(Protocol):
    """What the update needs of an agent; see `sac.SAC`, also for the shapes."""

    actor: StackedMLP
    critic: StackedMLP

    def distribution(self, observation: Tensor) -> SquashedGaussian:
        """pi(.|s)."""

    def critic_loss(self, batch: Batch, next_action: Tensor, next_log_prob: Tensor) -> Tensor:
        """J_Q."""

    def actor_loss(
        self, observation: Tensor, pi: SquashedGaussian, action: Tensor, log_prob: Tensor
    ) -> Tensor:
        """J_pi."""


def written_out(loss: Loss) -> Loss:
    """Decorator of a method among `HOOKS` whose gradient `core.update` has."""
    _WRITTEN_OUT.add(loss)
    return loss


def own_losses(agent: type) -> list[str]:
    """Those of `HOOKS` that a class has overridden."""
    return [name for name in HOOKS if getattr(agent, name) not in _WRITTEN_OUT]


def update_by_autograd(
    agent: HasLosses,
    constants: Constants,
    learner: SACState,
    rows: Tensor,
    uniform: Tensor,
    tau: Tensor,
    logged: Tensor,
) -> None:
    """`core.update.update`, eager, with the losses of an agent that overrides one.

    The actor's gradient is autograd's; the critic's too if its loss is overridden.

    Args:
        agent: M members.
        constants: See `core.update.update`, also for the others.
        learner: The agent's networks and optimisers.
        rows: [M, B, ...].
        uniform: [M, B, 2A].
        tau: [].
        logged: [M, 3].
    """
    batch = Batch.of(rows, constants.observation_size, constants.action_size)
    next_noise, noise = standard_normals(uniform)
    with torch.no_grad():
        next_pi = agent.distribution(batch.next_observation)
    if any(name in CRITIC_HOOKS for name in own_losses(type(agent))):
        with torch.no_grad():
            next_sample = next_pi.action_and_log_prob(next_noise)
        critic_loss = agent.critic_loss(batch, *next_sample)
        _descend(constants, critic_loss, agent.critic, learner.critic)
        logged[:, LOGGED.index("critic_loss")] = critic_loss.detach()
    else:
        with torch.no_grad():
            critic_step(constants, learner, batch, next_pi, next_noise, logged)
    pi = agent.distribution(batch.observation)
    action, log_prob = pi.action_and_log_prob(noise)
    actor_loss = agent.actor_loss(batch.observation, pi, action, log_prob)
    _descend(constants, actor_loss, agent.actor, learner.actor)
    logged[:, LOGGED.index("actor_loss")] = actor_loss.detach()
    with torch.no_grad():
        follow_actor(constants, learner, log_prob, tau, logged)


def _descend(constants: Constants, loss: Tensor, net: StackedMLP, trained: Trained) -> None:
    """A step of Adam down the losses of members, [M]."""
    gradients = torch.autograd.grad(loss.sum(), net.parameters)
    with torch.no_grad():
        adam_step(trained, [g.flatten(0, 1) for g in gradients], constants.learning_rate)
