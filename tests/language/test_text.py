"""Words, rules, prompts and the environment of a text task."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.language import text_task

from mujoco_sail.environments.vector import VectorEnv
from mujoco_sail.language.text import WORDS, chain, rule_reward, text_of, to_actions, to_tokens


@pytest.mark.parametrize(
    ("rule", "completion", "reward"),
    [
        ("vowels", "a b e", 2 / 8),
        ("vowels", "a a a a a a a a", 1.0),
        ("vowels", "", 0.0),
        ("echo", "d d x a", 2 / 3),  # the prompt has three different words
        ("echo", "", 0.0),
        ("reverse", "d b b x", 2 / 4),  # the first word and the third
        ("reverse", "d a b a", 1.0),
        ("reverse", "d a b a x x", 1.0),
        ("reverse", "d", 1 / 4),
    ],
)
def test_rules_have_values_computed_by_hand(rule: str, completion: str, reward: float) -> None:
    prompt = ["a", "b", "a", "d"]
    assert rule_reward(rule, prompt, completion.split(), 8) == pytest.approx(reward)


@pytest.mark.parametrize("tokens", [2, 25, 50_257, 151_936])
def test_every_token_survives_its_action_in_single_precision(tokens: int) -> None:
    ids = np.arange(tokens)
    assert (to_tokens(to_actions(ids, tokens), tokens) == ids).all()
    assert to_tokens(np.array([-1.0, 1.0]), tokens).tolist() == [0, tokens - 1]


def test_the_grammar_repeats_itself_and_has_usual_followers() -> None:
    uniform = np.random.default_rng(0).random((20_000, 4))
    words = chain(uniform)
    assert (words == chain(uniform)).all()
    assert (words[:, 0] == np.floor(uniform[:, 0] * len(WORDS))).all()
    counts = np.zeros((24, 24))
    np.add.at(counts, (words[:, :-1].ravel(), words[:, 1:].ravel()), 1)
    shares = np.sort(counts / counts.sum(1, keepdims=True), 1)
    assert shares[:, -6:].sum(1).min() > 0.85  # 0.9 and a sixth of the other tenth


def test_an_episode_is_a_prompt_and_one_completion() -> None:
    task = text_task("reverse")
    envs, text = VectorEnv(task, [0, 1], "training"), text_of(task)
    prompts = envs.observation.astype(np.int64)
    assert not (prompts[0] == prompts[1]).all()
    backwards = np.concatenate([prompts[:, ::-1], np.full((2, 4), text.end)], 1)
    backwards[1, 0] = (backwards[1, 0] + 1) % 24
    result = envs.step(to_actions(backwards, text.size))
    assert result.reward.tolist() == [1.0, 0.75]
    assert result.terminated.all()
    assert envs.episodes == [1, 1]


def test_a_completion_ends_at_the_first_full_stop() -> None:
    """A prompt does not: a chat format has ends between its turns."""
    text = text_of(text_task())
    prompts, completions = np.array([[0, 1, 2, 24]] * 2), np.array([[0, 1, 24, 2], [0, 1, 2, 24]])
    assert text.rewards(prompts, completions).tolist() == [0.5, 0.75]  # of the words a b c .
    assert text.encode("a x .", "here", 3) == [0, 23, 24]


def test_the_suite_without_text_tasks_imports_neither_transformers_nor_language() -> None:
    code = (
        "import sys, mujoco_sail.training.command, mujoco_sail.cli\n"
        "print([m for m in sys.modules if 'transformers' in m or 'language' in m])\n"
        "sys.modules['transformers'] = None  # not installed\n"
        "mujoco_sail.cli.main(['list'])"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert said[0] == "[]"
    assert "Agents" in said
    assert not any("language" in line for line in said)


def test_keys_of_a_text_task_are_checked_together() -> None:
    for changes, key in (
        ({"heads": 3}, "heads"),
        ({"session_every": 7}, "session_every"),
        ({"episode_steps": 2}, "episode_steps"),
    ):
        with pytest.raises(ValueError, match=rf"echo\.toml: key '{key}'"):
            text_task(**changes)
    assert torch.tensor(text_task().reward_range).tolist() == [0.0, 1.0]
