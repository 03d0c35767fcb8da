"""QPA (query-policy alignment): PEBBLE with queries and batches near the current policy.

Queries come only from the newest episodes, the policy-aligned buffer. With hybrid experience
replay, a fraction of every batch comes from these episodes too. The reward is fitted to random
crops of the labelled segments instead of whole segments, see `cropping`.

Source: QPA (Hu et al. 2024, arXiv 2305.17400), section 5, and its released script.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.cropping import Cropping, CroppingSettings
from mujoco_sail.recipes.settings import setting


@dataclass(frozen=True, kw_only=True)
class QPASettings(CroppingSettings):
    """Hyperparameters that the protocol does not fix."""

    # N: number of newest episodes for queries; replaces `query_window` of the protocol.
    aligned_episodes: int = setting(low=1)
    # omega: fraction of a batch from these episodes, rounded to whole transitions.
    aligned_share: float = setting(low=0, high=1, per_member=True)


class QPA(Cropping):
    """PEBBLE with policy-aligned queries, hybrid experience replay and temporal cropping."""

    Settings = QPASettings
    settings: QPASettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
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
