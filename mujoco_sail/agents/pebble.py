"""PEBBLE: SAC with a reward learned from preferences, and relabelling after every session.

Source: PEBBLE (Lee et al. 2021, arXiv 2106.05091), Algorithms 1 and 2.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.off_policy import Due
from mujoco_sail.agents.preference_learner import PreferenceLearner, PreferenceSettings
from mujoco_sail.agents.sac import SAC, SACSettings
from mujoco_sail.core.entropy import state_entropy_reward
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.state import Tree
from mujoco_sail.recipes.settings import setting

# Number of transitions of each member that are relabelled at once.
CHUNK = 2000
# Names in checkpoints of the keys of `RewardModel.state`.
SAVED_AS = {"net": "reward_net", "adam": "reward_adam", "updates": "reward_updates"}


@dataclass(frozen=True, kw_only=True)
class PEBBLESettings(PreferenceSettings, SACSettings):
    """Hyperparameters that the protocol does not fix."""

    reset_updates: int = setting(low=0)  # updates after the first session, from reset critics


class PEBBLE(PreferenceLearner, SAC):
    """SAC whose reward is the mean of an ensemble that is fitted to preferences."""

    Settings = PEBBLESettings
    settings: PEBBLESettings

    # --- the learned reward ---

    def training_reward(self, observation: Tensor, action: Tensor, task_reward: Tensor) -> Tensor:
        """Learned reward, [M], instead of the task reward."""
        return self.predicted_reward(observation, action)

    def relabel(self) -> None:
        """Recomputes the reward of all stored transitions with the current networks."""
        for at in range(0, len(self.replay_buffer), CHUNK):
            self.relabel_part(slice(at, min(at + CHUNK, len(self.replay_buffer))))

    def relabel_part(self, part: slice) -> None:
        """Recomputes the reward of a slice of the stored transitions."""
        self.replay_buffer.reward[:, part] = self.reward_model.mean(
            self.replay_buffer.observation[:, part], self.replay_buffer.action[:, part]
        )

    def sample(self, uniform: Tensor) -> Tensor:
        """Samples rows with the learned reward, or the state entropy before the first label."""
        rows = super().sample(uniform)
        if not self.labels.shape[1]:
            batch = Batch.of(rows, *self.runner.sizes)
            batch.reward.copy_(self.state_entropy(batch.observation))
        return rows

    def state_entropy(self, observation: Tensor) -> Tensor:
        """State entropy reward of stored observations, [M, B, O], among all stored ones, [M, B]."""
        visited = self.replay_buffer.observation[:, : len(self.replay_buffer)]
        return state_entropy_reward(observation, visited, self.settings.neighbours)

    def graph_key(self) -> Hashable | None:
        """None before the first label: the state entropy is over a growing set of states."""
        return super().graph_key() if self.labels.shape[1] else None

    # --- label sessions ---

    def schedule(self) -> list[Due]:
        """Label sessions, followed by the schedule of SAC."""
        sessions = Due(self.task.first_session, self.task.session_every, self.learn_reward)
        return [sessions, *super().schedule()]

    def learn_reward(self, step: int) -> None:
        """Runs a label session if labels are left; resets the critics after the first one."""
        if not self.runner.feedback.labels_left:
            return
        self.label_session(step)
        if step == self.task.first_session:
            self.reset_critic()
            for _ in range(self.settings.reset_updates):
                self.update()

    @override
    def label_session(self, step: int) -> None:
        """Collects labels, fits the reward and relabels the whole replay buffer."""
        super().label_session(step)
        self.relabel()

    # --- interface to the runner ---

    @override
    def state(self) -> Tree:
        saved = super().state()
        model = saved.pop("reward_model")
        return {**saved, **{SAVED_AS[name]: value for name, value in model.items()}}

    @override
    def load(self, saved: Tree) -> None:
        model = {name: saved[key] for name, key in SAVED_AS.items()}
        others = {key: value for key, value in saved.items() if key not in SAVED_AS.values()}
        super().load({**others, "reward_model": model})

    @override
    def metrics(self) -> dict[str, Tensor]:
        return {**super().metrics(), "reward_updates": self.reward_model.updates}
