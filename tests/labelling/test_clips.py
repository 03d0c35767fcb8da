"""Clips show the stored states, and are drawn once."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.checkout import ROOT

from mujoco_sail.labelling import clips
from mujoco_sail.labelling.clips import ClipCache
from mujoco_sail.policies import film
from mujoco_sail.preferences.questions import Question, write_question

FAMILIES = ("walker_walk", "door_open", "hopper")
QUESTION = Question("k", 80, 0, 0, 3, 1, 8, 6, {"name": "hopper"}, "pebble", 0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    backends = [backend for backend in film.GL_BACKENDS if film.can_render(backend)]
    if not backends:
        pytest.skip("no OpenGL backend draws here: apt-get install libegl1 libosmesa6")
    out = tmp_path_factory.mktemp("drawn")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "MUJOCO_GL": backends[0], "PYTHONPATH": path}
    words = [sys.executable, str(Path(__file__).with_name("drawing.py")), str(out), *FAMILIES]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {name: found[name] | {"file": out / f"{name}.mp4"} for name in FAMILIES}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_clip_ends_exactly_in_the_stored_state(drawn: dict[str, Any], name: str) -> None:
    """The image is, to the pixel, that of the same episode simulated anew."""
    assert drawn[name]["stored"]
    assert drawn[name]["same"]
    assert drawn[name]["moves"] > 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_clip_is_a_video_in_real_time(drawn: dict[str, Any], name: str) -> None:
    found = drawn[name]
    assert found["frames"] == math.ceil(10 / found["every"])
    with av.open(str(found["file"])) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate or 0) == pytest.approx(found["rate"])
        assert len([*container.decode(stream)]) == found["frames"]


class Counted:
    """Notes which thread drew what."""

    def __init__(self) -> None:
        self.drawn: list[tuple[int, str]] = []

    def renderer(self, question: Question) -> clips.Draw:
        def draw(states: np.ndarray) -> bytes:
            self.drawn.append((int(states[0, 0]), threading.current_thread().name))
            return b"%d" % states[0, 0]

        return draw


def asked(run: Path) -> Path:
    states = np.arange(12.0).reshape(6, 2, 1, 1)
    return write_question(run, QUESTION, states, np.ones((6, 2), np.int64))


def test_a_clip_is_drawn_once_and_in_the_order_of_the_requests(tmp_path: Path) -> None:
    counted = Counted()
    cache, path = ClipCache(counted.renderer), asked(tmp_path)
    made = [cache.clip(path, QUESTION, pair, side) for pair in (1, 0, 1) for side in (0, 1)]
    assert [clip.result() for clip in made] == [b"2", b"3", b"0", b"1", b"2", b"3"]
    assert [number for number, _ in counted.drawn] == [2, 3, 0, 1]
    cache.forget(["k"])
    assert cache.clip(path, QUESTION, 1, 0).result() == b"2"
    cache.forget([])
    assert cache.clip(path, QUESTION, 1, 0).result() == b"2"
    assert [number for number, _ in counted.drawn] == [2, 3, 0, 1, 2]
    cache.close()


def test_every_run_has_a_thread_and_few_are_kept(tmp_path: Path) -> None:
    counted, numbers = Counted(), range(clips.MOST_OPEN + 1)
    cache = ClipCache(counted.renderer)
    for number in [*numbers, 0]:
        cache.clip(asked(tmp_path / str(number)), QUESTION, number, 0).result()
        cache.forget([])
    assert len({thread for _, thread in counted.drawn}) == 1  # named alike
    assert len(cache._threads) == clips.MOST_OPEN
    cache.close()


@pytest.mark.parametrize("changes", [{"task": {"name": "ant"}}, {"seed": 1}])
def test_a_run_that_takes_the_place_of_another_is_drawn_anew(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    made: list[Question] = []

    def renderer(question: Question) -> clips.Draw:
        made.append(question)
        return lambda states: b"%d" % len(made)

    cache, path = ClipCache(renderer), asked(tmp_path)
    other = replace(QUESTION, key="other", **changes)
    for question in (QUESTION, replace(QUESTION, key="next"), other):
        cache.clip(path, question, 0, 0).result()
    assert made == [QUESTION, other]
    cache.close()


def test_a_clip_that_could_not_be_drawn_is_tried_again(tmp_path: Path) -> None:
    counted = Counted()
    cache, path = ClipCache(counted.renderer), tmp_path / "questions" / QUESTION.file
    with pytest.raises(FileNotFoundError):
        cache.clip(path, QUESTION, 0, 0).result()
    asked(tmp_path)
    assert cache.clip(path, QUESTION, 0, 0).result() == b"0"
    cache.close()
