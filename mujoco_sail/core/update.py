"""One gradient step of soft actor-critic with a KL anchor, as a function of tensors only.

    J_Q     = E[ 1/2 sum_i (Q_i(s,a) - y)^2 ]
    y       = r + discount (1 - terminated) (min_i Q'_i(s',a') - alpha log pi(a'|s')),  a' ~ pi
    J_pi    = E[ alpha log pi(a|s) - min_i Q_i(s,a) + gamma KL(pi_ref(.|s) || pi(.|s)) ],  a ~ pi
    J_alpha = E[ alpha (-log pi(a|s) - target entropy) ]

All parameters are updated by Adam, except that the actor may take natural gradient steps
(`core.natural_gradient`). All gradients are computed without autograd, so that the whole step can
be compiled (`core.engine`). The m members of a call do not influence each other.

Sources: SAC (Haarnoja et al. 2018, arXiv 1812.05905), equations 5 to 7 and 18; SAIL-RevKL (Wu et
al. 2026, arXiv 2606.31524) for the anchor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mujoco_sail.core.distributions import (
    GaussianGradient,
    LogStd,
    SquashedGaussian,
    standard_normals,
)
from mujoco_sail.core.natural_gradient import NaturalGradient, natural_step
from mujoco_sail.core.objectives import gaussian_kl, gaussian_kl_gradient
from mujoco_sail.core.optimiser import Trained, adam_step, by_member, member_sums, part
from mujoco_sail.core.passes import (
    Parameters,
    Precision,
    forward,
    input_gradient,
    parameter_gradients,
    rounded,
)
from mujoco_sail.core.replay_buffer import Batch

# Factor of (-log pi(a|s) - target entropy) in J_alpha: alpha, as in the paper, or log alpha, as in
# Stable-Baselines3.
TemperatureLoss = Literal["alpha", "log_alpha"]

CRITICS = 2
LOGGED = ("critic_loss", "actor_loss", "entropy")


@dataclass(frozen=True)
class Constants:
    """Numbers that all members share; `natural` is None if the actor is updated by Adam.

    In a compiled update, the numbers of `inputs_of` are 0-dimensional tensors, so that one program
    is valid for all values.
    """

    observation_size: int
    action_size: int
    discount: float | Tensor
    learning_rate: float | Tensor
    log_std: LogStd
    temperature_loss: TemperatureLoss
    precision: Precision
    natural: NaturalGradient | None = None


def inputs_of(constants: Constants, dtype: torch.dtype) -> list[Tensor]:
    """Numbers that are inputs of a compiled update, as tensors.

    Args:
        constants: Constants with Python numbers.
        dtype: Dtype of the parameters, to which eager PyTorch rounds a number in a product.
    """
    numbers = [constants.discount, constants.learning_rate]
    if constants.natural is not None:
        numbers += [constants.natural.max_kl, constants.natural.damping]
    return [torch.tensor(x, dtype=dtype) for x in numbers]


def with_inputs(constants: Constants, numbers: Sequence[Any]) -> Constants:
    """Copy of the constants with other values of `inputs_of`."""
    discount, learning_rate, *others = numbers
    natural = constants.natural
    if natural is not None:
        max_kl, damping = others
        natural = replace(natural, max_kl=max_kl, damping=damping)
    return replace(constants, discount=discount, learning_rate=learning_rate, natural=natural)


class Anchor(NamedTuple):
    """KL anchor of the actor.

    Attributes:
        weight: Weight gamma of the KL divergence, [m].
        reference: Layers of the reference policy.
    """

    weight: Tensor
    reference: Parameters


class SACState(NamedTuple):
    """State of m members that an update reads and writes.

    Attributes:
        actor: One network per member.
        critic: Two networks per member.
        target: Layers of the target critics.
        temperature: log alpha, [m].
        anchor: KL anchor; None if no member has one.
        radius: Radius of the L2 ball of each actor's parameters, [m]; None if no member has one.
    """

    actor: Trained
    critic: Trained
    target: Parameters
    temperature: Trained
    anchor: Anchor | None = None
    radius: Tensor | None = None

    def part(self, members: slice) -> "SACState":
        """Views of a slice of the members."""
        count = len(self.temperature.steps)
        anchor, radius = self.anchor, self.radius
        # Terms without effect on these members are not computed.
        if anchor is not None:
            weight, reference = anchor
            weighs = bool(weight[members].any())
            anchor = Anchor(weight[members], part(reference, members, count)) if weighs else None
        if radius is not None:
            radius = radius[members] if radius[members].isfinite().any() else None
        return SACState(
            self.actor.part(members),
            self.critic.part(members),
            part(self.target, members, count),
            self.temperature.part(members),
            anchor,
            radius,
        )


def update(
    constants: Constants,
    state: SACState,
    rows: Tensor,
    uniform: Tensor,
    tau: Tensor,
    logged: Tensor,
) -> None:
    """Takes one step of critics, actor, temperature and targets, in place.

    Args:
        constants: Numbers that all members share.
        state: State of m members.
        rows: Batch of transitions, [m, B, ...], see `replay_buffer.Batch`.
        uniform: Uniform random numbers in [0, 1), [m, B, 2A].
        tau: Factor of the target update, []; 0 for no update.
        logged: Output for the values of `LOGGED`, [m, 3].
    """
    batch = Batch.of(rows, constants.observation_size, constants.action_size)
    next_noise, noise = standard_normals(uniform)
    actor = rounded(state.actor.parameters, constants.precision)
    # One forward pass for both current and next observations.
    output, inputs = forward(actor, torch.cat([batch.next_observation, batch.observation], 1))
    next_output, output = output.chunk(2, 1)
    next_pi = SquashedGaussian.from_output(next_output, constants.log_std)
    pi = SquashedGaussian.from_output(output, constants.log_std)
    critic_step(constants, state, batch, next_pi, next_noise, logged)

    action, log_prob = pi.action_and_log_prob(noise)
    q, grad_action = min_q(constants, state.critic.parameters, batch.observation, action)
    alpha = state.temperature.parameters[0].exp()[:, None]
    loss = alpha * log_prob - q
    grad_pi = pi.soft_value_gradient(noise, action, grad_action, alpha[..., None])
    if state.anchor is not None:
        reverse_kl = state.anchor.weight[:, None]
        kl, grad_kl = kl_to_reference(constants, state.anchor, batch.observation, pi)
        loss = loss + reverse_kl * kl
        grad_pi = GaussianGradient(
            grad_pi.mean + reverse_kl[..., None] * grad_kl.mean,
            grad_pi.log_std + reverse_kl[..., None] * grad_kl.log_std,
        )
    grad_output = grad_pi.to_output(output, constants.log_std)
    size = batch.observation.shape[1]
    if constants.natural is None:
        gradients = parameter_gradients(actor, [h[:, size:] for h in inputs], grad_output / size)
        adam_step(state.actor, gradients, constants.learning_rate)
    else:
        exact, log_std = state.actor.parameters, constants.log_std
        natural_step(constants.natural, exact, grad_output / size, batch.observation, log_std)
    logged[:, LOGGED.index("actor_loss")] = loss.mean(-1)
    follow_actor(constants, state, log_prob, tau, logged)


def critic_step(
    constants: Constants,
    state: SACState,
    batch: Batch,
    next_pi: SquashedGaussian,
    next_noise: Tensor,
    logged: Tensor,
) -> None:
    """Takes an Adam step on J_Q, equations 5 and 6."""
    gradients, error = critic_gradients(constants, state, batch, next_pi, next_noise)
    adam_step(state.critic, gradients, constants.learning_rate)
    logged[:, LOGGED.index("critic_loss")] = 0.5 * (error * error).mean(-1).sum(-1)


def critic_gradients(
    constants: Constants,
    state: SACState,
    batch: Batch,
    next_pi: SquashedGaussian,
    next_noise: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """Gradient of J_Q with respect to the critics' layers, and the errors Q_i(s,a) - y, [m, C, B].

    The policy at the next observations has parameters [m, B, A]; the noise has the same shape.
    """
    next_action, next_log_prob = next_pi.action_and_log_prob(next_noise)
    target = rounded(state.target, constants.precision)
    next_q = q_values(target, batch.next_observation, next_action)[0].amin(1)
    alpha = state.temperature.parameters[0].exp()[:, None]
    soft_value = next_q - alpha * next_log_prob
    y = batch.reward + constants.discount * (1 - batch.terminated) * soft_value
    critic = rounded(state.critic.parameters, constants.precision)
    q, inputs = q_values(critic, batch.observation, batch.action)
    error = q - y[:, None]  # [m, 2, B]
    grad_q = (error / error.shape[-1]).flatten(0, 1).unsqueeze(-1)
    return parameter_gradients(critic, inputs, grad_q), error


def follow_actor(
    constants: Constants, state: SACState, log_prob: Tensor, tau: Tensor, logged: Tensor
) -> None:
    """Completes an update after the actor's step: projection, temperature and targets."""
    project_actor(state)
    temperature_step(constants, state, log_prob, logged)
    target_step(state, tau)


def temperature_step(
    constants: Constants, state: SACState, log_prob: Tensor, logged: Tensor
) -> None:
    """Takes an Adam step on J_alpha, equation 18."""
    entropy = -log_prob.mean(-1)
    # The target entropy is minus the number of action dimensions, as in appendix D.
    (log_alpha,) = state.temperature.parameters
    gradient = entropy + constants.action_size
    if constants.temperature_loss == "alpha":
        gradient = gradient * log_alpha.exp()
    adam_step(state.temperature, [gradient], constants.learning_rate)
    logged[:, LOGGED.index("entropy")] = entropy


def target_step(state: SACState, tau: Tensor) -> None:
    """Updates the targets by Polyak averaging: theta' <- theta' + tau (theta - theta')."""
    for slow, fast in zip(state.target, state.critic.parameters, strict=True):
        slow.add_(tau * (fast - slow))


def q_values(
    critic: Parameters, observation: Tensor, action: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Values Q_i(s,a), [m, 2, B], and the inputs of every layer."""
    x = torch.cat([observation, action], -1).repeat_interleave(CRITICS, 0)
    out, inputs = forward(critic, x)
    return out.view(-1, CRITICS, x.shape[1]), inputs


def min_q(
    constants: Constants, parameters: Parameters, observation: Tensor, action: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimum min_i Q_i(s,a), [m, B], and its gradient with respect to the action, [m, B, A]."""
    critic = rounded(parameters, constants.precision)
    q, inputs = q_values(critic, observation, action)
    one, other = q.unbind(1)
    smaller = torch.stack([one <= other, other < one], 1)  # at a tie, the gradient of the first
    smaller = smaller.to(q.dtype).view(-1, q.shape[-1], 1)
    grad_action = input_gradient(critic, inputs, smaller, slice(constants.observation_size, None))
    return q.amin(1), by_member(grad_action, len(q)).sum(1)


def kl_to_reference(
    constants: Constants, anchor: Anchor, observation: Tensor, pi: SquashedGaussian
) -> tuple[Tensor, GaussianGradient]:
    """KL(pi_ref(.|s) || pi(.|s)), [m, B], and its gradient with respect to pi."""
    output, _ = forward(rounded(anchor.reference, constants.precision), observation)
    reference = SquashedGaussian.from_output(output, constants.log_std)
    return gaussian_kl(*reference, *pi), gaussian_kl_gradient(*reference, *pi)


def project_actor(state: SACState) -> None:
    """Projects each member's actor onto the L2 ball of its radius; inf means no projection."""
    if state.radius is None:
        return
    parameters, radius = state.actor.parameters, state.radius
    norm = member_sums([p.square() for p in parameters]).sqrt()
    scale = torch.where(norm > radius, radius / norm, torch.ones_like(norm))
    for p in parameters:
        p.mul_(scale.view(-1, 1, 1))
