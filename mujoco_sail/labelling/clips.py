"""Clips of segments, drawn from the simulator's own states, in a thread and ahead of time."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.states import simulation, write_state
from mujoco_sail.environments.wrappers import SeededEpisodes
from mujoco_sail.policies.film import Frame, encode, follow, pace
from mujoco_sail.preferences.questions import Question, read_states
from mujoco_sail.recipes.settings import build
from mujoco_sail.recipes.task import Task

Draw = Callable[[Question, NDArray[np.float64]], bytes]
Clip = tuple[str, int, int]  # key of the question, pair, side

MOST_OPEN = 4  # environments that are open at once


class Artist:
    """Draws segments; must be used by one thread, which owns the contexts of the renderers."""

    def __init__(self) -> None:
        self._open: dict[str, SeededEpisodes] = {}

    def draw(self, question: Question, states: NDArray[np.float64]) -> bytes:
        """Draws the states after each step of a segment, [T, 1 + S], as a video in real time."""
        env = self._environment(question)
        every, rate = pace(env)
        return encode(self.frames(env, states, every), rate)

    def frames(
        self, env: SeededEpisodes, states: NDArray[np.float64], every: int
    ) -> Iterator[Frame]:
        """Every so many frames of a segment, from its end backwards, in the order of time."""
        env.episode = int(states[0, 0])
        env.reset()  # places in the model what this episode has placed
        shown: Callable[[], Any] = env.render
        for state in states[(len(states) - 1) % every :: every]:
            write_state(env, state[1:])
            yield shown()

    def _environment(self, question: Question) -> SeededEpisodes:
        task = build(Task, question.task, "a question")
        name = f"{task} {question.seed}"
        if name not in self._open:
            if len(self._open) == MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            env = make_env(task, question.seed, "training", "rgb_array")
            model, _ = simulation(env)
            # Without shadows, reflections and smooth edges a processor draws ten times as fast.
            model.light_castshadow[:], model.mat_reflectance[:] = 0, 0
            model.vis.quality.offsamples = 0
            follow(env)
            env.reset()
            env.render()  # some cameras stay where the first image put them
            self._open[name] = env
        return self._open[name]


class Studio:
    """Clips, each drawn once and kept while its question is open.

    Args:
        draw: Draws a segment.
    """

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, "clips")
        self._lock = threading.Lock()
        self._made: dict[Clip, Future[bytes]] = {}

    def clip(self, path: Path, question: Question, pair: int, side: int) -> "Future[bytes]":
        """The clip of one segment, which may be in the making."""
        name = question.key, pair, side
        with self._lock:
            made = self._made.get(name)
            if made is None or (made.done() and made.exception() is not None):
                made = self._thread.submit(self._make, path, question, pair, side)
                self._made[name] = made
            return made

    def forget(self, keys: Iterable[str]) -> None:
        """Drops the clips of all questions but these."""
        kept = {*keys}
        with self._lock:
            for name in [name for name in self._made if name[0] not in kept]:
                self._made.pop(name).cancel()

    def close(self) -> None:
        """Ends the thread after the clip in the making."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self, path: Path, question: Question, pair: int, side: int) -> bytes:
        return self._draw(question, read_states(path, pair, side))
