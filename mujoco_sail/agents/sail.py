"""SAIL and SAIL-RevKL: PEBBLE with two more coefficients per member.

With both coefficients 0 it is PEBBLE, with only `reverse_kl` 0 SAIL, with only `lambda` 0 the agent
`pebble_revkl`, and with neither 0 SAIL-RevKL.

Sources: SAIL (Ding et al. 2024, arXiv 2406.15567); SAIL-RevKL (Wu et al. 2026,
arXiv 2606.31524).
"""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.pebble import PEBBLE, PEBBLESettings, margin
from mujoco_sail.core.distributions import SquashedGaussian
from mujoco_sail.core.objectives import (
    gaussian_kl,
    leave_one_out,
    log_likelihood,
    reward_advantage,
    t1_t2_surrogates,
)
from mujoco_sail.core.update import Anchor, Learner
from mujoco_sail.preferences.sessions import Pairs
from mujoco_sail.recipes.settings import setting


@dataclass(frozen=True, kw_only=True)
class SAILSettings(PEBBLESettings):
    """Hyperparameters that the protocol does not fix."""

    # Weight of T2. It replaces the factor 1 / alpha, and T2 is averaged over a segment's steps.
    lambda_: float = setting(low=0, per_member=True)
    # gamma: weight of KL(pi_ref || pi_theta) in the actor's loss, per nat. The paper calls this
    # direction the reverse KL; much of the literature calls it the forward KL.
    reverse_kl: float = setting(low=0, per_member=True)
    # B_theta: radius of the L2 ball that holds the actor's parameters; inf for none.
    projection_radius: float = setting(above=0, infinite=True, per_member=True)


class SAIL(PEBBLE):
    """PEBBLE with the gradient through the sampling distribution and the KL anchor."""

    Settings = SAILSettings
    settings: SAILSettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.lambda_ = self.per_member("lambda_")
        self.reverse_kl = self.per_member("reverse_kl")
        self.projection_radius = self.per_member("projection_radius")
        # A term whose weight is 0 for all members of this stack is not computed.
        self._has_t2 = bool(self.lambda_.any())
        self._has_projection = bool(self.projection_radius.isfinite().any())
        # pi_ref; not in use before the first refresh.
        self.reference = self.actor.frozen_copy()
        self.anchored = False
        # The newest session but the first; set before every fit that reads it, so no checkpoint
        # needs it.
        self._newest: tuple[Pairs, Tensor, SquashedGaussian] | None = None

    # --- T2: the gradient through the sampling distribution ---

    def before_reward_fit(self, newest: Pairs, labels: Tensor, first: bool) -> None:
        """Remembers the newest session: T2 is an expectation under the current policy.

        The first session's segments come from random and exploring behaviour, not from
        pi_nu: it has no T2.
        """
        if first or not self._has_t2:
            return
        observation = newest.inputs[..., : self.runner.sizes[0]].flatten(1, 3)
        with torch.no_grad():
            self._newest = newest, labels, self.distribution(observation)
        self._gap_streams = self.streams("policy gap", self.runner.feedback.sessions)

    def reward_objective(self, log_p: Tensor) -> Tensor:
        """T1 + lambda T2, see `core.objectives`."""
        t1 = super().reward_objective(log_p)
        if self._newest is None:
            return t1
        return t1 + self.lambda_.unsqueeze(1) * self.t2(*self._newest).mean(-1)

    def t2(self, pairs: Pairs, labels: Tensor, pi: SquashedGaussian) -> Tensor:
        """Surrogate of T2 on the newest pairs, [M, E, P], with grad Q approximated by grad r.

        Args:
            pairs: Those of the newest session.
            labels: [M, P].
            pi: The current policy at the pairs' observations, [M, P * 2 * T, A].
        """
        action = pi.action(self._gap_streams.normal(*pi.mean.shape[1:]))
        observation = pairs.inputs[..., : self.runner.sizes[0]]
        policy_inputs = torch.cat([observation, action.view(*observation.shape[:-1], -1)], -1)
        # Both kinds of actions in one call: [M, E, 2, P, 2, T].
        rewards, policy_rewards = self.ensemble_rewards(
            torch.stack([pairs.inputs, policy_inputs], 1).unsqueeze(1)
        ).unbind(2)
        valid = pairs.valid.unsqueeze(1)
        score = reward_advantage(rewards, policy_rewards, valid).sum(-1)  # over both segments
        difference, label = margin(rewards, valid), labels.unsqueeze(1)
        baseline = leave_one_out(log_likelihood(difference, label))
        return t1_t2_surrogates(difference, label, score, baseline)[1]

    # --- the anchor ---

    def learn_step(self, step: int) -> None:
        """Refreshes the reference policy where it is due, then learns as PEBBLE does."""
        since = step - self.task.reference_after
        if since >= 0 and since % self.task.reference_every == 0:
            self.reference.copy_from(self.actor)
            if not self.anchored:
                self.anchored, self._updater = True, None
        super().learn_step(step)

    def learner(self) -> Learner:
        """See `SAC.learner`; the anchor is added from the first reference policy on."""
        below = super().learner()
        return below._replace(
            anchor=Anchor(self.reverse_kl, self.reference.layers) if self.anchored else None,
            radius=self.projection_radius if self._has_projection else None,
        )

    def graph_key(self) -> Hashable | None:
        """See `SAC.graph_key`."""
        below = super().graph_key()
        return None if below is None else (self.anchored, below)

    def actor_loss(
        self, observation: Tensor, pi: SquashedGaussian, action: Tensor, log_prob: Tensor
    ) -> Tensor:
        """J_pi + gamma E_s[ KL(pi_ref(.|s) || pi_theta(.|s)) ]."""
        loss = super().actor_loss(observation, pi, action, log_prob)
        if not self.anchored:
            return loss
        return loss + self.reverse_kl * self.kl_to_reference(observation, pi)

    loss_written_out = actor_loss

    def kl_to_reference(self, observation: Tensor, pi: SquashedGaussian) -> Tensor:
        """E_s[ KL(pi_ref(.|s) || pi_theta(.|s)) ], [M], over observations [M, B, O]."""
        with torch.no_grad():
            reference = self.distribution(observation, self.reference)
        return gaussian_kl(*reference, *pi).mean(-1)

    @torch.no_grad()
    def metrics(self) -> dict[str, Tensor]:
        """See `Agent.metrics`; the KL is that over the replay's newest batch."""
        kl = torch.full_like(self.reward_updates, torch.nan)
        if self.anchored:
            observation = self.replay_buffer.newest_observations(self.task.batch_size)
            kl = self.kl_to_reference(observation, self.distribution(observation))
        return {**super().metrics(), "kl_to_reference": kl}
