"""PEBBLE: SAC on a reward learned from preferences, relabelled after every session.

Source: PEBBLE (Lee et al. 2021, arXiv 2106.05091), Algorithms 1 and 2.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.sac import SAC, SACSettings
from mujoco_sail.core.entropy import state_entropy_reward
from mujoco_sail.core.memberwise import memberwise
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.preferences.queries import Scheme
from mujoco_sail.preferences.sessions import Pairs
from mujoco_sail.recipes.settings import setting
from mujoco_sail.recipes.task import MOST

# Transitions relabelled at once, per member.
CHUNK = 2000


@dataclass(frozen=True, kw_only=True)
class PEBBLESettings(SACSettings):
    """Hyperparameters that the protocol does not fix."""

    queries: Scheme = setting()  # noqa: RUF009 (a field)
    ensemble: int = setting(low=1, high=MOST)  # E, reward networks
    reward_learning_rate: float = setting(above=0)
    # Reward learning stops early once this share of the labels is predicted correctly.
    accuracy_target: float = setting(above=0, high=1)
    neighbours: int = setting(low=1)  # k of the state entropy
    reset_updates: int = setting(low=0)  # updates after the first session, with new critics


class PEBBLE(SAC):
    """SAC whose reward is the mean of an ensemble fitted to preferences."""

    Settings = PEBBLESettings
    settings: PEBBLESettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        task = runner.task
        self.reward_net = StackedMLP(
            [sum(runner.sizes), *[task.reward_units] * task.reward_layers, 1],
            self.settings.ensemble,
            self.streams("reward"),
            "leaky_relu",
            task.precision,
        )
        self.reward_adam = MemberAdam(
            self.reward_net.layers, len(runner.members), self.settings.reward_learning_rate
        )
        self.pairs = Pairs.none(
            len(runner.members), task.segment_steps, sum(runner.sizes), runner.device
        )
        self.labels = torch.empty(len(runner.members), 0, device=runner.device)
        self.reward_updates = torch.zeros(len(runner.members), device=runner.device)
        for name in ("reward_loss", "reward_accuracy", "held_out_accuracy"):
            self.logged[name] = torch.full_like(self.reward_updates, torch.nan)

    # --- the learned reward ---

    def ensemble_rewards(self, inputs: Tensor) -> Tensor:
        """r_nu of every network, [M, E, ...], for observations and actions.

        Args:
            inputs: [M, E, ..., O + A], or [M, 1, ..., O + A] where all networks get the same.
        """
        flat = torch.tanh(self.reward_net(inputs.flatten(2, -2))).squeeze(-1)
        return flat.view(*flat.shape[:2], *inputs.shape[2:-1])

    @torch.no_grad()
    def predicted_reward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Mean of the ensemble, [M, B]."""
        return self.ensemble_rewards(torch.cat([observation, action], -1).unsqueeze(1)).mean(1)

    @torch.no_grad()
    def predicted_margin(self, pairs: Pairs) -> Tensor:
        """R_nu(sigma_1) - R_nu(sigma_2) by every network, [M, E, P]."""
        return margin(self.ensemble_rewards(pairs.inputs.unsqueeze(1)), pairs.valid.unsqueeze(1))

    def preference_probability(self, pairs: Pairs) -> Tensor:
        """P_nu(sigma_1 > sigma_2) by every network, [M, E, P]."""
        return memberwise(torch.sigmoid, self.predicted_margin(pairs))

    def training_reward(self, observation: Tensor, action: Tensor, task_reward: Tensor) -> Tensor:
        """The learned reward in place of the task's."""
        return self.predicted_reward(observation.unsqueeze(1), action.unsqueeze(1)).squeeze(1)

    def relabel(self) -> None:
        """Replaces the reward of every stored transition by that of the newest networks."""
        for at in range(0, len(self.replay_buffer), CHUNK):
            self.relabel_part(slice(at, min(at + CHUNK, len(self.replay_buffer))))

    def relabel_part(self, part: slice) -> None:
        """Replaces the reward of some stored transitions."""
        self.replay_buffer.reward[:, part] = self.predicted_reward(
            self.replay_buffer.observation[:, part], self.replay_buffer.action[:, part]
        )

    # --- schedule ---

    def learn_step(self, step: int) -> None:
        """A label session where one is due, then one update."""
        since = step - self.task.first_session
        if since >= 0 and since % self.task.session_every == 0 and self.runner.feedback.labels_left:
            self.label_session(step)
            if since == 0:
                self.reset_critic()
                for _ in range(self.settings.reset_updates):
                    self.update()
        self.update()

    def sample(self, uniform: Tensor) -> Tensor:
        """Rows with the learned reward; before the first label, with the state entropy."""
        rows = super().sample(uniform)
        if not self.labels.shape[1]:
            batch = Batch.of(rows, *self.runner.sizes)
            visited = self.replay_buffer.observation[:, : len(self.replay_buffer)]
            batch.reward.copy_(
                state_entropy_reward(batch.observation, visited, self.settings.neighbours)
            )
        return rows

    def graph_key(self) -> Hashable | None:
        """See `SAC.graph_key`; the state entropy is over a growing set of states."""
        return super().graph_key() if self.labels.shape[1] else None

    def label_session(self, step: int) -> None:
        """Asks for labels, fits the reward, relabels the whole replay buffer."""
        first = not self.labels.shape[1]
        scheme = "uniform" if first else self.settings.queries
        newest, labels = self.runner.feedback.collect_labels(
            step, self.replay_buffer, scheme, self.preference_probability, self.pairs
        )
        self.pairs = Pairs.joined([self.pairs, newest])
        self.labels = torch.cat([self.labels, labels], 1)
        self.before_reward_fit(newest, labels, first)
        self.fit_reward(self.pairs)
        self.relabel()
        held_out, truth = self.runner.feedback.held_out(self.replay_buffer)
        correct, strict = correct_predictions(self.predicted_margin(held_out), truth.unsqueeze(1))
        self.logged["held_out_accuracy"] = correct.sum((1, 2)) / strict.sum((1, 2))

    def before_reward_fit(self, newest: Pairs, labels: Tensor, first: bool) -> None:
        """Called with the labels of a new session, before the reward is fitted to all labels."""

    def fit_reward(self, pairs: Pairs) -> None:
        """Epochs over all labels; a member stops when it reaches the accuracy target."""
        members, count = self.labels.shape
        streams = self.streams("reward batches", self.runner.feedback.sessions)
        rows = torch.arange(members, device=self.device).view(-1, 1, 1)
        active = torch.ones(members, dtype=torch.bool, device=self.device)
        for _ in range(self.task.reward_epochs):
            order = streams.uniform(self.settings.ensemble, count).argsort(-1)
            loss, correct, strict = torch.zeros(3, members, device=self.device)
            batches = torch.split(order, self.task.reward_batch_size, dim=-1)
            moving = active.tolist()
            for at in batches:
                rewards = self.ensemble_rewards(pairs.inputs[rows, at])
                valid, label = pairs.valid[rows, at], self.labels[rows, at]
                log_p = self.fitted_log_likelihood(rewards, valid, label)
                objective = self.reward_objective(log_p).sum()
                self.reward_adam.step(
                    torch.autograd.grad(-objective, self.reward_net.parameters), moving
                )
                loss -= log_p.detach().sum((1, 2)) / order[0].numel()
                right, counted = correct_predictions(margin(rewards.detach(), valid), label)
                correct += right.sum((1, 2))
                strict += counted.sum((1, 2))
            accuracy = correct / strict  # not a number where all labels are ties
            for name, value in (("reward_loss", loss), ("reward_accuracy", accuracy)):
                self.logged[name] = torch.where(active, value, self.logged[name])
            self.reward_updates += active * len(batches)
            active = active & ~(accuracy >= self.settings.accuracy_target)
            if not active.any():
                break

    def fitted_log_likelihood(self, rewards: Tensor, valid: Tensor, label: Tensor) -> Tensor:
        """Log P_nu(y) of a batch of pairs as a fit sees them: here whole.

        Args:
            rewards: Of the pairs' steps, [M, E, B, 2, T].
            valid: 1 at steps of a segment, 0 at padding, [M, E, B, 2, T].
            label: [M, E, B].

        Returns:
            [M, E, B].
        """
        return log_likelihood(margin(rewards, valid), label)

    def reward_objective(self, log_p: Tensor) -> Tensor:
        """T1 = E[ log P_nu(y) ], to be maximised.

        Args:
            log_p: Log-likelihood of a batch of all labels so far, [M, E, B].

        Returns:
            [M, E].
        """
        return log_p.mean(-1)

    def labelled_pairs(self) -> tuple[Pairs, Tensor]:
        """See `Agent.labelled_pairs`."""
        return self.pairs, self.labels

    def health(self) -> dict[str, Tensor]:
        """See `Agent.health`."""
        return {"a parameter of the reward": self.reward_net.largest(), **super().health()}

    def metrics(self) -> dict[str, Tensor]:
        """See `Agent.metrics`."""
        return {**super().metrics(), "reward_updates": self.reward_updates}


def margin(rewards: Tensor, valid: Tensor) -> Tensor:
    """R_nu(sigma_1) - R_nu(sigma_2), [..., P], from rewards and validity [..., P, 2, T]."""
    returns = (rewards * valid).sum(-1)
    return returns[..., 0] - returns[..., 1]


def correct_predictions(margin: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Which labels the sign of a predicted margin agrees with; ties do not count.

    Args:
        margin: R(sigma_1) - R(sigma_2), [..., P].
        label: In {0, 0.5, 1}, broadcast to [..., P].

    Returns:
        Which labels are predicted, and which are no ties, both [..., P] of bool.
    """
    strict = (label != 0.5).expand_as(margin)
    return strict & ((margin > 0) == (label > 0.5)), strict
