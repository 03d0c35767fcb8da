"""Agreement of compiled and eager updates."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fake_device import fake_cuda
from helpers.runs import MakeRun, trained
from helpers.tiny import tiny_task
from torch import Tensor

from mujoco_sail.core import compilation, engine, passes, program_cache
from mujoco_sail.core import update as update_module
from mujoco_sail.core.distributions import LogStd
from mujoco_sail.core.engine import Updater
from mujoco_sail.core.natural_gradient import NaturalGradient
from mujoco_sail.core.optimiser import Trained
from mujoco_sail.core.update import (
    LOGGED,
    Anchor,
    Constants,
    SACState,
    inputs_of,
    update,
    with_inputs,
)

AGENTS = [("pebble", 0), ("sail", 1), ("pebble_revkl", 2), ("sail_revkl", 3)]
# Conjugate gradients amplify rounding errors in every iteration, hence only 3 iterations.
NATURAL = [("sail_revkl_npg", 0)]
STRONG: dict[str, dict[str, Any]] = {
    "pebble_revkl": {"reverse_kl": 0.3},
    "sail_revkl": {"reverse_kl": 0.3},
    "sail_revkl_npg": {"reverse_kl": 0.3, "cg_iterations": 3, "projection_radius": 1.0},
}
STACKS = [AGENTS[2:], NATURAL]
STACK_IDS = ["anchor", "natural gradient"]


def updated(
    agent: Any, state: SACState, kind: engine.Engine, constants: Constants | None = None
) -> list[Tensor]:
    """State and log after three updates of a copy of the state."""
    copies = SACState(*_copied(state))
    task, streams = agent.task, agent.streams("test")
    updater = Updater(constants or agent._constants, copies, task.batch_size, kind)
    logged = torch.zeros(len(copies.temperature.steps), len(LOGGED))
    for tau in (0.0, 0.01, 0.5):
        rows = agent.replay_buffer.sample(streams.uniform(task.batch_size))
        uniform = streams.uniform(task.batch_size, 2 * agent.action_size)
        updater(rows, uniform, torch.tensor(tau), logged)
    nets = [
        copies.actor.parameters, copies.critic.parameters, copies.target,
        copies.temperature.parameters, copies.critic.squares, copies.actor.means,
    ]  # fmt: skip
    return [logged, *(tensor for tensors in nets for tensor in tensors)]


def _copied(value: Any) -> Any:
    """Copies a tree of tensors, with the same strides."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride()).copy_(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        copies = [_copied(part) for part in value]
        return copies if isinstance(value, SACState) else type(value)(*copies)
    return [_copied(part) for part in value] if isinstance(value, Sequence) else value


def agent_of(
    make_run: MakeRun,
    names: Sequence[tuple[str, int]],
    settings: dict[str, Any] = STRONG,
    **changes: Any,
) -> Any:
    run = make_run(names, tiny_task(**changes), settings=settings)
    agent = run.members[0].spec.agent(run)
    agent.train()
    return agent


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("names", STACKS, ids=STACK_IDS)
def test_compiled_and_eager_updates_agree_to_twelve_digits(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, names: list[tuple[str, int]]
) -> None:
    agent = agent_of(make_run, names)
    state = agent.sac_state()
    assert state.anchor is not None
    if state.radius is not None:  # the actor is inside its ball: a smaller one
        state = state._replace(radius=state.radius / 2)
    eager, compiled = (updated(agent, state, kind) for kind in ("eager", "compiled"))
    assert_agree(eager, compiled)
    assert not torch.equal(eager[1], state.actor.parameters[0])
    if state.radius is not None:
        actor = compiled[1 : 1 + len(state.actor.parameters)]
        norm = math.sqrt(sum(float(p.square().sum()) for p in actor))
        assert norm <= float(state.radius) * (1 + 1e-12)
    # The same program is valid for other numbers.
    monkeypatch.setattr(compilation, "compile_update", None)
    others = halved(agent._constants)
    eager, compiled = (updated(agent, state, kind, others) for kind in ("eager", "compiled"))
    assert_agree(eager, compiled)
    assert not torch.equal(eager[1], updated(agent, state, "eager")[1])


def assert_agree(eager: list[Tensor], compiled: list[Tensor]) -> None:
    for one, other in zip(eager, compiled, strict=True):
        scale = float(one.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * scale)


def halved(constants: Constants) -> Constants:
    """Constants with half of every number that is an input of the program."""
    return with_inputs(constants, [float(x) / 2 for x in inputs_of(constants, torch.float64)])


def test_compiled_and_eager_runs_agree_over_fifty_steps(make_run: MakeRun) -> None:
    """Includes sessions and a reference policy; later, contacts amplify any difference."""
    short = {
        "steps": 50, "random_steps": 15, "exploration_steps": 5, "evaluation_every": 50,
        "session_every": 10, "reference_after": 25,
    }  # fmt: skip
    states = []
    for kind in ("eager", "compiled"):
        agent = agent_of(make_run, AGENTS, {}, engine=kind, **short)
        states.append([p for net in (agent.actor, agent.critic) for p in net.parameters])
    for one, other in zip(*states, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert not all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_results_do_not_depend_on_the_slices_of_the_stack(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agent_of(make_run, AGENTS)
    results = []
    for cache in (1, 2**40):
        monkeypatch.setattr(passes, "CACHE_BYTES", cache)
        parts = Updater(agent._constants, agent.sac_state(), 16, "eager").parts
        assert len(parts) == (4 if cache == 1 else 1)
        results.append(updated(agent, agent.sac_state(), "eager"))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_the_anchor_is_not_computed_for_members_without_one(make_run: MakeRun) -> None:
    state = agent_of(make_run, AGENTS).sac_state()
    assert state.anchor is not None
    anchored = [state.part(slice(m, m + 1)).anchor is not None for m in range(4)]
    assert anchored == [False, False, True, True]


def test_one_program_is_valid_for_stacks_of_any_size(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(make_run(AGENTS, tiny_task(engine="compiled"), settings=STRONG))
    monkeypatch.setattr(compilation, "compile_update", None)
    alone = trained(make_run([AGENTS[3]], tiny_task(engine="compiled"), settings=STRONG))
    for one, other in zip(whole[AGENTS[3]], alone[AGENTS[3]], strict=True):
        assert torch.equal(one, other)


def test_a_compiled_update_leaves_no_files_in_the_temporary_folder(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spaced = tmp_path / "with a space"
    spaced.mkdir()
    monkeypatch.setenv("TMPDIR", str(spaced))
    agent = agent_of(make_run, [("sac", 0)])
    engine._load.cache_clear()
    updated(agent, agent.sac_state(), "compiled")
    assert list(spaced.iterdir()) == []


def test_the_path_of_a_program_depends_on_everything_that_it_is_compiled_from(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def place(batch_size: int = 16, **changes: Any) -> Path:
        run = make_run([("sac", 0), ("sac", 1)], tiny_task(**changes))
        agent: Any = run.members[0].spec.agent(run)
        state = agent.sac_state().part(slice(0, 1))
        return engine.program_path(agent._constants, state, batch_size)

    places = {place(), place(17), place(hidden_units=24), place(precision="bfloat16")}
    assert place(learning_rate=0.5) in places
    (tmp_path / "update.py").write_text("another update")
    monkeypatch.setattr(engine, "SOURCES", tmp_path)
    places.add(place())
    assert len(places) == 5
    assert place() in places


@pytest.mark.parametrize("natural", [None, NaturalGradient(0.01, 10, 0.1)], ids=["adam", "natural"])
def test_an_update_uses_no_host_tensors_and_no_synchronisation(
    natural: NaturalGradient | None,
) -> None:
    """Uses a fake CUDA device; the next test checks that it detects mistakes."""
    _update_on_a_fake_device(natural)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda x: x + torch.ones(x.shape), "two devices|same device"),
        (lambda x: x * x.sum().item(), "data-dependent|_local_scalar_dense"),
    ],
    ids=["host tensor", "synchronisation"],
)
def test_host_tensors_and_synchronisation_are_detected(
    monkeypatch: pytest.MonkeyPatch, mistake: Any, message: str
) -> None:
    noise = update_module.standard_normals
    monkeypatch.setattr(update_module, "standard_normals", lambda u: [mistake(z) for z in noise(u)])
    with pytest.raises(Exception, match=message):
        _update_on_a_fake_device()


def _update_on_a_fake_device(natural: NaturalGradient | None = None) -> None:
    with fake_cuda():
        log_std = LogStd(-5.0, 2.0, "tanh")
        constants = Constants(17, 6, 0.99, 1e-3, log_std, "alpha", "float32", natural)
        state = on_cuda(constants, members=2, width=8)
        rows, uniform, tau, logged = (
            torch.empty(shape, device="cuda") for shape in ((2, 16, 43), (2, 16, 12), (), (2, 3))
        )
        update(constants, state, rows, uniform, tau, logged)


def on_cuda(constants: Constants, members: int, width: int) -> SACState:
    """State of empty tensors, with an anchor and a projection radius."""

    def layers(networks: int, sizes: list[int]) -> list[Tensor]:
        return [
            torch.empty(members * networks, rows, columns, device="cuda")
            for fan_in, columns in itertools.pairwise(sizes)
            for rows in (fan_in, 1)
        ]

    def trained(parameters: list[Tensor]) -> Trained:
        moments = ([torch.empty_like(p) for p in parameters] for _ in range(2))
        return Trained(parameters, *moments, torch.empty(members, device="cuda"))

    observation, action = constants.observation_size, constants.action_size
    actor = [observation, width, width, 2 * action]
    critic = [observation + action, width, width, 1]
    one_each = torch.empty(members, device="cuda")
    return SACState(
        trained(layers(1, actor)),
        trained(layers(2, critic)),
        layers(2, critic),
        trained([one_each]),
        Anchor(one_each, layers(1, actor)),
        one_each,
    )


@pytest.mark.parametrize(
    ("agents", "variants"),
    [(["sail_revkl"], 2), (["pebble", "sail_revkl", "sail_revkl"], 2), (["sac"], 1)],
)
def test_the_update_with_the_anchor_is_compiled_beside_the_first(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, agents: list[str], variants: int
) -> None:
    asked: dict[bool, list[Path]] = {True: [], False: []}  # by the main thread and ahead
    done = threading.Event()

    def find(key: Path, *_: object) -> Path:
        asked[ahead := threading.current_thread() is not threading.main_thread()].append(key)
        if ahead:
            done.set()
        return key

    monkeypatch.setattr(program_cache, "find", find)
    monkeypatch.setattr(engine, "_load", lambda _: lambda tensors: tensors[-1].zero_())
    agent_of(make_run, [(agent, seed) for seed, agent in enumerate(agents)], engine="compiled")
    assert done.wait(10 if variants == 2 else 1) == (variants == 2)
    assert len({*asked[False]}) == variants
    assert asked[True] == sorted({*asked[False]} - {asked[False][0]})
