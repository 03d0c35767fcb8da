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
from mujoco_sail.agents.preference_learner import PreferenceLearner, PreferenceSettings
from mujoco_sail.agents.sb3 import SB3PPO, SB3PPOSettings
from mujoco_sail.core.entropy import state_entropy_reward
from mujoco_sail.core.replay_buffer import ReplayBuffer
from mujoco_sail.environments.wrappers import Array, Env, Info, Wrapper


@dataclass(frozen=True, kw_only=True)
class PrefPPOSettings(PreferenceSettings, SB3PPOSettings):
    """Hyperparameters that the protocol does not fix."""


class PrefPPO(PreferenceLearner, SB3PPO):
    """PPO whose reward is the mean of an ensemble that is fitted to preferences.

    Label sessions take place at the same steps as PEBBLE's. Before the first one the reward is the
    state entropy. A transition keeps the reward that it had when it was collected.
    """

    Settings = PrefPPOSettings
    settings: PrefPPOSettings

    def __init__(self, runner: Runner) -> None:
        task = runner.task
        self.logged = {}
        super().__init__(runner)
        self.replay_buffer = ReplayBuffer(
            1,
            task.stored_transitions,
            *runner.sizes,
            task.query_window,
            runner.device,
        )

    @override
    def environment(self) -> Env:
        return LearnedReward(super().environment(), self)

    def before_step(self) -> None:
        """Runs a label session if one is due at the coming environment step."""
        step = self.replay_buffer.written + 1
        if self.task.session_at(step) and self.runner.feedback.labels_left:
            self.label_session(step)

    def training_reward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Reward to maximise, [1], of an observation [1, O] and an action [1, A]."""
        if self.labels.shape[1]:
            return self.predicted_reward(observation, action)
        visited = self.replay_buffer.observation[:, : len(self.replay_buffer)]
        seen = torch.cat([visited, observation.unsqueeze(1)], 1)
        return state_entropy_reward(observation.unsqueeze(1), seen, self.settings.neighbours)[:, 0]

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
        reward = agent.training_reward(observation, taken)
        scalars = torch.tensor([[task_reward], [terminated]], device=agent.device).float()
        ended = np.array([terminated or truncated])
        agent.replay_buffer.add(observation, taken, reward, scalars[0], after, scalars[1], ended)
        self.observation = following
        return following, float(reward), terminated, truncated, info
