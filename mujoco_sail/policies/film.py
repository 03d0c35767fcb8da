"""Record videos of a policy, rendered without a display."""

import argparse
import io
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from gymnasium.spaces import flatdim
from numpy.typing import NDArray

from mujoco_sail.environments.factory import make_env, not_drawn
from mujoco_sail.environments.wrappers import CrashGuard, Env
from mujoco_sail.policies.policy import Policy, load
from mujoco_sail.recipes.load import load_task
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import write_bytes

Frame = NDArray[np.uint8]

GL_BACKENDS = "egl", "osmesa", "glfw"  # in the order of trial; macOS has only GLFW
MAX_FPS = 50  # frames per second
FAST = {"preset": "veryfast"}  # half the time of the usual preset, for files as small

# Renders one small image. MuJoCo binds to a backend at import, so every trial needs a process.
_TRIAL = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""


def choose_gl_backend() -> None:
    """Sets `MUJOCO_GL` to a backend that renders on this machine.

    Must be called before MuJoCo is imported.

    Raises:
        UserError: No backend renders, or the one in `MUJOCO_GL` does not.
    """
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    for backend in [wanted] if wanted else GL_BACKENDS:
        if backend in GL_BACKENDS and can_render(backend):
            os.environ["MUJOCO_GL"] = backend
            return
    failed = f"MUJOCO_GL={wanted} does not draw" if wanted else "neither EGL, OSMesa nor GLFW draws"
    raise UserError(
        f"{failed} on this machine;",
        "on Linux: apt-get install libegl1 libosmesa6, with MUJOCO_GL unset, egl or osmesa",
    )


def can_render(backend: str) -> bool:
    """Whether MuJoCo can render with a backend on this machine."""
    trial = [sys.executable, "-P", "-c", _TRIAL]
    environment = {**os.environ, "MUJOCO_GL": backend}
    return subprocess.run(trial, env=environment, capture_output=True, check=False).returncode == 0


def watch(args: argparse.Namespace) -> int:
    """Command `mujoco-sail watch`.

    Raises:
        UserError: An option is invalid, nothing can be drawn, or as `film`.
    """
    if args.episodes < 1 or args.seed < 0:
        raise UserError("expected --episodes >= 1 and --seed >= 0")
    if args.out.suffix != ".mp4" or args.out.is_dir():
        raise UserError(f"--out {args.out}: expected a file that ends in .mp4")
    task, policy = load_task(args.env, args.protocol, {}), load(args.policy)
    choose_gl_backend()
    film(task, policy, args.out, args.episodes, args.seed, print)
    print(args.out)
    return 0


def film(
    task: Task,
    policy: Policy,
    out: Path,
    episodes: int,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Runs episodes and writes them as one H.264 video that plays in real time.

    Args:
        task: The task.
        policy: The policy.
        out: Video file, `*.mp4`.
        episodes: Number of episodes.
        seed: Seed of their initial states.
        report: Called with one line per episode.

    Raises:
        UserError: The policy has other sizes, the environment cannot be drawn or crashes, or the
            video cannot be written.
    """
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)  # fails before minutes of rendering
    with closing(CrashGuard(make_env(task, seed, "watching", "rgb_array"))) as env:
        sizes = flatdim(env.observation_space), flatdim(env.action_space)
        if (policy.observation_size, policy.action_size) != sizes:
            raise UserError(
                f"{task.name} has observations and actions of sizes {sizes[0]} and {sizes[1]}; "
                f"the policy takes {policy.observation_size} and {policy.action_size}"
            )
        follow(env)
        every, rate = pace(env)
        frames = _frames(env, policy, episodes, every, partial(_drawn, task, env), report)
        clip = encode(frames, rate)
    with _writing(out):
        write_bytes(out, clip)


def encode(frames: Iterator[Frame], rate: Fraction) -> bytes:
    """Encodes frames as mp4 in a format that all players support (H.264, yuv420p).

    Args:
        frames: At least one, each [height, width, 3].
        rate: Frames per second.
    """
    first = next(frames)
    # The format requires even sizes.
    height, width = (size // 2 * 2 for size in first.shape[:2])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=FAST)
        stream.pix_fmt, stream.height, stream.width = "yuv420p", height, width
        for frame in chain([first], frames):
            picture = av.VideoFrame.from_ndarray(frame[:height, :width], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def _drawn(task: Task, env: Env) -> Frame:
    """Image of an environment's state.

    Raises:
        UserError: It cannot be drawn.
    """
    try:
        image: Any = env.render()
    except Exception as error:  # of any type, from an environment of the user
        raise UserError(f"{not_drawn(task)}: {type(error).__name__}: {error}") from error
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise UserError(f"{not_drawn(task)}: its render() returns no image")
    return image


def _frames(
    env: CrashGuard,
    policy: Policy,
    episodes: int,
    every: int,
    draw: Callable[[], Frame],
    report: Callable[[str], None],
) -> Iterator[Frame]:
    """Frames of episodes, from the reset to the end of each."""
    for episode in range(1, episodes + 1):
        observation, _ = env.reset()
        total, step, ended = 0.0, 0, False
        while not ended:
            if step % every == 0:
                yield draw()
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            total, step, ended = total + float(reward), step + 1, terminated or truncated
        if env.crash is not None:
            raise UserError(f"episode {episode}: {env.crash}")
        yield draw()
        report(f"episode {episode}: return {total:.6g}")


def pace(env: Env) -> tuple[int, Fraction]:
    """Steps per frame and frames per second of a video in real time."""
    seconds = getattr(env.unwrapped, "dt", None) or 1 / (env.metadata.get("render_fps") or 30)
    every = math.ceil(round(1 / seconds / MAX_FPS, 3))
    return every, Fraction(1 / seconds / every).limit_denominator(100)


def follow(env: Env) -> None:
    """Selects a camera that follows the robot; Gymnasium's default camera does not move."""
    world: Any = env.unwrapped
    if hasattr(world, "mujoco_renderer"):
        cameras = [world.model.camera(index).name for index in range(world.model.ncam)]
        if "track" in cameras:
            world.mujoco_renderer.camera_id = cameras.index("track")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from error
