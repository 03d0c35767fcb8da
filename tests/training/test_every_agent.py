"""Further agents: resuming, stacking, export and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.resuming import results_after_stops
from helpers.runs import FILES, MakeRun, members_of, results_of
from helpers.tiny import CPU, tiny_task

from mujoco_sail import policies
from mujoco_sail.cli import main
from mujoco_sail.core.streams import Streams
from mujoco_sail.training.run import Run

# With these values, all mechanisms of the agents act in a tiny run.
ARMS = {
    "surf": {"confidence": 0.5, "shortest_crop": 0.7},
    "rune": {"exploration_weight": 0.5, "exploration_decay": 1e-3},
    "mrn": {"meta_every": 10},
    "policer": {"reset_threshold": 0.0, "rank_exponent": 2.0},
    "qpa": {"aligned_episodes": 2},
    "reed": {"consistency_updates": 5, "consistency_batch_size": 19, "projection_units": 37},
    "rime": {"alpha": 0.1, "uncertainty_cap": 0.0, "tau_upper": 0.8},
    "sail_revkl_npg": {"cg_iterations": 3},
}
COLUMNS = {
    "surf": "sure_predictions",
    "rune": "exploration_bonus",
    "mrn": "outer_loss",
    "policer": "reward_loss",
    "qpa": "reward_loss",
    "reed": "reward_loss",
    "rime": "fitted_labels",
    "sail_revkl_npg": "kl_to_reference",
}

arms = pytest.mark.parametrize("arm", ARMS)


TASK = tiny_task(replay_capacity=100)
NAMES = {arm: [(arm, 0), (arm, 1)] for arm in ("pebble", *ARMS)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Finished runs of all agents, with two members each, in one folder."""
    folder, finished = tmp_path_factory.mktemp("results"), {}
    for arm, names in NAMES.items():
        finished[arm] = Run(TASK, members_of(names, ARMS), CPU, folder, lambda _: None)
        finished[arm].execute()
    return finished


@arms
def test_a_resumed_run_writes_identical_files(
    runs: dict[str, Run], tmp_path: Path, arm: str
) -> None:
    """Stops at the first session, between sessions, and after the last with a wrapped buffer."""
    again = results_after_stops(TASK, NAMES[arm], ARMS, (80, 95, 120), tmp_path)
    assert again == results_of(runs[arm])


@arms
def test_a_member_writes_the_same_files_alone_and_in_a_stack_on_two_threads(
    make_run: MakeRun, arm: str
) -> None:
    """The sizes are not multiples of a vector register."""
    task = tiny_task(
        hidden_units=77,
        batch_size=19,
        reward_units=38,
        reward_batch_size=5,
        labels=20,
        labels_per_session=10,
    )
    alone = make_run([(arm, 1)], task, ARMS)
    stack = make_run([(arm, seed) for seed in range(3)], task, ARMS)
    alone.execute()
    torch.set_num_threads(2)
    try:
        stack.execute()
    finally:
        torch.set_num_threads(1)
    assert results_of(alone) == results_of(stack)[len(FILES) : 2 * len(FILES)]


@arms
def test_runs_are_logged_and_exported(runs: dict[str, Run], arm: str) -> None:
    for files in runs[arm].files:
        header, *_, last = (files.folder / "training.csv").read_text().splitlines()
        row = dict(zip(header.split(","), last.split(","), strict=True))
        assert float(row["updates"]) >= 50
        assert float(row["reward_updates"]) >= 4
        assert float(row["labels"]) == 8
        assert float(row[COLUMNS[arm]]) > 0
        assert policies.load(files.folder / "policy").about.agent == arm


def test_the_table_shows_all_agents(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs["pebble"].files[0].folder.parents[2]
    assert main(["table", "--results", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert [arm for arm in runs if f"| {arm} " not in shown] == []


@pytest.mark.parametrize("arm", ["pebble", "sail", *ARMS])
def test_no_random_stream_is_opened_twice_in_a_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    """Two uses of one stream would be dependent."""
    opened: list[tuple[Any, ...]] = []
    begin = Streams.__init__

    def recorded(
        streams: Streams, seeds: Any, purpose: str, device: torch.device, index: int = 0
    ) -> None:
        opened.append((tuple(seeds), purpose, index))
        begin(streams, seeds, purpose, device, index)

    monkeypatch.setattr(Streams, "__init__", recorded)
    run = make_run([(arm, 3), (arm, 4)], tiny_task(labels=16, session_every=15), ARMS)
    agent: Any = run.members[0].spec.agent(run)
    agent.train()
    assert len(opened) == len(set(opened)) > 5
