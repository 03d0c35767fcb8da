"""Agents that align a language model, in the harness of the suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.language import ALL, run_text, text_task
from helpers.resuming import results_after_stops
from helpers.runs import MakeRun, members_of, results_of
from helpers.tiny import CPU
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils import get_total_norm

from mujoco_sail.cli import main
from mujoco_sail.core.streams import Streams
from mujoco_sail.language.alignment import OFFLINE
from mujoco_sail.language.text import text_of, to_tokens
from mujoco_sail.training.run import Run

ARMS = ("online_dpo", "sail_lm_tenth", "sail_lm", "sail_revkl_lm")
SAIL = "language/sail_lm"
DPO = "language/online_dpo"


def agent_of(make_run: MakeRun, settings: dict[str, Any] | None = None, **changes: Any) -> Any:
    run = make_run([(SAIL, 0)], text_task(**changes), {SAIL: settings or {}})
    return run.members[0].spec.agent(run)


def prompts_of(agent: Any, count: int) -> Tensor:
    uniform = Streams([0], "prompts", agent.device).uniform(count, 4)[0]
    return torch.from_numpy(text_of(agent.task).draw_prompts(uniform.numpy()))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the arms, and of agents that know nothing of texts."""
    results = tmp_path_factory.mktemp("results")
    task = text_task(random_steps=10, exploration_steps=5, reference_after=10, labels=12)
    for name in (*(f"language/{arm}" for arm in ARMS), "random", "sac"):
        Run(task, members_of([(name, 0)]), CPU, results, lambda _: None).execute()
    return results


@pytest.mark.parametrize(
    ("arm", "settings", "trained_layers", "steps"),
    [(SAIL, ALL, 0, (8, 9, 39)), (SAIL, ALL, 1, (1, 20)), (DPO, {}, 0, (9, 20))],
)
def test_a_stopped_and_resumed_run_writes_identical_files(
    make_run: MakeRun,
    tmp_path: Path,
    arm: str,
    settings: dict[str, float],
    trained_layers: int,
    steps: tuple[int, ...],
) -> None:
    """At and after a session, at an evaluation, and before the last step."""
    task, names = text_task(trained_layers=trained_layers), [(arm, 3)]
    whole = make_run(names, task, {arm: settings})
    whole.execute()
    again = results_after_stops(task, names, {arm: settings}, steps, tmp_path / "again")
    assert again == results_of(whole)


def test_every_arm_has_the_same_labels_and_the_columns_of_the_suite(benchmark: Path) -> None:
    for arm in ARMS:
        (folder,) = (benchmark / "echo" / arm).iterdir()
        rows = pd.read_csv(folder / "evaluations.csv")
        assert rows["labels"].tolist() == [8, 12]
        assert rows["episodes"].tolist() == [6, 6]
        assert rows["episode_return"].between(0, 1).all()
        assert rows["success_rate"].between(0, 1).all()
        assert (rows["kl_from_reference"] > 0).all()
        logged = pd.read_csv(folder / "training.csv")
        assert logged["kl_from_reference"].tolist() == rows["kl_from_reference"].tolist()
        assert logged["updates"].tolist() == [2, 3]
        assert len(pd.read_csv(folder / "feedback.csv")) == 12


def test_arms_of_equal_seeds_compare_equal_completions_at_first(benchmark: Path) -> None:
    tables = [pd.read_csv(benchmark / "echo" / arm / "seed_0" / "feedback.csv") for arm in ARMS]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table[:4], tables[0][:4])


def test_the_command_line_trains_a_language_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_text(tmp_path, DPO, "language/vowels") == 0
    folder = tmp_path / "vowels" / "online_dpo" / "seed_0"
    assert (folder / "policy" / "model.safetensors").is_file()
    assert 'transformers = "' in (folder / "run.toml").read_text()
    assert not (folder / "checkpoints").exists()
    assert main(["export", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "a language model is a folder" in capsys.readouterr().err


def test_tables_figures_and_the_report_know_text_tasks(
    benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--results", str(benchmark))
    assert main(["table", *where, "--baseline", "online_dpo"]) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert ["|", "echo", "|", "sail_revkl_lm"] in [row[:4] for row in rows]
    assert main(["plot", "learning_curves", *where, "--out", str(tmp_path)]) == 0
    page = tmp_path / "report.html"
    assert main(["report", *where, "--baseline", "online_dpo", "--out", str(page)]) == 0
    assert "--env language/echo" in page.read_text()
    assert "language/sail_lm" in page.read_text()


def test_training_moves_the_policy_and_not_the_reference(make_run: MakeRun) -> None:
    agent = agent_of(make_run)
    before = [p.detach().clone() for p in agent.reference.parameters]
    agent.train()
    for old, kept, new in zip(
        before, agent.reference.parameters, agent.model.parameters, strict=True
    ):
        assert torch.equal(old, kept)
        assert not torch.equal(old, new)


def test_a_step_follows_the_gradient_of_the_session(make_run: MakeRun) -> None:
    """The likelihood of a session's labels rises; with T2's weight 0 it is their T1 alone."""
    agent = agent_of(make_run, {"lambda": 0.0}, learning_rate=1e-3)
    session = agent.ask(8)
    likelihoods = []
    for _ in range(5):
        agent.learn(session)
        likelihoods.append(agent.logged["log_likelihood"].item())
    assert likelihoods[0] == pytest.approx(-0.6931, abs=1e-4)  # the policy is the reference
    assert likelihoods == sorted(likelihoods)


def test_the_anchor_is_drawn_from_the_reference(make_run: MakeRun) -> None:
    agent = agent_of(make_run, {"reverse_kl": 0.5})
    with torch.no_grad():
        for parameter in agent.model.parameters:
            parameter.mul_(3)
    prompts = prompts_of(agent, 64)
    uniform = agent.streams("anchor", 2).uniform(64, 8)[0]
    by_reference, by_policy = (
        agent.model.log_prob(prompts, model.sample(prompts, uniform)).mean()
        for model in (agent.reference, agent.model)
    )
    found = agent.anchored(prompts, 2)
    assert found.item() == pytest.approx(by_reference.item(), rel=1e-5)
    assert found.item() < by_policy.item() - 1


def test_offline_pairs_come_from_the_reference_and_have_no_t2(make_run: MakeRun) -> None:
    agent = agent_of(make_run, {"offline": 0.25})
    pairs = agent.draw(Streams([0], "session", agent.device))
    assert (pairs.start[0, :, 0] == OFFLINE).tolist() == [False, False, False, True]
    many = agent_of(make_run, {"offline": 0.5}, candidates_per_label=2)
    pairs = many.draw(Streams([0], "session", agent.device))
    assert (pairs.start[0, :, 0] == OFFLINE).tolist() == 4 * [False, True]
    rare = agent_of(make_run, {"offline": 0.0625})  # one of sixteen pairs, four in a session
    counts = []
    for _ in range(8):
        start = rare.draw(Streams([0], "session", rare.device)).start
        counts.append(int((start[0, :, 0] == OFFLINE).sum()))
        rare.updates += 1
    assert counts == [0, 0, 0, 1] * 2
    whole = agent_of(make_run, {"offline": 1.0})
    whole.learn(whole.ask(8))
    assert whole.logged["t2_share"].item() == 0


def test_a_share_of_t1_is_undefined_where_t1_is_zero(make_run: MakeRun) -> None:
    """At the reference every margin is 0, so that ties have no T1; one label has no baseline."""
    agent = agent_of(make_run, {}, labels_per_session=1)
    session = agent.ask(8)
    agent.learn(replace(session, labels=torch.full_like(session.labels, 0.5)))
    assert agent.logged["t2_share"].isnan()


def test_a_projected_policy_stays_in_the_ball_around_the_reference(make_run: MakeRun) -> None:
    agent = agent_of(make_run, {"projection_radius": 0.01})
    agent.train()
    both = zip(agent.model.parameters, agent.reference.parameters, strict=True)
    distance = torch.stack([(p - q).norm() for p, q in both]).norm().item()
    assert distance == pytest.approx(0.01, rel=1e-3)
    assert agent.updates == 4


def test_the_divergence_is_zero_at_the_reference_and_exact_at_every_place(
    make_run: MakeRun,
) -> None:
    """Against the mean of log pi - log pi_ref over many samples of the policy."""
    agent = agent_of(make_run)
    prompts = prompts_of(agent, 1000)
    agent.policy(prompts[None].float())
    assert agent.measured["kl_from_reference"].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for parameter in agent.model.parameters:
            parameter.mul_(1.5)
    agent.policy(prompts[None].float())
    uniform = torch.rand(1000, 8, generator=torch.Generator().manual_seed(0))
    drawn = agent.model.sample(prompts, uniform)
    with torch.no_grad():
        ratio = agent.model.log_prob(prompts, drawn) - agent.reference.log_prob(prompts, drawn)
    error = 4 * ratio.std().item() / 1000**0.5
    assert agent.measured["kl_from_reference"].item() == pytest.approx(
        ratio.mean().item(), abs=error
    )
    assert ratio.mean() > 0.1


def test_teachers_of_the_suite_judge_completions(make_run: MakeRun) -> None:
    run = make_run([(DPO, 0)], text_task(teacher="equal+noisy+skip", candidates_per_label=4))
    run.execute()
    labels = [query.label for query in run.feedback.queries[0]]
    assert sum(label is not None for label in labels) == 16
    assert None in labels


def test_a_step_is_along_t1_plus_lambda_t2_plus_gamma_anchor(make_run: MakeRun) -> None:
    agent = agent_of(make_run, {"lambda": 0.7, "reverse_kl": 0.3})
    session, steps = agent.ask(8), []
    with torch.no_grad():
        for p in agent.model.parameters:
            p.mul_(1.5)
    assert agent.adam.learning_rate == agent.task.learning_rate
    agent.adam.step = steps.append
    agent.learn(session)
    inputs = session.pairs.inputs[0, :, :, 0]
    prompts, actions = inputs.tensor_split([agent.task.prompt_tokens], -1)
    completions = torch.from_numpy(to_tokens(actions.numpy(), agent._text.size)).flatten(0, 1)
    flat = prompts.long().flatten(0, 1), completions
    policy, reference = (m.log_prob(*flat).view(-1, 2) for m in (agent.model, agent.reference))
    implicit = agent.settings.beta * (policy - reference.detach())
    margin, label = implicit[:, 0] - implicit[:, 1], session.labels[0]
    log_p = label * logsigmoid(margin) + (1 - label) * logsigmoid(-margin)
    factor = log_p.detach()
    factor = factor - (factor.sum() - factor) / (len(factor) - 1)
    t1, t2 = log_p.mean(), (factor * policy.sum(-1)).mean()
    anchor = agent.anchored(prompts[:, 0].long(), session.number)

    def gradient(value: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(value, agent.model.parameters, retain_graph=True)

    for step, g in zip(steps[0], gradient(t1 + 0.7 * t2 + 0.3 * anchor), strict=True):
        torch.testing.assert_close(-step, g, rtol=1e-3, atol=1e-5)
    share = 0.7 * get_total_norm(gradient(t2)) / get_total_norm(gradient(t1))
    assert agent.logged["t2_share"].item() == pytest.approx(share.item(), rel=1e-3)


def test_both_completions_of_a_pair_answer_one_prompt_and_come_from_the_right_model(
    make_run: MakeRun,
) -> None:
    agent = agent_of(make_run, {"offline": 0.5}, candidates_per_label=2)
    with torch.no_grad():
        for p in agent.model.parameters:
            p.mul_(3)
    pairs = agent.draw(Streams([0], "session", agent.device))
    streams = Streams([0], "session", agent.device)
    streams.uniform(8, agent.task.prompt_tokens)
    uniform = streams.uniform(16, agent.task.completion_tokens)[0]
    prompts, actions = pairs.inputs[0, :, :, 0].tensor_split([agent.task.prompt_tokens], -1)
    assert torch.equal(prompts[:, 0], prompts[:, 1])
    found = torch.from_numpy(to_tokens(actions.numpy(), agent._text.size))
    flat = prompts.long().flatten(0, 1)
    own, others = (m.sample(flat, uniform).view(8, 2, -1) for m in (agent.model, agent.reference))
    assert torch.equal(found[::2], own[::2])
    assert torch.equal(found[1::2], others[1::2])
    assert not torch.equal(own, others)


def test_wins_are_the_policys_and_a_tie_is_half_of_one(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agent_of(make_run)
    prompts = prompts_of(agent, 4)
    with torch.no_grad():
        for parameter in agent.model.parameters:
            parameter.mul_(3)
    streams = agent.streams("completions", agent._step)
    of_policy, of_reference = (
        model.sample(prompts, streams.uniform(4, agent.task.completion_tokens)[0])
        for model in (agent.model, agent.reference)
    )
    assert not torch.equal(of_policy, of_reference)

    def rewards(_: Tensor, completions: Tensor) -> np.ndarray:
        if torch.equal(completions, of_policy):
            return np.array([1.0, 1.0, 0.5, 0.0])
        assert torch.equal(completions, of_reference)
        return np.array([0.0, 0.5, 0.5, 1.0])

    monkeypatch.setattr(agent._text, "rewards", rewards)
    action = agent.policy(prompts[None].float())[0].numpy()
    assert torch.equal(torch.from_numpy(to_tokens(action, agent._text.size)), of_policy)
    assert agent.measured["success_rate"].item() == 0.625
    assert agent.measured["reference_return"].item() == 0.5
