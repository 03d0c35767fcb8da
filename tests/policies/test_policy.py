"""Saving and loading of policies, and their actions."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.planted import Planted
from helpers.policies import forge, policy_of
from helpers.runs import MakeRun
from safetensors.numpy import save as tensors

from mujoco_sail import policies
from mujoco_sail.recipes.load import recipe_names
from mujoco_sail.system.errors import UserError


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Name of the pair of files of a small policy."""
    policy_of(3, 4, 2).save(tmp_path / "mine")
    return tmp_path / "mine"


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        policies.load(path)
    assert 1 <= len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


# --- the pair of files ---


def test_a_loaded_policy_equals_the_saved_one(tmp_path: Path) -> None:
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
def test_a_flipped_bit_anywhere_is_an_error(pair: Path, suffix: str) -> None:
    file = Path(f"{pair}{suffix}")
    sound = file.read_bytes()
    assert len(sound) > 200
    for at in range(len(sound)):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :])
        refused(pair)
    file.write_bytes(sound)
    policies.load(pair)


@pytest.mark.parametrize("suffix", [".toml", ".safetensors"])
def test_a_truncated_emptied_longer_or_missing_file_is_an_error(pair: Path, suffix: str) -> None:
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


def test_a_mixed_pair_is_an_error(pair: Path) -> None:
    weights = policy_of(3, 4, 2)
    weights.biases[0][0] += 1
    other, _ = weights.save(pair.with_name("other"))
    other.replace(f"{pair}.safetensors")
    assert "not of the same policy" in refused(pair)


# --- untrusted files with a valid digest ---


def layers(**changes: Any) -> bytes:
    sound = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in sound.items()} | changes
    return tensors({name: array for name, array in arrays.items() if array is not None})


def test_untrusted_files_with_a_valid_policy_are_loaded(pair: Path) -> None:
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
def test_tensors_that_are_not_a_policy_are_an_error(pair: Path, data: bytes) -> None:
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
def test_a_header_that_is_not_a_policys_is_an_error(
    pair: Path, old: str, new: str | bytes, said: str
) -> None:
    forge(pair, None, old, new)
    assert said in refused(pair)


def test_a_pickle_is_an_error_and_is_not_executed(pair: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    planted = pickle.dumps(Planted(trace))
    pickle.loads(planted)
    trace.unlink()  # the pickle would have been executed
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

ONE_MEMBER = ("sb3_sac", "sb3_ppo", "pref_ppo")  # agents that are not stackable


@pytest.mark.parametrize("name", sorted({*recipe_names("agents")} - {"random"}))
def test_a_policy_acts_as_its_agent(name: str, make_run: MakeRun) -> None:
    stack = [(name, 5)] if name in ONE_MEMBER else [(name, 5), (name, 6)]
    run = make_run(stack)
    agent: Any = run.members[0].spec.agent(run)
    if name in ("sb3_ppo", "pref_ppo"):
        # Actions of a new policy are almost zero; these exceed the bounds.
        agent.model.policy.action_net.weight.data *= 300
    observation = 3 * torch.randn(len(stack), 50, run.sizes[0], generator=torch.Generator())
    expected = agent.policy(observation).numpy()
    written = agent.export_policies(7)
    assert len(written) == len(stack)
    assert np.abs(expected).max() > 0.1
    for m, policy in enumerate(written):
        actions = policy.act(observation[m])
        np.testing.assert_allclose(actions, expected[m], rtol=1e-4, atol=1e-6)
        assert actions.dtype == np.float32
        assert np.abs(actions).max() <= 1
        np.testing.assert_allclose(policy.act(observation[m, 0].numpy()), actions[0], atol=1e-6)
        assert (policy.about.agent, policy.about.seed, policy.about.step) == (name, 5 + m, 7)


def test_an_observation_of_another_size_is_an_error() -> None:
    policy = policy_of(3, 4, 2)
    for wrong in (np.zeros(4), np.zeros((3, 2)), np.float32(1)):
        with pytest.raises(UserError, match="observations of size 3"):
            policy.act(wrong)
