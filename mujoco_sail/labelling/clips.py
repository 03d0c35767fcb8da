"""Clips of segments, drawn from the simulator's own states, in threads and ahead of time."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
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

Clip = tuple[str, int, int]  # key of the question, pair, side
Draw = Callable[[NDArray[np.float64]], bytes]
Rendered = tuple[tuple[Mapping[str, Any], int], Draw]  # task and seed, and what draws them

SIZE = 360  # pixels; half of the time of the 480 of `watch`
MOST_OPEN = 4  # runs whose environments are kept


class SegmentRenderer:
    """Draws the segments of one run; all its methods must be called by one thread.

    Args:
        question: A question of the run.
    """

    def __init__(self, question: Question) -> None:
        task = build(Task, question.task, "a question")
        self.env: SeededEpisodes = make_env(task, question.seed, "training", "rgb_array")
        model, _ = simulation(self.env)
        # Without shadows, reflections and smooth edges a processor draws ten times as fast.
        model.light_castshadow[:], model.mat_reflectance[:] = 0, 0
        model.vis.quality.offsamples = 0
        _resize(self.env)
        follow(self.env)
        self.env.reset()
        self.env.render()  # some cameras stay where the first image put them

    def __call__(self, states: NDArray[np.float64]) -> bytes:
        """Draws the states after each step of a segment, [T, 1 + S], as a video in real time."""
        every, rate = pace(self.env)
        return encode(self.frames(states, every), rate)

    def frames(self, states: NDArray[np.float64], every: int) -> Iterator[Frame]:
        """Yields every `every`-th image of a segment in order of time; the last shows its end."""
        self.env.episode = int(states[0, 0])
        self.env.reset()  # places in the model what this episode has placed
        shown: Callable[[], Any] = self.env.render
        for state in states[(len(states) - 1) % every :: every]:
            write_state(self.env, state[1:])
            yield shown()


def _resize(env: SeededEpisodes) -> None:
    """Sets the size of the images, before the first."""
    base: Any = env.unwrapped
    if hasattr(base, "mujoco_renderer"):
        base.mujoco_renderer.width = base.mujoco_renderer.height = SIZE
    else:  # dm_control
        base.render_kwargs |= {"width": SIZE, "height": SIZE}


class ClipCache:
    """Cache of clips; each is drawn once, and kept while its question is open.

    Clips are drawn one at a time, but each run has a thread of its own, because the OpenGL contexts
    of two rendering libraries in one thread replace each other.

    Args:
        renderer: Makes what draws the segments of a run.
    """

    def __init__(self, renderer: Callable[[Question], Draw] = SegmentRenderer) -> None:
        self._renderer = renderer
        self._lock, self._line = threading.Lock(), ThreadPoolExecutor(1, "clips")
        self._threads: dict[Path, tuple[ThreadPoolExecutor, list[Rendered]]] = {}
        self._made: dict[Clip, Future[bytes]] = {}

    def clip(self, path: Path, question: Question, pair: int, side: int) -> "Future[bytes]":
        """The clip of one segment of the question in a file; it may be in the making."""
        name = question.key, pair, side
        with self._lock:
            made = self._made.get(name)
            if made is None or (made.done() and made.exception() is not None):
                made = self._line.submit(self._make, path, question, pair, side)
                self._made[name] = made
            return made

    def forget(self, keys: Iterable[str]) -> None:
        """Drops the clips of all questions but these."""
        kept = {*keys}
        with self._lock:
            for name in [name for name in self._made if name[0] not in kept]:
                self._made.pop(name).cancel()

    def close(self) -> None:
        """Ends the threads after the clip in the making."""
        self._line.shutdown(wait=True, cancel_futures=True)
        for thread, _ in self._threads.values():
            thread.shutdown(wait=True)

    def _make(self, path: Path, question: Question, pair: int, side: int) -> bytes:
        thread, renderers = self._thread(path.parent)

        def draw() -> bytes:
            made_for = question.task, question.seed
            if not renderers or renderers[0][0] != made_for:
                renderers.clear()  # of a run whose place this one took
                renderers.append((made_for, self._renderer(question)))
            return renderers[0][1](read_states(path, pair, side))

        return thread.submit(draw).result()

    def _thread(self, folder: Path) -> tuple[ThreadPoolExecutor, list[Rendered]]:
        """Thread of a run, and its renderer once there is one."""
        if folder not in self._threads:
            if len(self._threads) == MOST_OPEN:
                oldest, renderers = self._threads.pop(next(iter(self._threads)))
                oldest.submit(renderers.clear)  # there, where its renderer was made
                oldest.shutdown(wait=False)
            self._threads[folder] = ThreadPoolExecutor(1, "run"), []
        return self._threads[folder]
