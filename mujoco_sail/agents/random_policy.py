"""Agent with uniformly random actions and no learning; defines 0 of normalised scores."""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.streams import Streams


@dataclass(frozen=True, kw_only=True)
class RandomPolicySettings:
    """No hyperparameters."""


class RandomPolicy(Agent):
    """Uniformly random policy, evaluated like all other agents.

    It uses neither training environments nor labels. Unlike other agents, its actions in an
    evaluation are random. They depend only on the member's seed and the step, so runs can be
    repeated, resumed and stacked. It has no policy to export.
    """

    Settings = RandomPolicySettings
    settings: RandomPolicySettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self._step = self._drawn_at = runner.step
        self._streams = self._streams_of_step()

    def train(self) -> None:
        """Counts the steps, without training."""
        for step in range(self.runner.step + 1, self.task.steps + 1):
            self._step = step
            self.runner.after_step(step, self)

    def policy(self, observation: Tensor) -> Tensor:
        """Uniform actions, [M, K, A] for observations [M, K, O]."""
        # New streams for each evaluation: the number of draws in one depends on the whole stack.
        if self._drawn_at != self._step:
            self._streams, self._drawn_at = self._streams_of_step(), self._step
        return 2 * self._streams.uniform(observation.shape[1], self.runner.sizes[1]) - 1

    @override
    def metrics(self) -> dict[str, Tensor]:
        return {"updates": torch.zeros(len(self.runner.members))}

    def _streams_of_step(self) -> Streams:
        return Streams(self.runner.seeds, "random policy", self.device, self._step)
