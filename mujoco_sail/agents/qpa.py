"""QPA (query-policy alignment): PEBBLE with queries and batches near the current policy.

Queries come only from the newest episodes, the policy-aligned buffer. With hybrid experience
replay, a fraction of every batch comes from these episodes too. The reward is fitted to random
crops of the labelled segments instead of whole segments.

Source: QPA (Hu et al. 2024, arXiv 2305.17400), section 5, and its released script.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.reward_model import Objective, margin
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.crops import crops
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.recipes.settings import demand, setting
from mujoco_sail.recipes.task import MOST


@dataclass(frozen=True, kw_only=True)
class QPASettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    # N: number of newest episodes for queries; replaces `query_window` of the protocol.
    aligned_episodes: int = setting(low=1)
    # omega: fraction of a batch from these episodes, rounded to whole transitions.
    aligned_share: float = setting(low=0, high=1, per_member=True)
    # tau: number of crops of each labelled pair in a batch; 0 for no cropping.
    crops_per_pair: int = setting(low=0, high=MOST)
    # Lengths of the shortest and the longest crop, relative to a segment.
    shortest_crop: float = setting(above=0, high=1, per_member=True)
    longest_crop: float = setting(above=0, high=1, per_member=True)

    def __post_init__(self) -> None:
        """Checks that the settings are consistent."""
        super().__post_init__()
        fits, longest = self.shortest_crop <= self.longest_crop, self.longest_crop
        demand(self, [("shortest_crop", fits, f"at most longest_crop = {longest}")])


class QPA(SAIL):
    """PEBBLE with policy-aligned queries, hybrid experience replay and temporal cropping."""

    Settings = QPASettings
    settings: QPASettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.shortest_crop = self.per_member("shortest_crop")
        self.longest_crop = self.per_member("longest_crop")
        size = self.task.batch_size
        aligned = (self.per_member("aligned_share") * size).round().unsqueeze(1)  # [M, 1]
        self._recent = torch.arange(size, device=self.device) < aligned
        # A fixed tensor, which a recorded CUDA graph reads; written before every update.
        self._window = self.replay_buffer.window_ranges()

    @property
    @override
    def query_window(self) -> int:
        return self.settings.aligned_episodes

    # --- hybrid experience replay ---

    def is_hybrid(self) -> bool:
        """Whether batches are mixed: from the first session until the label budget is spent."""
        return bool(self.labels.shape[1] and self.runner.feedback.labels_left)

    @override
    def update(self) -> None:
        if self.is_hybrid():
            self._window.copy_(self.replay_buffer.window_ranges())
        super().update()

    def sample(self, uniform: Tensor) -> Tensor:
        """Samples a batch; if it is mixed, its first rows come from the newest episodes."""
        if not self.is_hybrid():
            return super().sample(uniform)
        return self.replay_buffer.sample_hybrid(uniform, self._recent, self._window)

    @override
    def graph_key(self) -> Hashable | None:
        below = super().graph_key()
        return None if below is None else (self.is_hybrid(), below)

    # --- crops ---

    def reward_objective(self, session: Session) -> Objective:
        """Objective of SAIL with the likelihood of random crops."""
        whole = super().reward_objective(session)
        if not self.settings.crops_per_pair:
            return whole
        of_crops = partial(self.crop_likelihood, self.streams("crops", session.number))
        return replace(whole, likelihood=of_crops)

    def crop_likelihood(
        self, streams: Streams, rewards: Tensor, valid: Tensor, label: Tensor
    ) -> Tensor:
        """Mean of log P_nu(y) over random crops of each pair, a `reward_model.Likelihood`.

        A crop has the label of its pair. The rewards of all crops are those of the whole segments,
        so the networks are evaluated only once.
        """
        many = valid.unsqueeze(2).expand(-1, -1, self.settings.crops_per_pair, -1, -1, -1)
        seen = crops(many, self.shortest_crop, self.longest_crop, streams)
        margins = margin(rewards.unsqueeze(2), seen)  # [M, E, tau, B]
        return log_likelihood(margins, label.unsqueeze(2)).mean(2)
