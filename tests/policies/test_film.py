"""Videos of policies, and errors of `watch`."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.checkout import ROOT
from helpers.command_line import fails, program
from helpers.policies import policy_of

from mujoco_sail import environments
from mujoco_sail.environments.factory import space_sizes
from mujoco_sail.policies import film
from mujoco_sail.recipes.load import load_task


@pytest.fixture
def hopper(tmp_path: Path) -> str:
    """Name of a pair of files with a policy for the hopper."""
    policy_of(11, 4, 3).save(tmp_path / "hopper")
    return str(tmp_path / "hopper")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"env": "hoper"}, "did you mean 'hopper'"),
        ({"policy": "nowhere"}, "nowhere.toml: no such file"),
        ({"env": "reacher"}, "sizes 10 and 2; the policy takes 11 and 3"),
        ({"--out": "clip.gif"}, "ends in .mp4"),
        ({"--out": "hopper.toml/clip.mp4"}, "cannot be written"),
        ({"--episodes": "0"}, "--episodes >= 1"),
        ({"--seed": "-1"}, "--seed >= 0"),
        ({"--protocol": "quik"}, "did you mean 'quick'"),
    ],
)
def test_an_error_of_watch_is_one_clear_line(
    hopper: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(film, "can_render", lambda backend: True)
    before = sorted(tmp_path.iterdir())
    arguments = {"env": "hopper", "policy": hopper, "--out": "clip.mp4"} | changes
    options = [part for item in list(arguments.items())[2:] for part in item]
    assert said in fails(capsys, "watch", arguments["env"], arguments["policy"], *options)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("wanted", "tried", "said"),
    [
        ("", ["egl", "osmesa", "glfw"], "neither EGL, OSMesa nor GLFW draws"),
        ("osmesa", ["osmesa"], "MUJOCO_GL=osmesa does not draw"),
        ("on", [], "MUJOCO_GL=on does not draw"),
    ],
)
def test_a_machine_that_cannot_render_gets_the_packages_to_install(
    hopper: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    tried: list[str],
    said: str,
) -> None:
    seen: list[str] = []
    monkeypatch.setenv("MUJOCO_GL", wanted)
    monkeypatch.setattr(film, "can_render", lambda backend: bool(seen.append(backend)))
    text = fails(capsys, "watch", "hopper", hopper, "--out", "clip.mp4")
    assert said in text
    assert "apt-get install libegl1 libosmesa6" in text
    assert seen == tried
    assert os.environ["MUJOCO_GL"] == wanted


@pytest.mark.parametrize("only", ["egl", "osmesa", "glfw"])
def test_the_first_backend_that_renders_is_used(monkeypatch: pytest.MonkeyPatch, only: str) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(film, "can_render", lambda backend: backend == only)
    film.choose_gl_backend()
    assert os.environ["MUJOCO_GL"] == only


def test_a_backend_that_does_not_exist_cannot_render() -> None:
    assert not film.can_render("nonsense")


def decoded(clip: bytes, file: Path) -> tuple[Any, list[np.ndarray]]:
    """Video stream and all frames of a video."""
    file.write_bytes(clip)
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        return stream.average_rate, frames


def test_frames_of_odd_size_become_a_valid_video(tmp_path: Path) -> None:
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)] * 5
    pictures = [np.full((33, 47, 3), colour, np.uint8) for colour in colours]
    clip = film.encode(iter(pictures), Fraction(125, 3))
    rate, frames = decoded(clip, tmp_path / "clip.mp4")
    assert rate == Fraction(125, 3)
    assert len(frames) == 15
    for frame, colour in zip(frames, colours, strict=True):
        assert frame.shape == (32, 46, 3)
        np.testing.assert_allclose(frame.mean((0, 1)), colour, atol=12)


@pytest.fixture(scope="module")
def _can_draw() -> None:
    if not any(film.can_render(backend) for backend in film.GL_BACKENDS):
        pytest.skip("no OpenGL backend draws here: apt-get install libegl1 libosmesa6")


@pytest.mark.usefixtures("_can_draw")
@pytest.mark.parametrize(
    ("env", "rate"), [("hopper", Fraction(125, 3)), ("walker_walk", 40), ("door_open", 40)]
)
def test_a_video_plays_in_real_time(env: str, rate: Fraction, tmp_path: Path) -> None:
    """Gymnasium at 125 steps a second, dm_control at 40, Meta-World at 80."""
    steps, episodes = 20, 2
    short = f'base = "{env}"\n[protocols.quick]\nepisode_steps = {steps}\nsegment_steps = 9'
    (tmp_path / "short.toml").write_text(short)
    observation, action = space_sizes(load_task(env, "quick", {}))
    policy_of(observation, 8, action).save(tmp_path / "mine")
    told = ["watch", "short.toml", "mine", "--out", "out/clip.mp4", "--episodes", str(episodes)]
    done = program(
        *told,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
        | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *returns, last = done.stdout.splitlines()
    assert [line.split(":")[0] for line in returns] == ["episode 1", "episode 2"]
    assert last == "out/clip.mp4"
    found, frames = decoded((tmp_path / "out/clip.mp4").read_bytes(), tmp_path / "copy.mp4")
    assert found == rate
    every = {"hopper": 125, "walker_walk": 40, "door_open": 80}[env] / rate
    assert len(frames) == episodes * (math.ceil(steps / every) + 1)
    assert frames[0].shape == (480, 480, 3)
    assert all(frame.std() > 10 for frame in frames)
    assert np.abs(np.diff(np.float32(frames[:20]), axis=0)).mean() > 0.05


def test_the_camera_follows_a_runner() -> None:
    env: Any = environments.make("half_cheetah", render_mode="rgb_array")
    assert env.unwrapped.mujoco_renderer.camera_id == -1
    film.follow(env)
    camera = env.unwrapped.model.camera(env.unwrapped.mujoco_renderer.camera_id)
    assert camera.name == "track"
    env.close()
