"""Support for agents that override a loss: detection, and an update by autograd.

The losses of the suite and the methods that they call are marked with `written_out`, because
`core.update` computes their gradients without autograd. A method that overrides one is not marked
and is differentiated by autograd.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from mujoco_sail.core.distributions import SquashedGaussian, standard_normals
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.optimiser import Trained, adam_step
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.update import LOGGED, Constants, SACState, critic_step, follow_actor

# Methods on which the gradient of the critics depends, and on which that of the actor does.
CRITIC_HOOKS = ("critic_loss", "critic_target", "q")
ACTOR_HOOKS = ("q", "actor_loss", "min_q", "distribution")
HOOKS = (*CRITIC_HOOKS, *ACTOR_HOOKS[1:])

_WRITTEN_OUT: set[Any] = set()
Method = TypeVar("Method", bound=Callable[..., Any])


class HasLosses(Protocol):
    """Interface that the update needs from an agent; `sac.SAC` documents the shapes."""

    actor: StackedMLP
    critic: StackedMLP

    def distribution(self, observation: Tensor) -> SquashedGaussian:
        """Policy pi(.|s)."""

    def critic_loss(self, batch: Batch, next_action: Tensor, next_log_prob: Tensor) -> Tensor:
        """Critic loss J_Q."""

    def actor_loss(
        self, observation: Tensor, pi: SquashedGaussian, action: Tensor, log_prob: Tensor
    ) -> Tensor:
        """Actor loss J_pi."""


def written_out(method: Method) -> Method:
    """Decorator that marks a method in `HOOKS` whose gradient `core.update` computes."""
    _WRITTEN_OUT.add(method)
    return method


def own_losses(agent: type, methods: Sequence[str] = HOOKS) -> list[str]:
    """Names of those methods, some of `HOOKS`, that a class overrides."""
    return [name for name in methods if getattr(agent, name) not in _WRITTEN_OUT]


def refuse_own_losses(agent: type, methods: Sequence[str] = HOOKS) -> None:
    """Checks that a class overrides none of these methods.

    Raises:
        TypeError: It overrides one.
    """
    if own := own_losses(agent, methods):
        raise TypeError(
            f"{agent.__name__} overrides {own[0]}, which its base class does not allow: extend "
            "SAIL instead"
        )


def update_by_autograd(
    agent: HasLosses,
    constants: Constants,
    state: SACState,
    rows: Tensor,
    uniform: Tensor,
    tau: Tensor,
    logged: Tensor,
) -> None:
    """Takes the step of `core.update.update` in eager mode, with the losses of the agent.

    The actor's gradient is computed by autograd, and so is the critics' if a method in
    `CRITIC_HOOKS` is overridden.

    Args:
        agent: Agent with M members.
        constants: Numbers that all members share.
        state: Networks and optimisers of the agent.
        rows: Batch of transitions, [M, B, ...].
        uniform: Uniform random numbers in [0, 1), [M, B, 2A].
        tau: Factor of the target update, [].
        logged: Output for the values of `LOGGED`, [M, 3].
    """
    batch = Batch.of(rows, constants.observation_size, constants.action_size)
    next_noise, noise = standard_normals(uniform)
    with torch.no_grad():
        next_pi = agent.distribution(batch.next_observation)
    if own_losses(type(agent), CRITIC_HOOKS):
        with torch.no_grad():
            next_sample = next_pi.action_and_log_prob(next_noise)
        critic_loss = agent.critic_loss(batch, *next_sample)
        _descend(constants, critic_loss, agent.critic, state.critic)
        logged[:, LOGGED.index("critic_loss")] = critic_loss.detach()
    else:
        with torch.no_grad():
            critic_step(constants, state, batch, next_pi, next_noise, logged)
    pi = agent.distribution(batch.observation)
    action, log_prob = pi.action_and_log_prob(noise)
    actor_loss = agent.actor_loss(batch.observation, pi, action, log_prob)
    _descend(constants, actor_loss, agent.actor, state.actor)
    logged[:, LOGGED.index("actor_loss")] = actor_loss.detach()
    with torch.no_grad():
        follow_actor(constants, state, log_prob, tau, logged)


def _descend(constants: Constants, loss: Tensor, net: StackedMLP, trained: Trained) -> None:
    """Takes an Adam step that minimises the losses of the members, [M]."""
    gradients = torch.autograd.grad(loss.sum(), net.parameters)
    with torch.no_grad():
        adam_step(trained, [g.flatten(0, 1) for g in gradients], constants.learning_rate)
