"""Base class of agents whose reward is an ensemble that is fitted to preferences."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.agents.reward_model import Objective, RewardModel
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.queries import Scheme
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.recipes.settings import setting
from mujoco_sail.recipes.task import MOST


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings:
    """Hyperparameters of the learned reward."""

    queries: Scheme = setting()  # noqa: RUF009 (a field)
    ensemble: int = setting(low=1, high=MOST)  # E, reward networks
    reward_learning_rate: float = setting(above=0)
    # A fit of the reward stops early when this fraction of the labels is predicted correctly.
    accuracy_target: float = setting(above=0, high=1)
    neighbours: int = setting(low=1)  # k of the state entropy estimate


class PreferenceLearner(Agent):
    """Mixin that adds a learned reward: `class X(PreferenceLearner, Base)`.

    `Base` is an `Agent` whose constructor makes the dictionary `logged`.

    Attributes:
        reward_model: The ensemble.
        pairs: All labelled pairs.
        labels: Their labels, [M, P].
        logged: Newest values of columns of `training.csv`, each [M].
        replay_buffer: Transitions that the segments of queries are drawn from.
    """

    settings: PreferenceSettings
    logged: dict[str, Tensor]
    replay_buffer: ReplayBuffer

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        task, members, device = runner.task, len(runner.members), runner.device
        self.reward_model = RewardModel(
            task,
            sum(runner.sizes),
            self.settings.ensemble,
            self.settings.reward_learning_rate,
            self.streams("reward"),
        )
        self.pairs = Pairs.none(members, task.segment_steps, sum(runner.sizes), device)
        self.labels = torch.empty(members, 0, device=device)
        self.log_columns("reward_loss", "reward_accuracy", "held_out_accuracy")

    def log_columns(self, *names: str) -> None:
        """Adds columns to `training.csv`; they are empty until a value is logged."""
        for name in names:
            self.logged[name] = torch.full_like(self.reward_model.updates, torch.nan)

    def label_session(self, step: int) -> None:
        """Collects labels and fits the reward."""
        feedback = self.runner.feedback
        scheme = self.settings.queries if self.labels.shape[1] else "uniform"
        session = feedback.collect_labels(
            step,
            self.replay_buffer,
            scheme,
            self.reward_model.probability,
            self.pairs,
            self.candidates(feedback.sessions + 1),
        )
        self.pairs = Pairs.joined([self.pairs, session.pairs])
        self.labels = torch.cat([self.labels, session.labels], 1)
        self.fit_reward(session)
        held_out = self.reward_model.accuracy(*feedback.held_out(self.replay_buffer))
        self.logged["held_out_accuracy"] = held_out

    def candidates(self, session: int) -> Callable[[Pairs], Pairs]:
        """Function from uniformly drawn pairs to candidate pairs of a session; by default the same.

        Args:
            session: Number of the session, the first is 1.
        """
        return lambda drawn: drawn

    def fit_reward(self, session: Session) -> None:
        """Fits the reward to all labels, including those of the new session."""
        self.logged["reward_loss"], self.logged["reward_accuracy"] = self.reward_model.fit(
            self.pairs,
            self.labels,
            self.reward_objective(session),
            self.settings.accuracy_target,
            self.streams("reward batches", session.number),
        )

    def reward_objective(self, session: Session) -> Objective:
        """Objective that the fit after a session maximises; by default E[ log P_nu(y) ]."""
        return Objective()

    def predicted_reward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Learned reward, [M], of observations [M, O] and actions [M, A]."""
        return self.reward_model.mean(observation.unsqueeze(1), action.unsqueeze(1)).squeeze(1)

    @override
    def labelled_pairs(self) -> tuple[Pairs, Tensor]:
        return self.pairs, self.labels

    @override
    def health(self) -> dict[str, Tensor]:
        return {"a parameter of the reward": self.reward_model.net.largest(), **super().health()}
