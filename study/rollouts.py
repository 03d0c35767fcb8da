"""Episodes of the current policies of a stack, and pairs of segments from them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mujoco_sail.core.streams import Streams, seed_for
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.preferences.pairs import Pairs

AT_ONCE = 10  # parallel episodes per member, a divisor of their number; a simulator needs 30 MB


@dataclass(frozen=True)
class Episodes:
    """Complete episodes of fixed length.

    Attributes:
        inputs: Observations and actions, [M, K, T, O + A].
        task_reward: Task rewards, [M, K, T].
    """

    inputs: Tensor
    task_reward: Tensor

    def part(self, at: slice) -> "Episodes":
        """Slice of the episodes of every member."""
        return Episodes(self.inputs[:, at], self.task_reward[:, at])

    def segments(self, streams: Streams, count: int, steps: int, sides: int = 2) -> Pairs:
        """Draws segments uniformly from all episodes, as pairs or, if `sides` is 1, single."""
        members, episodes, length = self.task_reward.shape
        episode = streams.integers(episodes, count, sides).unsqueeze(-1)
        start = streams.integers(length - steps + 1, count, sides)
        at = start.unsqueeze(-1) + torch.arange(steps)
        rows = torch.arange(members).view(-1, 1, 1, 1)
        reward = self.task_reward[rows, episode, at]
        return Pairs(self.inputs[rows, episode, at], torch.ones_like(reward), reward, start)


@torch.no_grad()
def play(agent: Any, count: int, purpose: str) -> Episodes:
    """Runs episodes of the stochastic policies, in separate environments.

    Args:
        agent: Agent of the stack.
        count: Number of episodes per member, K.
        purpose: Name of the random streams of initial states and noise; equal names give equal
            streams.
    """
    task, seeds = agent.task, agent.runner.seeds
    members, side = len(seeds), min(count, AT_ONCE)
    rows = [seed_for(seed, purpose, row) for seed in seeds for row in range(side)]
    envs = VectorEnv(task, rows, purpose)
    streams = Streams(seeds, purpose, agent.device)
    inputs = torch.empty(members, count, task.episode_steps, sum(agent.runner.sizes))
    rewards = torch.empty(members, count, task.episode_steps)
    for number in range(count // side):
        envs.reset(number)
        at = slice(number * side, (number + 1) * side)
        for step in range(task.episode_steps):
            observation = torch.as_tensor(envs.observation).view(members, side, -1)
            noise = streams.normal(side, agent.action_size)
            action = agent.distribution(observation).action(noise)
            result = envs.step(action.flatten(0, 1).numpy())
            inputs[:, at, step] = torch.cat([observation, action], -1)
            rewards[:, at, step] = torch.as_tensor(result.reward).float().view(members, side)
    envs.close()
    return Episodes(inputs, rewards)
