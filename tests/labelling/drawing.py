"""Draws a segment in a process of its own, in which MuJoCo has a renderer; see test_clips.py."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from mujoco_sail.environments.states import read_state, write_state
from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.labelling.clips import SegmentRenderer
from mujoco_sail.policies.film import encode, pace
from mujoco_sail.preferences.questions import Question
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.settings import dump

STEPS, EPISODE, SEGMENT, SEED = 40, 15, 10, 3


def drawn(name: str, out: Path) -> dict[str, object]:
    """What the end of a segment in the third episode looks like, there and in its clip."""
    task = load_task(name, "quick", {"episode_steps": EPISODE, "segment_steps": SEGMENT})
    envs = VectorEnv(task, [SEED], "training", keep=STEPS)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (STEPS, 1, envs._actions.shape[-1])).astype(np.float32)
    for action in actions:
        envs.step(action)
    states = envs.states.take(0, np.arange(STEPS - SEGMENT, STEPS))
    question = Question("k", 0, 0, 0, 1, 0, 1, 1, dump(task), "pebble", SEED)
    renderer = SegmentRenderer(question)
    every, rate = pace(renderer.env)
    frames = list(renderer.frames(states, every))
    stored = np.array_equal(read_state(renderer.env), states[-1, 1:])

    # The same episode, simulated where it is drawn.
    live = SegmentRenderer(replace(question, key="live")).env
    live.episode = 2
    live.reset()
    for action in actions[2 * EPISODE :, 0]:
        live.step(action)
    write_state(live, read_state(live))  # a step leaves what is drawn at its start
    clip = encode(iter(frames), rate)
    (out / f"{name}.mp4").write_bytes(clip)
    return {
        "stored": stored,
        "same": bool((live.render() == frames[-1]).all()),
        "frames": len(frames),
        "every": every,
        "moves": float(np.abs(np.float32(frames[0]) - frames[-1]).mean()),
        "rate": float(rate),
    }


if __name__ == "__main__":
    threads = {name: ThreadPoolExecutor(1) for name in sys.argv[2:]}  # as in `clips.ClipCache`
    out = Path(sys.argv[1])
    print(json.dumps({name: threads[name].submit(drawn, name, out).result() for name in threads}))
