"""Environments that cannot be made or drawn, as those of a user may be."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Broken(gymnasium.Env):
    def __init__(self) -> None:
        raise KeyError("weight")


class Invisible(gymnasium.Env):
    """Has no argument `render_mode`."""

    observation_space = action_space = Box(-1, 1, (1,))

    def __init__(self) -> None:
        pass

    def reset(self, **_: Any) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, False, False, {}


class Blank(Invisible):
    """Draws nothing."""

    def __init__(self, render_mode: str | None) -> None:
        self.render_mode = render_mode

    def render(self) -> None:
        return None


class Torn(Blank):
    def render(self) -> None:
        raise OSError("no screen")


for kind in (Broken, Invisible, Blank, Torn):
    gymnasium.register(f"{kind.__name__}-v0", kind)
