"""PoLiCER: PEBBLE with queries by policy likelihood and resets by the critics' values.

Segments sigma are drawn uniformly, and ranked by l, the largest first. A session of L labels
compares 2 L of them, drawn without replacement with probability p and paired at random:

    l(sigma) = 1/T sum_t log pi(a_t|s_t),    p(sigma) proportional to rank(sigma)^-tau

The critic-exploited reset reinitialises reward networks and critics before the fit of a session,
except for the first, if q exceeds its threshold:

    q = largest mean_B min_i Q_i(s,a) of all updates since the last reset,  a ~ pi(.|s)
    threshold = q_0, and after n >= 1 resets min(q_0 + d (1 + k + ... + k^(n-1)), 100)

A step has min(1 + n, most_updates) updates until the label budget is spent. The reward is fitted to
crops.

Source: PoLiCER (Heo et al., ICLR 2026, openreview.net/forum?id=ITeuGb2bYg). The formulas are those
of the released code; the text of the paper was not available for comparison.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.cropping import Cropping, CroppingSettings
from mujoco_sail.agents.own_losses import ACTOR_HOOKS, refuse_own_losses
from mujoco_sail.core.optimiser import unchanged
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.queries import drawn_by_rank
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.recipes.settings import demand, setting
from mujoco_sail.recipes.task import MOST

EDGE = 1e-4  # distance of actions from -1 and 1 in l, as in the released code
LARGEST = 100.0  # largest threshold, as in the released code: 1 / (1 - 0.99)


@dataclass(frozen=True, kw_only=True)
class PoLiCERSettings(CroppingSettings):
    """Hyperparameters that the protocol does not fix."""

    rank_exponent: float = setting(low=0, per_member=True)  # tau; 0: only `queries` orders pairs
    reset_threshold: float = setting(low=0, infinite=True, per_member=True)  # q_0; inf: no resets
    threshold_rise: float = setting(low=0, per_member=True)  # d
    rise_decay: float = setting(low=0, high=1, per_member=True)  # k
    most_updates: int = setting(low=1, high=MOST, per_member=True)  # updates per step

    def __post_init__(self) -> None:
        """Checks that the settings are consistent."""
        super().__post_init__()
        # q is computed from the actor's loss, which has no other term then.
        demand(self, [("reverse_kl", not self.reverse_kl, "0 for an agent with resets")])


class PoLiCER(Cropping):
    """PEBBLE with policy likelihood-based queries and critic-exploited resets."""

    Settings = PoLiCERSettings
    settings: PoLiCERSettings

    def __init_subclass__(cls) -> None:
        """Checks that the subclass overrides neither the actor's loss nor what it calls."""
        super().__init_subclass__()
        refuse_own_losses(cls, ACTOR_HOOKS)

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.exponent = self.per_member("rank_exponent")
        self.threshold = self.per_member("reset_threshold")
        self.rise = self.per_member("threshold_rise")
        self.largest_q = torch.zeros_like(self.threshold)
        # On the CPU, because it decides how many updates a step launches.
        self.resets = torch.zeros(len(self.threshold))
        self._most = self.per_member("most_updates").cpu()
        self.log_columns("resets", "largest_q", "query_log_likelihood")

    # --- queries by policy likelihood ---

    @override
    def candidates(self, session: int) -> Callable[[Pairs], Pairs]:
        streams = self.streams("policy likelihood", session)
        at_once = 2 * self.task.labels_per_session

        def paired(drawn: Pairs) -> Pairs:
            score = self.log_likelihood(drawn).flatten(1)
            segments = drawn_by_rank(score, self.exponent, at_once, streams)
            return drawn.paired_anew(segments.view(drawn.start.shape))

        return paired if self.exponent.any() else super().candidates(session)

    @torch.no_grad()
    def log_likelihood(self, pairs: Pairs) -> Tensor:
        """l(sigma) under the current policy, [M, P, 2]."""
        observation, action = torch.split(pairs.inputs.flatten(1, 3), list(self.runner.sizes), -1)
        log_prob = self.distribution(observation).log_prob(action.clamp(EDGE - 1, 1 - EDGE))
        return (log_prob.view_as(pairs.valid) * pairs.valid).sum(-1) / pairs.valid.sum(-1)

    # --- critic-exploited reset ---

    @override
    def fit_reward(self, session: Session) -> None:
        """Resets members whose q exceeds their threshold, then fits the reward."""
        self.logged["query_log_likelihood"] = self.log_likelihood(session.pairs).mean((1, 2))
        self.logged["largest_q"] = self.largest_q.clone()
        if session.first:
            self.largest_q.zero_()
        self.reset(self.largest_q > self.threshold, session.number)
        self.logged["resets"] = self.resets.clone().to(self.device)
        super().fit_reward(session)

    def reset(self, due: Tensor, session: int) -> None:
        """Reinitialises reward networks and critics of the members that are due, [M] of bool."""
        reward, critic = self.reward_model.net, self.critic
        state = [reward.flat, critic.flat, self.target.flat, *self.critic_adam.moments]
        with unchanged(state, ~due):
            reward.redraw(self.streams("reward reset", session))
            critic.redraw(self.streams("critic reset", session))
            self.target.copy_from(critic)
            self.critic_adam.reset()
        raised = (self.threshold + self.rise).clamp_max(LARGEST)
        self.threshold = torch.where(due, raised, self.threshold)
        self.rise = torch.where(due, self.rise * self.per_member("rise_decay"), self.rise)
        self.largest_q = torch.where(due, 0, self.largest_q)
        self.resets += due.cpu()

    @override
    def update(self) -> None:
        """Takes the updates of a step; targets move at the last one only."""
        updates = (1 + self.resets).minimum(self._most)
        most = int(updates.max()) if self.runner.feedback.labels_left else 1
        for taken in range(1, most):
            streams = self.streams(f"further update {taken}", self.updates)
            adams = (self.critic_adam, self.actor_adam, self.alpha_adam)
            state = [moment for adam in adams for moment in adam.moments]
            state += [self.critic.flat, self.actor.flat, self.log_alpha, self.largest_q]
            with unchanged(state, (updates <= taken).to(self.device)):
                self.update_with(streams.uniform(self._drawn.shape[1]), 0.0)
        super().update()

    @override
    def update_with(self, drawn: Tensor, tau: float) -> None:
        alpha = self.alpha.squeeze(1)
        super().update_with(drawn, tau)
        # The actor's loss is the mean of alpha log pi(a|s) - min_i Q_i(s,a).
        q = -self.logged["actor_loss"] - alpha * self.logged["entropy"]
        torch.maximum(self.largest_q, q, out=self.largest_q)
