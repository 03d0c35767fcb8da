"""Fuzz tests of arguments: they are accepted, or refused in one or two lines.

`helpers.fuzzing` has the number of cases and explains how to run more.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import tomli_w
from helpers.fuzz_values import AGENTS, ENVS, IDS, mostly, texts, values, words
from helpers.fuzzing import CASES, ask, cases, no_training, workplace
from hypothesis import given
from hypothesis import strategies as st


def test_there_are_5000_cases() -> None:
    assert sum(CASES.values()) >= 5000


TASK_KEYS = [
    f"env.{key}"
    for key in (
        *ENVS[-1]["protocols"]["quick"],
        *("name", "protocol", "protocols", "teachers", "oracle", "title", "id", "base"),
        *("horizon", "reward_range", "goal_visible", "oracle.beta", "oracle.skip"),
    )
]
AGENT_KEYS = [f"agent.{name}.{key}" for name in ("sac", "sail") for key in AGENTS[-1]]


def listed(*items: str) -> st.SearchStrategy[str]:
    """Names separated by commas, most of which exist."""
    right = st.lists(st.sampled_from(items), min_size=1, max_size=3, unique=True)
    wrong = st.lists(st.one_of(st.sampled_from(items), words), max_size=3)
    return mostly(right, wrong).map(",".join)


def in_toml(value: Any) -> str:
    return tomli_w.dumps({"x": value}).partition("=")[2].strip()


OVERRIDES = st.builds(
    "{}={}".format,
    mostly(
        st.one_of(st.sampled_from(TASK_KEYS), st.sampled_from(AGENT_KEYS)),
        st.one_of(texts.map("env.{}".format), texts.map("agent.sail.{}".format), words),
    ),
    st.one_of(
        st.integers(1, 100).map(str),
        st.sampled_from(["0.5", "1e400", "9" * 5000, "0x" + "F" * 5000, "1\nx=2", "1 # one"]),
        st.sampled_from(["[" * 3000, "{" + "a." * 1500 + "a=1}"]),
        values.map(in_toml),
        words,
    ),
)
OPTIONS = {
    "--env": listed("walker_stand", "hopper", "door_open"),
    "--agents": listed("sac", "pebble", "sail", "sb3_sac"),
    "--seeds": st.one_of(st.text("0123456789,,-+_ e.٣", max_size=8), words, st.integers().map(str)),
    "--protocol": mostly(st.just("paper"), words),
    "--teacher": mostly(st.lists(st.sampled_from(["noisy", "skip"])).map("+".join), words),
    "--device": mostly(st.just("auto"), words),
    "--results": mostly(st.sampled_from(["..", "x/../y", "../x", "a b", "ß", "hopper"]), words),
    "--set": OVERRIDES,
    "": words,  # an extra argument
}


@st.composite
def command_lines(draw: st.DrawFn) -> dict[str, str]:
    """Valid options of `run`, with up to three random changes."""
    right = {"--env": "hopper", "--agents": "sac,sail", "--seeds": "1", "--protocol": "quick"}
    right |= {"--results": "results"}
    flags = st.lists(st.sampled_from([*OPTIONS, "--set", "--set", "--set"]), max_size=3)
    return right | {flag: draw(OPTIONS[flag]) for flag in draw(flags)}


@cases("arguments")
@given(chosen=command_lines())
def test_arguments_are_accepted_or_refused(chosen: dict[str, str]) -> None:
    with workplace() as here, no_training(IDS) as written:
        results = os.path.normpath(here / chosen["--results"])
        if not results.startswith(str(here.parents[2]) + os.sep):
            chosen["--results"] = "../results"  # the only folder to which a test may write
        arguments = [f"{flag}={text}" if flag else text for flag, text in chosen.items()]
        code, *_ = ask("run", *arguments, allowed=[Path(chosen["--results"])])
        assert bool(written) == (code == 0)


NAMES = st.one_of(
    st.sampled_from(["..", ".", "...", "a.b", "a/b", "-x", "~", "sac", "hopper.toml", "ß", "x y"]),
    words,
)


@cases("names")
@given(env=NAMES, agent=NAMES, results=st.sampled_from(["results", "x/..", "..", "~"]))
def test_a_name_cannot_leave_the_results_folder(env: str, agent: str, results: str) -> None:
    with workplace() as here, no_training(IDS) as written:
        for name, text in ((env, 'base = "hopper"'), (agent, 'title = "x"\nbase = "sac"')):
            with contextlib.suppress(OSError, ValueError):  # an invalid file name
                (here / f"{name}.toml").write_text(text)
        arguments = [f"--env={env}.toml", f"--agents={agent}.toml", "--seeds=1"]
        arguments += ["--protocol=quick", f"--results={results}"]
        code, *_ = ask("run", *arguments, allowed=[Path(results)])
        assert bool(written) == (code == 0)
        for folder in written:
            assert folder.resolve().parents[2] == Path(results).resolve()
            assert all(part.isprintable() for part in folder.parts)


OTHERS = st.one_of(
    st.tuples(
        st.just("table"),
        st.sampled_from(["--results", "--baseline", "--format", "--margin"]),
        words,
    ),
    st.tuples(st.just("plot"), st.sampled_from(["--results", "--out"]), words),
    st.tuples(st.just("plot"), st.just(""), words),
    st.tuples(st.just("list"), st.just(""), words),
    st.tuples(st.just("theory"), st.sampled_from(["--prompts", "--beta", "--out"]), words),
    st.tuples(words, st.just(""), words),
)


@cases("other commands")
@given(command=OTHERS)
def test_arguments_of_other_commands_are_refused(command: tuple[str, str, str]) -> None:
    name, flag, text = command
    # There are no results, and `theory` needs more than one seed.
    last = ["--seeds=1"] if name == "theory" else []
    with workplace():
        assert ask(name, f"{flag}={text}" if flag else text, *last)[0] == 2
