"""Stable-Baselines3 agents: result files and reproducibility."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers.runs import MakeRun


@pytest.mark.parametrize("name", ["sb3_sac", "sb3_ppo"])
def test_stable_baselines_writes_the_result_files_of_the_suite(
    name: str, make_run: MakeRun
) -> None:
    settings = {"sb3_ppo": {"n_steps": 50, "batch_size": 25}}
    members = make_run([(name, 0)], settings=settings)
    members.execute()
    evaluations = pd.read_csv(members.files[0].folder / "evaluations.csv")
    training = pd.read_csv(members.files[0].folder / "training.csv")
    assert evaluations["step"].tolist() == [75, 150]
    assert training["updates"].is_monotonic_increasing
    assert training["updates"].iloc[-1] >= 20
    assert training["critic_loss"].notna().all()


@pytest.mark.parametrize("name", ["sb3_sac", "sb3_ppo"])
def test_stable_baselines_is_reproducible(name: str, make_run: MakeRun) -> None:
    settings = {"sb3_ppo": {"n_steps": 50, "batch_size": 25}}
    texts = []
    for _ in range(2):
        members = make_run([(name, 1)], settings=settings)
        members.execute()
        texts.append((members.files[0].folder / "evaluations.csv").read_text())
    assert texts[0] == texts[1]
