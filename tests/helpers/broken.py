"""Environment whose constructor raises an error, as one of a user may."""

from __future__ import annotations

import gymnasium


class Broken(gymnasium.Env):
    def __init__(self) -> None:
        raise KeyError("weight")


gymnasium.register("Broken-v0", Broken)
