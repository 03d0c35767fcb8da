"""Text task as an environment of one step, by which the suite evaluates every agent.

Observation: token ids of the prompt, -1 before a short one. Action: one number in [-1, 1] per place
of the completion; the interval has as many equal parts as there are tokens. Reward: the judge's.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mujoco_sail.environments.wrappers import Array, Info
from mujoco_sail.language.task import TextTask
from mujoco_sail.language.text import PADDING, Ids, text_of


def to_actions(ids: Ids, tokens: int) -> NDArray[np.float32]:
    """Actions of token ids, of the same shape: the middles of their intervals."""
    return ((2 * ids + 1) / tokens - 1).astype(np.float32)


def to_tokens(actions: Array, tokens: int) -> Ids:
    """Token ids of actions, of the same shape."""
    places = np.floor((np.asarray(actions, np.float64) + 1) / 2 * tokens)
    return places.clip(0, tokens - 1).astype(np.int64)


class TextEnvironment(gymnasium.Env[Array, Array]):
    """Environment whose episode is one completion of one prompt."""

    def __init__(self, task: TextTask) -> None:
        """Reads the prompts and the judge of the task, once per process."""
        self.text, self.places = text_of(task), task.prompt_tokens
        self.observation_space = Box(PADDING, self.text.size - 1, (task.prompt_tokens,))
        self.action_space = Box(-1, 1, (task.completion_tokens,))

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Draws a prompt."""
        super().reset(seed=seed)
        self._prompt = self.text.draw_prompts(self.np_random.random((1, self.places)))
        return self._prompt[0].astype(np.float32), {}

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, Info]:
        """Judges a completion and ends the episode."""
        completion = to_tokens(action, self.text.size)[None]
        reward = float(self.text.rewards(self._prompt, completion)[0])
        return self._prompt[0].astype(np.float32), reward, True, False, {}


gymnasium.register("Text-v0", f"{__name__}:{TextEnvironment.__name__}")
