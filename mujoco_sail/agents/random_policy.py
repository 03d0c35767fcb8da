"""Uniformly random actions, without learning: the zero of normalised scores."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.streams import Streams


@dataclass(frozen=True, kw_only=True)
class RandomPolicySettings:
    """None."""


class RandomPolicy(Agent):
    """Evaluated like every agent; it neither steps the training environments nor asks for labels.

    Its evaluation is the one that is not deterministic. The draws depend on a member's seed and
    the step alone, so runs can be repeated, resumed and stacked. It has no policy to export.
    """

    Settings = RandomPolicySettings
    settings: RandomPolicySettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self._step = self._drawn_at = runner.step
        self._streams = self._streams_of_step()

    def train(self) -> None:
        """Counts the steps, see `Agent.train`."""
        for step in range(self.runner.step + 1, self.task.steps + 1):
            self._step = step
            self.runner.after_step(step, self)

    def policy(self, observation: Tensor) -> Tensor:
        """Uniform actions, [M, K, A] for observations [M, K, O]."""
        # Afresh for each evaluation: how many draws one takes depends on the whole stack.
        if self._drawn_at != self._step:
            self._streams, self._drawn_at = self._streams_of_step(), self._step
        return 2 * self._streams.uniform(observation.shape[1], self.runner.sizes[1]) - 1

    def metrics(self) -> dict[str, Tensor]:
        """See `Agent.metrics`."""
        return {"updates": torch.zeros(len(self.runner.members))}

    def _streams_of_step(self) -> Streams:
        return Streams(self.runner.seeds, "random policy", self.device, self._step)
