"""`watch` of what diverges or cannot be drawn gives a one-line error and no video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mujoco_sail.environments.factory import make_env, space_sizes
from mujoco_sail.policies import film
from mujoco_sail.recipes.load import load_task
from mujoco_sail.system.errors import UserError


class Still:
    """Policy whose actions are zero."""

    def __init__(self, observation_size: int, action_size: int) -> None:
        self.observation_size, self.action_size = observation_size, action_size

    def act(self, observation: np.ndarray) -> np.ndarray:
        assert len(observation) == self.observation_size
        return np.zeros(self.action_size, np.float32)


@pytest.mark.parametrize("env", ["half_cheetah", "walker_walk"])
def test_a_diverged_simulation_gives_an_error_and_no_video(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = load_task(env, "quick", {"episode_steps": 9, "segment_steps": 9})

    def diverging(*arguments: Any) -> Any:
        made = make_env(*arguments)
        world: Any = made.unwrapped
        drawn: list[int] = []

        def render() -> np.ndarray:
            drawn.append(1)
            if len(drawn) == 3:
                getattr(world, "physics", world).data.qvel[:] = 1e12
            return np.zeros((16, 16, 3), np.uint8)

        monkeypatch.setattr(made, "render", render)
        return made

    monkeypatch.setattr(film, "make_env", diverging)
    policy: Any = Still(*space_sizes(task))
    said: list[str] = []
    with pytest.raises(UserError, match=r"episode 1: the environment crashed: .*mjWARN_BADQVEL"):
        film.film(task, policy, Path("clip.mp4"), 2, 0, said.append)
    assert said == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("Invisible", "TypeError: .*'render_mode'$"),
        ("Torn", "OSError: no screen"),
        ("Blank", "its render"),
    ],
)
def test_an_environment_that_cannot_be_drawn_gives_an_error_and_no_video(
    id: str, said: str, tmp_path: Path
) -> None:
    task = load_task("reacher", "quick", {"id": f"helpers.broken:{id}-v0"})
    policy: Any = Still(1, 1)
    with pytest.raises(UserError, match=f"^reacher: cannot be drawn: {said}"):
        film.film(task, policy, tmp_path / "clip.mp4", 1, 0, print)
    assert list(tmp_path.iterdir()) == []
