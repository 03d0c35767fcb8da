"""SAIL and SAIL-RevKL: PEBBLE with T2, a KL anchor, and an optional projection of the actor.

    lambda    reverse_kl    agent
    0         0             PEBBLE
    > 0       0             SAIL
    0         > 0           `pebble_revkl`
    > 0       > 0           SAIL-RevKL

Sources: SAIL (Ding et al. 2024, arXiv 2406.15567); SAIL-RevKL (Wu et al. 2026,
arXiv 2606.31524).
"""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.off_policy import Due
from mujoco_sail.agents.own_losses import written_out
from mujoco_sail.agents.pebble import PEBBLE, PEBBLESettings
from mujoco_sail.agents.reward_model import Objective, Term
from mujoco_sail.agents.sampling_term import (
    DRAWS,
    DRAWS_OF_HALVES,
    Control,
    SamplingTerm,
    Unit,
    centred,
    halves,
    inner,
    ordered_sum,
)
from mujoco_sail.agents.t2_share import negligible_t2
from mujoco_sail.core.distributions import SquashedGaussian
from mujoco_sail.core.objectives import exact_t2_weight, gaussian_kl, log_likelihood
from mujoco_sail.core.streams import Streams
from mujoco_sail.core.update import Anchor, SACState
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.recipes.settings import setting
from mujoco_sail.system.errors import UserError

T2_LOGGED = (
    "t1_norm",
    "t2_norm",
    "t2_share",
    "t2_cosine",
    "t2_signal",
    "t2_weight",
    "t2_exact_weight",
    "t2_age_steps",
    "t2_age_nats",
)


@dataclass(frozen=True, kw_only=True)
class SAILSettings(PEBBLESettings):
    """Hyperparameters that the protocol does not fix."""

    # Weight of T2, in the unit of the next setting; computed once per fit and network.
    lambda_: float = setting(low=0, per_member=True)
    lambda_unit: Unit = setting()  # noqa: RUF009 (a field)
    t2_control: Control = setting()  # noqa: RUF009 (a field)
    # gamma: weight of KL(pi_ref || pi_theta) in the actor's loss, per nat. The paper calls this
    # direction the reverse KL; much of the literature calls it the forward KL.
    reverse_kl: float = setting(low=0, per_member=True)
    # B_theta: radius of the L2 ball that constrains the actor's parameters; inf for no projection.
    projection_radius: float = setting(above=0, infinite=True, per_member=True)


class SAIL(PEBBLE):
    """PEBBLE with the gradient through the sampling distribution (T2) and the KL anchor."""

    Settings = SAILSettings
    settings: SAILSettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.lambda_ = self.per_member("lambda_")
        self.reverse_kl = self.per_member("reverse_kl")
        self.projection_radius = self.per_member("projection_radius")
        # A term is computed only if a member of this stack has a positive weight.
        self._has_t2 = bool(self.lambda_.any())
        self._has_projection = bool(self.projection_radius.isfinite().any())
        permuted = self._has_t2 and self.settings.t2_control == "permuted"
        if permuted and self.task.labels_per_session < 2:
            raise UserError(
                "t2_control = 'permuted' permutes the pairs of a session, and there is one; "
                "expected labels_per_session of at least 2"
            )
        # pi_ref; not used before the first refresh.
        self.reference = self.actor.frozen_copy()
        self.anchored = False
        self.largest_share = torch.zeros_like(self.lambda_)  # largest |T2| / |T1| of all fits
        self.log_columns(*T2_LOGGED)
        # Mean and log-std of the policy that acted, for the steps of the query window; NaN where
        # actions were uniformly random.
        size = (self.query_window + 1) * self.task.episode_steps
        self.acted = torch.full(
            (len(self.lambda_), min(size, self.replay_buffer.capacity + 1), 2 * self.action_size),
            torch.nan,
            device=self.device,
        )

    # --- T2: the gradient through the sampling distribution ---

    def acting_policy(self, observation: Tensor) -> SquashedGaussian:
        """Policy for exploration; also stored, to measure the age of the pairs of T2."""
        pi = super().acting_policy(observation)
        if self._has_t2:
            at = self.replay_buffer.written % self.acted.shape[1]
            self.acted[:, at] = torch.cat(pi, -1).squeeze(1)
        return pi

    def reward_objective(self, session: Session) -> Objective:
        """Objective whose gradient is T1 + w T2, see `core.objectives`; `weigh` computes w.

        T2 is estimated from the newest session, and its weight is constant during the fit. The
        first session has no T2, because its segments come from random actions and exploration, not
        from pi_nu.
        """
        objective = super().reward_objective(session)
        if not self._has_t2:
            return objective
        if not session.first:
            objective = objective.plus(self.weighted_term(session))
        if self.runner.feedback.labels_used >= self.task.labels_in_reach:
            self.warn_of_negligible_t2()
        return objective

    def weighted_term(self, session: Session) -> Term:
        """Weighted T2 of a session, as a term of the objective of a fit."""
        margins = self.reward_model.margin(session.pairs)
        log_p = log_likelihood(margins, session.labels.unsqueeze(1))
        streams = self.streams("sampling term", session.number)
        factor = centred(log_p, self.settings.t2_control, streams)
        term = self.sampling_term(session.pairs, factor)
        weight = self.weigh(term, log_p, streams)
        actions = self.streams("policy gap", session.number)
        rewards = self.reward_model.rewards
        return lambda _: weight * term.surrogate(rewards, term.noise(actions))

    @torch.no_grad()
    def sampling_term(self, pairs: Pairs, factor: Tensor) -> SamplingTerm:
        """T2 from pairs under the current policy; `factor` is [M, E, P]."""
        observation = pairs.inputs[..., : self.runner.sizes[0]]
        pi = self.distribution(observation.flatten(1, 3))
        mean, log_std = (part.view(*observation.shape[:-1], -1) for part in pi)
        return SamplingTerm(pairs, SquashedGaussian(mean, log_std), factor)

    def weigh(self, term: SamplingTerm, log_p: Tensor, streams: Streams) -> Tensor:
        """Weight of T2 in the fit of every network, [M, E]; logs the quantities `T2_LOGGED`.

        Args:
            term: T2 of the newest session.
            log_p: Log-likelihood of its labels, [M, E, P].
            streams: Random streams of the policy's actions.
        """
        model, lambda_ = self.reward_model, self.lambda_.unsqueeze(1)
        networks = model.networks
        t1 = model.gradient(self.pairs, self.labels)
        t2 = term.gradient(model.net, model.rewards, streams, DRAWS)
        t1_square, t2_square = inner(t1, t1, networks), inner(t2, t2, networks)
        exact = exact_t2_weight(self.task.segment_steps, networks, self.alpha)
        units: dict[Unit, Tensor] = {
            "share": torch.where(t2_square > 0, (t1_square / t2_square).sqrt(), 0),
            "exact": exact,
            "fixed": torch.ones_like(exact),
        }
        # A member with lambda = 0 has weight 0 in any unit, so that other members of the stack do
        # not change it.
        weight = torch.where(lambda_ > 0, lambda_ * units[self.settings.lambda_unit], 0)
        weight = weight.expand_as(t1_square)
        square, product = weight.square(), weight * inner(t1, t2, networks)
        signal = square * self.signal(term, log_p, streams)
        whole = ordered_sum(t1_square.unbind(1))
        weighted = ordered_sum((square * t2_square).unbind(1))
        share = (weighted / whole).sqrt()
        steps, nats = self.age(term.pairs, term.pi)
        values = {
            "t1_norm": whole.sqrt(),
            "t2_norm": weighted.sqrt(),
            "t2_share": share,
            "t2_cosine": ordered_sum(product.unbind(1)) / (whole * weighted).sqrt(),
            "t2_signal": ordered_sum(signal.unbind(1)) / whole,
            "t2_weight": ordered_sum(weight.unbind(1)) / networks,
            "t2_exact_weight": exact.squeeze(1),
            "t2_age_steps": steps,
            "t2_age_nats": nats,
        }
        for name in T2_LOGGED:
            self.logged[name] = torch.where(self.lambda_ > 0, values[name], torch.nan)
        self.largest_share = torch.maximum(self.largest_share, share.nan_to_num())
        return weight

    def signal(self, term: SamplingTerm, log_p: Tensor, streams: Streams) -> Tensor:
        """Square of T2's norm without the bias from noise, [M, E]; arguments as of `weigh`.

        Returns:
            Inner product of two independent estimates, from disjoint halves of the pairs; nan for a
            single pair, and for two permuted ones, because a half is one pair.
        """
        model = self.reward_model
        if log_p.shape[-1] < (3 if self.settings.t2_control == "permuted" else 2):
            return log_p.new_full(log_p.shape[:2], torch.nan)
        one, other = (
            term.part(at, centred(log_p[..., at], self.settings.t2_control, streams)).gradient(
                model.net, model.rewards, streams, DRAWS_OF_HALVES
            )
            for at in halves(log_p.shape[-1])
        )
        return inner(one, other, model.networks)

    def age(self, pairs: Pairs, pi: SquashedGaussian) -> tuple[Tensor, Tensor]:
        """Age of pairs in environment steps, and KL divergence to the policy that acted.

        Args:
            pairs: P pairs of the query window.
            pi: Current policy at their observations, with parameters [M, P, 2, T, A].

        Returns:
            Mean age of the steps of all pairs, and mean of KL(pi || policy that acted) in nats over
            the steps whose actions were not uniformly random, both [M].
        """
        at = pairs.start.unsqueeze(-1) + torch.arange(pairs.valid.shape[-1], device=self.device)
        rows = torch.arange(len(at), device=self.device).view(-1, 1, 1, 1)
        acted = self.acted[rows, at % self.acted.shape[1]]
        nats = gaussian_kl(*pi, *acted.chunk(2, -1))
        valid = pairs.valid > 0
        steps = (self.replay_buffer.written - at).to(nats.dtype)
        means = [torch.where(valid, x, torch.nan).flatten(1).nanmean(1) for x in (steps, nats)]
        return means[0], means[1]

    def warn_of_negligible_t2(self) -> None:
        """Reports agents whose T2 was small in every fit, see `t2_share`."""
        names = [member.spec.name for member in self.runner.members]
        shares = zip(names, self.lambda_.tolist(), self.largest_share.tolist(), strict=True)
        with_t2 = [(name, share) for name, lambda_, share in shares if lambda_]
        for agent in dict.fromkeys(names):
            for line in negligible_t2(agent, [share for name, share in with_t2 if name == agent]):
                self.runner.say(line)

    # --- the anchor ---

    def schedule(self) -> list[Due]:
        """Refresh of the reference policy, followed by the schedule of PEBBLE."""
        refresh = Due(self.task.reference_after, self.task.reference_every, self.refresh_reference)
        return [refresh, *super().schedule()]

    def refresh_reference(self, step: int) -> None:
        """Copies the current policy to pi_ref; the anchor is used from the first refresh on."""
        self.reference.copy_from(self.actor)
        if not self.anchored:
            self.anchored, self._updater = True, None

    def sac_state(self) -> SACState:
        """Tensors of SAC and, from the first reference policy on, the anchor."""
        radius = self.projection_radius if self._has_projection else None
        below = super().sac_state()._replace(radius=radius)
        return self._with_anchor(below) if self.anchored else below

    @override
    def later_sac_states(self) -> list[SACState]:
        ahead = not self.anchored and self.task.reference_after <= self.task.steps
        return [self._with_anchor(self.sac_state())] if ahead else []

    def _with_anchor(self, state: SACState) -> SACState:
        return state._replace(anchor=Anchor(self.reverse_kl, self.reference.layers))

    @override
    def graph_key(self) -> Hashable | None:
        below = super().graph_key()
        return None if below is None else (self.anchored, below)

    @written_out
    def actor_loss(
        self, observation: Tensor, pi: SquashedGaussian, action: Tensor, log_prob: Tensor
    ) -> Tensor:
        """Actor loss J_pi + gamma E_s[ KL(pi_ref(.|s) || pi_theta(.|s)) ]."""
        loss = super().actor_loss(observation, pi, action, log_prob)
        if not self.anchored:
            return loss
        return loss + self.reverse_kl * self.kl_to_reference(observation, pi)

    def kl_to_reference(self, observation: Tensor, pi: SquashedGaussian) -> Tensor:
        """Mean KL(pi_ref(.|s) || pi_theta(.|s)) over observations [M, B, O], [M]."""
        with torch.no_grad():
            reference = self.distribution(observation, self.reference)
        return gaussian_kl(*reference, *pi).mean(-1)

    @torch.no_grad()
    def metrics(self) -> dict[str, Tensor]:
        """Metrics of PEBBLE, and the KL to pi_ref over the newest batch of the replay buffer."""
        kl = torch.full_like(self.reverse_kl, torch.nan)
        if self.anchored:
            observation = self.replay_buffer.newest_observations(self.task.batch_size)
            kl = self.kl_to_reference(observation, self.distribution(observation))
        return {**super().metrics(), "kl_to_reference": kl}
