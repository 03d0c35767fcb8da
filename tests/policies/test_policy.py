"""Trained policies leave their runs, come back unharmed or not at all, and can be watched."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import pickle
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import MakeRun, tiny_task
from safetensors.numpy import save as tensors
from test_bad_input import fails

from mujoco_sail import environments, policies
from mujoco_sail.cli import main
from mujoco_sail.environments.factory import spaces
from mujoco_sail.policies import film
from mujoco_sail.policies.policy import About, Policy
from mujoco_sail.recipes.load import load_task, recipe_names
from mujoco_sail.recipes.settings import RecipeError

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text().split("## Use a trained policy")[1].split("\n## ")[0]


def policy_of(*sizes: int, activation: Any = "relu", squash: Any = "tanh") -> Policy:
    random = np.random.default_rng(0)
    weights = [
        random.normal(size=(out, into)).astype(np.float32)
        for into, out in itertools.pairwise(sizes)
    ]
    biases = [random.normal(size=size).astype(np.float32) for size in sizes[1:]]
    about = About(env="hopper", id="Hopper-v5", protocol="quick", agent="sail", seed=3, step=9)
    return Policy(weights, biases, activation, squash, about)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Name of a small sound pair."""
    policy_of(3, 4, 2).save(tmp_path / "mine")
    return tmp_path / "mine"


def refused(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        policies.load(path)
    assert 1 <= len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


# --- the pair of files ---


def test_a_policy_comes_back_as_it_was_written(tmp_path: Path) -> None:
    policy = policy_of(3, 5, 4, 2, activation="tanh", squash="clip")
    written = policy.save(tmp_path / "a.b")
    assert [path.name for path in written] == ["a.b.safetensors", "a.b.toml"]
    observation = 5 * np.random.default_rng(1).normal(size=(6, 7, 3))
    for name in ("a.b", "a.b.toml", "a.b.safetensors"):
        back = policies.load(tmp_path / name)
        assert back.about == policy.about
        np.testing.assert_array_equal(back.act(observation), policy.act(observation))
    again = back.save(tmp_path / "again")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in written]


def test_the_layers_are_those_of_a_torch_sequential(pair: Path) -> None:
    from safetensors.torch import load_file

    layers = torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    network = torch.nn.Sequential(*layers, torch.nn.Tanh())
    network.load_state_dict(load_file(f"{pair}.safetensors"))
    observation = torch.linspace(-1, 1, 3)
    expected = network(observation).detach().numpy()
    np.testing.assert_allclose(policies.load(pair).act(observation), expected, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".toml", ".safetensors"])
def test_a_flipped_bit_anywhere_is_refused(pair: Path, suffix: str) -> None:
    file = Path(f"{pair}{suffix}")
    sound = file.read_bytes()
    assert len(sound) > 200
    for at in range(len(sound)):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :])
        refused(pair)
    file.write_bytes(sound)
    policies.load(pair)


@pytest.mark.parametrize("suffix", [".toml", ".safetensors"])
def test_a_truncated_emptied_longer_or_missing_file_is_refused(pair: Path, suffix: str) -> None:
    file = Path(f"{pair}{suffix}")
    sound = file.read_bytes()
    for content in (*(sound[:end] for end in range(0, len(sound), 7)), sound + b"\n"):
        file.write_bytes(content)
        assert file.name in refused(pair)
    with file.open("wb") as sparse:
        sparse.truncate(2**40)
    assert "too large" in refused(pair)
    file.unlink()
    assert "no such file" in refused(pair)
    file.mkdir()
    assert "no such file" in refused(pair)


def test_a_mixed_pair_is_refused(pair: Path) -> None:
    weights = policy_of(3, 4, 2)
    weights.biases[0][0] += 1
    other, _ = weights.save(pair.with_name("other"))
    other.replace(f"{pair}.safetensors")
    assert "not of one policy" in refused(pair)


# --- strangers, whose seals are right ---


def forge(pair: Path, data: bytes | None = None, old: str = "", new: str | bytes = "") -> None:
    """Puts other content into a pair and seals it."""
    told, weights = Path(f"{pair}.toml"), Path(f"{pair}.safetensors")
    text = told.read_bytes().split(b"\n", 1)[1]
    assert old.encode() in text
    text = text.replace(old.encode(), new.encode() if isinstance(new, str) else new)
    data = weights.read_bytes() if data is None else data
    weights.write_bytes(data)
    seal = hashlib.sha256(text + data).hexdigest()
    told.write_bytes(f'sha256 = "{seal}"\n'.encode() + text)


def layers(**changes: Any) -> bytes:
    sound = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in sound.items()} | changes
    return tensors({name: array for name, array in arrays.items() if array is not None})


def test_a_forgery_that_is_sound_is_loaded(pair: Path) -> None:
    forge(pair, layers(), "seed = 3", "seed = 4")
    assert policies.load(pair).about.seed == 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 8,
        (2**40).to_bytes(8, "little") + b"{}",  # a header larger than the file
        (5_000_002).to_bytes(8, "little") + b"{" + b" " * 5_000_000 + b"}",
        (2).to_bytes(8, "little") + b"{}",  # no tensors
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        layers()[:-4],
        layers() + b"\x00" * 4,
        layers(**{"0.weight": np.ones((4, 3), np.float64)}),
        layers(**{"0.weight": np.ones((4, 3), np.float16)}),
        layers(**{"0.bias": np.ones(4, np.float16)})
        .replace(b"F16", b"BF16")
        .replace(b"\xf8", b"\xf9", 1),
        layers(**{"0.weight": np.ones((4, 3, 1), np.float32)}),
        layers(**{"0.weight": np.ones((5, 3), np.float32)}),
        layers(**{"0.weight": np.ones((4, 2), np.float32)}),
        layers(**{"2.weight": np.ones((2, 5), np.float32)}),
        layers(**{"2.weight": np.ones((1, 4), np.float32), "2.bias": np.ones(1, np.float32)}),
        layers(**{"2.bias": np.ones((1, 2), np.float32)}),
        layers(**{"2.bias": np.ones((), np.float32)}),
        layers(**{"2.bias": None}),
        layers(**{"2.bias": None, "2.weight": None}),
        layers(**{"extra": np.ones(1, np.float32)}),
        layers(**{"2.bias": np.array([1, np.nan], np.float32)}),
        layers(**{"2.bias": np.array([1, np.inf], np.float32)}),
    ],
    ids=range(24),
)
def test_tensors_that_are_no_policy_are_refused(pair: Path, data: bytes) -> None:
    forge(pair, data)
    assert pair.name in refused(pair)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("policy 1", "policy 2", "mujoco_sail policy 1"),
        ("relu", "sin", "'sin'"),
        ('"tanh"', "true", "squash"),
        ("observation_size = 3", "observation_size = 4", "sizes 4 and 2"),
        ("action_size = 2", "action_size = 0", "action_size"),
        ("action_size = 2", "action_size = 2.0", "whole number"),
        ("action_size = 2", "action_size = 0x" + "f" * 5000, "mine.toml"),
        ("seed = 3", "seed = 0x" + "f" * 400, "mine.toml"),
        ("seed = 3", "seed = -1", ">= 0"),
        ("seed = 3", "", "missing key 'seed'"),
        ("seed = 3", 'seed = 3\n"x\\ny" = 1', "unknown key"),
        ("[about]", "about = 3\n[x]", "mine.toml"),
        ("[about]", "x = " + "[" * 20_000 + "\n[about]", "mine.toml"),
        ("[about]", "[about", "not valid TOML"),
        ("hopper", b"\xff", "not valid TOML"),
    ],
)
def test_a_description_that_is_no_policys_is_refused(
    pair: Path, old: str, new: str | bytes, said: str
) -> None:
    forge(pair, None, old, new)
    assert said in refused(pair)


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_planted_pickle_is_refused_and_nothing_of_it_runs(pair: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    planted = pickle.dumps(Planted(trace))
    pickle.loads(planted)
    trace.unlink()  # so it would have worked
    torch.save({"0.weight": Planted(trace)}, tmp_path / "zip")
    for content in (planted, (tmp_path / "zip").read_bytes()):
        policy_of(3, 4, 2).save(pair)
        Path(f"{pair}.safetensors").write_bytes(content)
        refused(pair)
        forge(pair, content)
        assert "not safetensors" in refused(pair)
        Path(f"{pair}.toml").write_bytes(content)
        refused(pair)
    assert not trace.exists()


# --- acting ---


@pytest.mark.parametrize("name", recipe_names("agents"))
def test_a_policy_acts_as_its_agent(name: str, make_run: MakeRun) -> None:
    stack = [(name, 5)] if name.startswith("sb3") else [(name, 5), (name, 6)]
    run = make_run(stack)
    agent: Any = run.members[0].entry.agent(run)
    if name == "sb3_ppo":
        # A new one's actions are next to zero; these leave the box.
        agent.model.policy.action_net.weight.data *= 300
    observation = 3 * torch.randn(len(stack), 50, run.sizes[0], generator=torch.Generator())
    expected = agent.policy(observation).numpy()
    written = agent.policies(7)
    assert len(written) == len(stack)
    assert np.abs(expected).max() > 0.1
    for m, policy in enumerate(written):
        actions = policy.act(observation[m])
        np.testing.assert_allclose(actions, expected[m], rtol=1e-4, atol=1e-6)
        assert actions.dtype == np.float32
        assert np.abs(actions).max() <= 1
        np.testing.assert_allclose(policy.act(observation[m, 0].numpy()), actions[0], atol=1e-6)
        assert (policy.about.agent, policy.about.seed, policy.about.step) == (name, 5 + m, 7)


def test_an_observation_of_another_size_is_refused() -> None:
    policy = policy_of(3, 4, 2)
    for wrong in (np.zeros(4), np.zeros((3, 2)), np.float32(1)):
        with pytest.raises(RecipeError, match="observations of size 3"):
            policy.act(wrong)


# --- runs ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a complete run."""
    from test_runs import run

    out = tmp_path_factory.mktemp("results")
    assert run(out, "half_cheetah", "sac") == 0
    return out / "half_cheetah" / "sac" / "seed_0"


@pytest.mark.parametrize(("name", "seeds"), [("sail_revkl", (0, 1)), ("sb3_ppo", (0,))])
def test_equal_runs_leave_equal_policies_of_their_own(
    name: str, seeds: tuple[int, ...], make_run: MakeRun
) -> None:
    settings = {"sb3_ppo": {"n_steps": 50, "batch_size": 25}}
    contents = []
    for _ in range(2):
        run = make_run([(name, seed) for seed in seeds], settings=settings)
        run.execute()
        folders = [files.folder for files in run.files]
        contents.append([f.joinpath("policy.safetensors").read_bytes() for f in folders])
        loaded = [policies.load(folder / "policy").about for folder in folders]
        assert [(about.agent, about.seed) for about in loaded] == [(name, s) for s in seeds]
        assert {about.step for about in loaded} == {150}
    assert contents[0] == contents[1]
    assert len(set(contents[0])) == len(seeds)


def test_a_failed_run_leaves_no_policy(make_run: MakeRun) -> None:
    refusing = {"oracle.skip": 50.0, "reward_range": [-100.0, 1.0]}
    run = make_run([("pebble", 0)], tiny_task(teacher="skip", **refusing))
    with pytest.raises(RuntimeError, match="refused"):
        run.execute()
    assert not list(run.files[0].folder.glob("policy.*"))


def test_an_exported_policy_is_the_runs(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(finished)]) == 0
    assert main(["export", str(finished), "--out", "there/mine.toml"]) == 0
    names = ["half_cheetah_sac_seed_0", "there/mine"]
    expected = [f"{name}{suffix}" for name in names for suffix in (".safetensors", ".toml")]
    assert capsys.readouterr().out.split() == expected
    for path in map(Path, expected):
        assert path.read_bytes() == (finished / f"policy{path.suffix}").read_bytes()


def test_the_readmes_lines_act(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's own example, word for word but for the names."""
    monkeypatch.chdir(tmp_path)
    policies.export(finished, Path("walker"))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("walker_stand", "half_cheetah")
    assert code.count("half_cheetah") == code.count('"walker"') == 1
    imports, lines = code.split("\n\n")
    assert imports.count("\n") == 0
    assert len(lines.strip().splitlines()) == 3
    names: dict[str, Any] = {}
    exec(code, names)
    assert np.isfinite(names["reward"])
    assert names["observation"].shape == (17,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "run.toml").unlink(), "no run there"),
        (lambda folder: (folder / "run.toml").write_text("x = "), "not a run's"),
        (lambda folder: (folder / "run.toml").write_text("status = 'complete'"), "not a run's"),
        (lambda folder: (folder / "run.toml").write_bytes(b"\xff"), "not a run's"),
        (lambda folder: [f.unlink() for f in folder.glob("policy.*")], "has no policy"),
        (lambda folder: (folder / "policy.toml").unlink(), "no such file"),
        (lambda folder: (folder / "policy.toml").write_text(""), "policy.toml"),
        (lambda folder: replace(folder / "run.toml", '"complete"', '"running"'), "'running'"),
        (lambda folder: replace(folder / "run.toml", "seed = 0", "seed = 1"), "another run"),
        (lambda folder: policy_of(17, 4, 6).save(folder / "policy"), "another run"),
    ],
)
def test_a_run_without_a_sound_policy_of_its_own_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in finished.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    assert said in fails(capsys, "export", str(folder), "--out", str(tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_an_export_that_cannot_be_written_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    said = fails(capsys, "export", str(finished), "--out", str(tmp_path / "file" / "mine"))
    assert "cannot be written" in said
    assert "no run there" in fails(capsys, "export", str(tmp_path / "nowhere"))


def test_a_strangers_names_lead_nowhere(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    for file in finished.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    replace(folder / "run.toml", 'name = "half_cheetah"', 'name = "../evil"')
    forge(folder / "policy", None, 'env = "half_cheetah"', 'env = "../evil"')
    monkeypatch.chdir(tmp_path / "a")
    assert main(["export", "b/c"]) == 0
    assert {path.name for path in Path().iterdir()} == {"b", "a_b_c.toml", "a_b_c.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_published_results_leave_policies_out() -> None:
    path = "results/hopper/sac/seed_0/policy.toml"
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=True)


# --- watching ---


@pytest.fixture
def hopper(tmp_path: Path) -> str:
    """Name of a pair that fits the hopper."""
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
def test_a_mistake_in_watching_is_named(
    hopper: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(film, "draws", lambda backend: True)
    before = sorted(tmp_path.iterdir())
    arguments = {"env": "hopper", "policy": hopper, "--out": "clip.mp4"} | changes
    options = [part for item in list(arguments.items())[2:] for part in item]
    assert said in fails(capsys, "watch", arguments["env"], arguments["policy"], *options)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("wanted", "tried", "said"),
    [
        ("", ["egl", "osmesa"], "neither EGL nor OSMesa draws"),
        ("osmesa", ["osmesa"], "MUJOCO_GL=osmesa does not draw"),
        ("on", [], "MUJOCO_GL=on does not draw"),
    ],
)
def test_a_machine_that_cannot_draw_is_told_what_to_install(
    hopper: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    tried: list[str],
    said: str,
) -> None:
    seen: list[str] = []
    monkeypatch.setenv("MUJOCO_GL", wanted)
    monkeypatch.setattr(film, "draws", lambda backend: bool(seen.append(backend)))
    text = fails(capsys, "watch", "hopper", hopper, "--out", "clip.mp4")
    assert said in text
    assert "apt-get install libegl1 libosmesa6" in text
    assert seen == tried
    assert os.environ["MUJOCO_GL"] == wanted


def test_the_first_backend_that_draws_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(film, "draws", lambda backend: backend == "osmesa")
    film.choose_backend()
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_a_backend_that_does_not_exist_does_not_draw() -> None:
    assert not film.draws("nonsense")


def decoded(clip: bytes, file: Path) -> tuple[Any, list[np.ndarray]]:
    """The picture stream and every picture of a clip."""
    file.write_bytes(clip)
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        return stream.average_rate, frames


def test_pictures_of_odd_size_become_a_clip_that_plays(tmp_path: Path) -> None:
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
    if not any(film.draws(backend) for backend in film.BACKENDS):
        pytest.skip("neither EGL nor OSMesa draws here: apt-get install libegl1 libosmesa6")


@pytest.mark.usefixtures("_can_draw")
@pytest.mark.parametrize(
    ("env", "rate"), [("hopper", Fraction(125, 3)), ("walker_walk", 40), ("door_open", 40)]
)
def test_a_policy_is_watched_in_real_time(env: str, rate: Fraction, tmp_path: Path) -> None:
    """Gymnasium at 125 steps a second, dm_control at 40, Meta-World at 80."""
    steps, episodes = 20, 2
    short = f'base = "{env}"\n[protocols.quick]\nepisode_steps = {steps}\nsegment_steps = 9'
    (tmp_path / "short.toml").write_text(short)
    observation, action = spaces(load_task(env, "quick", {}))
    policy_of(observation, 8, action).save(tmp_path / "mine")
    told = ["watch", "short.toml", "mine", "--out", "out/clip.mp4", "--episodes", str(episodes)]
    done = subprocess.run(
        [sys.executable, "-m", "mujoco_sail", *told],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
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


def test_the_camera_moves_along_with_a_runner() -> None:
    env: Any = environments.make("half_cheetah", render_mode="rgb_array")
    assert env.unwrapped.mujoco_renderer.camera_id == -1
    film._follow(env)
    camera = env.unwrapped.model.camera(env.unwrapped.mujoco_renderer.camera_id)
    assert camera.name == "track"
    env.close()
