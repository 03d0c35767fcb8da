"""PrefPPO: Stable-Baselines3's PPO on a reward that is learned from preferences.

Source: B-Pref (Lee et al. 2021, arXiv 2111.03026), which adapts Christiano et al. (2017).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.reward_model import Objective, RewardModel
from mujoco_sail.agents.sb3 import SB3PPO, SB3PPOSettings
from mujoco_sail.core.entropy import state_entropy_reward
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.core.streams import Streams
from mujoco_sail.environments.wrappers import Array, Env, Info, Wrapper
from mujoco_sail.preferences.queries import Scheme
from mujoco_sail.preferences.sessions import Pairs
from mujoco_sail.recipes.settings import setting
from mujoco_sail.recipes.task import MOST


@dataclass(frozen=True, kw_only=True)
class PrefPPOSettings(SB3PPOSettings):
    """Hyperparameters that the protocol does not fix; those of the reward are PEBBLE's."""

    queries: Scheme = setting()  # noqa: RUF009 (a field)
    ensemble: int = setting(low=1, high=MOST)
    reward_learning_rate: float = setting(above=0)
    accuracy_target: float = setting(above=0, high=1)
    neighbours: int = setting(low=1)


class PrefPPO(SB3PPO):
    """PPO whose reward is the mean of an ensemble that is fitted to preferences.

    Label sessions take place at the same steps as PEBBLE's. Before the first one the reward is the
    state entropy. A transition keeps the reward that it had when it was collected.
    """

    Settings = PrefPPOSettings
    settings: PrefPPOSettings

    def __init__(self, runner: Runner) -> None:
        task, sizes, device = runner.task, runner.sizes, runner.device
        self.visited = ReplayBuffer(
            1, min(task.replay_capacity, task.steps), *sizes, task.query_window, device
        )
        self.pairs = Pairs.none(1, task.segment_steps, sum(sizes), device)
        self.labels = torch.empty(1, 0, device=device)
        self.logged: dict[str, Tensor] = {
            name: torch.full((1,), torch.nan)
            for name in ("reward_loss", "reward_accuracy", "held_out_accuracy")
        }
        super().__init__(runner)
        self.reward_model = RewardModel(
            task,
            sum(sizes),
            self.settings.ensemble,
            self.settings.reward_learning_rate,
            self.streams("reward"),
        )

    def streams(self, purpose: str, index: int = 0) -> Streams:
        """Random streams of the member for one purpose."""
        return Streams(self.runner.seeds, purpose, self.device, index)

    @override
    def environment(self) -> Env:
        return LearnedReward(super().environment(), self)

    def before_step(self) -> None:
        """Runs a label session if one is due at the coming environment step."""
        task, step = self.task, self.visited.written + 1
        since = step - task.first_session
        if since >= 0 and since % task.session_every == 0 and self.runner.feedback.labels_left:
            self.label_session(step)

    def label_session(self, step: int) -> None:
        """Collects labels and fits the reward to all labels."""
        feedback, model = self.runner.feedback, self.reward_model
        scheme = self.settings.queries if self.labels.shape[1] else "uniform"
        session = feedback.collect_labels(step, self.visited, scheme, model.probability, self.pairs)
        self.pairs = Pairs.joined([self.pairs, session.pairs])
        self.labels = torch.cat([self.labels, session.labels], 1)
        self.logged["reward_loss"], self.logged["reward_accuracy"] = model.fit(
            self.pairs,
            self.labels,
            Objective(),
            self.settings.accuracy_target,
            self.streams("reward batches", session.number),
        )
        self.logged["held_out_accuracy"] = model.accuracy(*feedback.held_out(self.visited))

    def learned_reward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Reward to maximise, [1], of an observation [1, O] and an action [1, A]."""
        if self.labels.shape[1]:
            return self.reward_model.mean(observation.unsqueeze(1), action.unsqueeze(1)).squeeze(1)
        seen = torch.cat(
            [self.visited.observation[:, : len(self.visited)], observation.unsqueeze(1)], 1
        )
        return state_entropy_reward(observation.unsqueeze(1), seen, self.settings.neighbours)[:, 0]

    @override
    def labelled_pairs(self) -> tuple[Pairs, Tensor]:
        return self.pairs, self.labels

    @override
    def health(self) -> dict[str, Tensor]:
        return {"a parameter of the reward": self.reward_model.net.largest(), **super().health()}

    @override
    def metrics(self) -> dict[str, Tensor]:
        updates = {"reward_updates": self.reward_model.updates}
        return {**super().metrics(), **self.logged, **updates}


class LearnedReward(Wrapper):
    """Environment whose reward is the agent's; the task reward is for the teacher only."""

    def __init__(self, env: Env, agent: PrefPPO) -> None:
        super().__init__(env)
        self.agent = agent

    def reset(self, **options: Any) -> tuple[Array, Info]:
        """Resets the environment."""
        self.observation, info = self.env.reset(**options)
        return self.observation, info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, Info]:
        """Runs a label session if one is due, steps, and stores the transition."""
        agent = self.agent
        agent.before_step()
        following, task_reward, terminated, truncated, info = self.env.step(action)
        observation, taken, after = (
            torch.as_tensor(row, dtype=torch.float32, device=agent.device).unsqueeze(0)
            for row in (self.observation, action, following)
        )
        reward = agent.learned_reward(observation, taken)
        scalars = torch.tensor([[task_reward], [terminated]], device=agent.device).float()
        ended = np.array([terminated or truncated])
        agent.visited.add(observation, taken, reward, scalars[0], after, scalars[1], ended)
        self.observation = following
        return following, float(reward), terminated, truncated, info
