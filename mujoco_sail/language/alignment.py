"""Agents that align a language model online: DPO, SAIL and SAIL-RevKL.

A session, every `session_every` steps, draws `labels_per_session` prompts and two completions of
each, asks the teacher which is better, and takes one step of Adam along the gradient of
`language.objective`. The same random numbers are drawn whatever the settings are, so that agents
of equal seeds see equal prompts. The reference is the model at the start and never changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from typing_extensions import override

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.streams import Streams
from mujoco_sail.language import objective
from mujoco_sail.language.environment import to_actions, to_tokens
from mujoco_sail.language.model import LanguageModel, build, files_of, memory, skeleton, until_end
from mujoco_sail.language.task import TextTask
from mujoco_sail.language.text import text_of
from mujoco_sail.preferences.sessions import Pairs, Session
from mujoco_sail.preferences.teacher import RecentRewards
from mujoco_sail.recipes.settings import setting
from mujoco_sail.recipes.task import Task
from mujoco_sail.system.files import write_bytes

OFFLINE = -1  # `Pairs.start` of a completion that the reference drew
MEASURED = ("success_rate", "kl_to_reference", "reference_return")
LOGGED = ("log_likelihood", "accuracy", "t2_share", "anchor")


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    """Hyperparameters that the protocol does not fix."""

    beta: float = setting(above=0)  # scale of the implicit reward
    lambda_: float = setting(low=0)  # weight of T2; 1 is its exact weight
    reverse_kl: float = setting(low=0)  # gamma, weight of the anchor
    # Radius of the ball around the reference's parameters; inf for no projection.
    projection_radius: float = setting(above=0, infinite=True)
    offline: float = setting(low=0, high=1)  # rho, share of pairs that the reference draws


class Alignment(Agent):
    """Language model that is trained on labels of its own completions.

    Attributes:
        model: The policy.
        reference: The model at the start.
        updates: Sessions so far.
        measured: Win rate against the reference, KL(policy || reference) in nats, and mean reward
            of the reference, by the last evaluation.
        logged: Quantities of the last session.
    """

    Settings = AlignmentSettings
    settings: AlignmentSettings
    task: TextTask
    stackable = False

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        seed, tuned = runner.seeds[0], not runner.step or self.task.trained_layers > 0
        self.model = build(self.task, seed, self.device, tuned=tuned)
        self.reference = build(self.task, seed, self.device, tuned=tuned)
        self._text = text_of(self.task)
        views = [parameter.detach()[None] for parameter in self.model.parameters]
        self.adam = MemberAdam(views, 1, self.task.learning_rate)
        self.updates = 0
        self.measured = {name: torch.full((1,), torch.nan) for name in MEASURED}
        self.logged = {name: torch.full((1,), torch.nan) for name in LOGGED}
        self._step = runner.step

    @classmethod
    @override
    def obstacle(cls, task: Task) -> str:
        if not isinstance(task, TextTask):
            return "it aligns a language model; expected a text task, such as language/vowels"
        skeleton(task)
        return ""

    @classmethod
    @override
    def memory(cls, task: Task) -> float:
        assert isinstance(task, TextTask)  # see `obstacle`
        return memory(task)

    @override
    def train(self) -> None:
        feedback = self.runner.feedback
        for step in range(self.runner.step + 1, self.task.steps + 1):
            self._step = step
            if step % self.task.session_every == 0 and feedback.labels_left:
                self.learn(feedback.collect(step, self.draw, self._in_order, self._recent))
            self.runner.after_step(step, self)

    # --- a session ---

    def draw(self, streams: Streams) -> Pairs:
        """Draws pairs of completions, the first `offline` of them by the reference."""
        task, count = self.task, self.task.labels_per_session * self.task.candidates_per_label
        prompts = self._prompts(streams, count)
        uniform = streams.uniform(2 * count, task.completion_tokens)[0]
        twice = prompts.repeat_interleave(2, 0)
        offline = round(self.settings.offline * count)
        completions = torch.cat(
            [
                self._sample(self.reference, twice[: 2 * offline], uniform[: 2 * offline]),
                self._sample(self.model, twice[2 * offline :], uniform[2 * offline :]),
            ]
        )
        rewards = self._text.rewards(twice.cpu().numpy(), completions.cpu().numpy())
        actions = torch.from_numpy(to_actions(completions.cpu().numpy(), self._text.size))
        inputs = torch.cat([twice.cpu().float(), actions], 1).to(self.device)
        start = torch.full((count, 2), self._step)
        start[:offline] = OFFLINE
        shape = (1, count, 2, 1)
        return Pairs(
            inputs.view(*shape, -1),
            torch.ones(shape, device=self.device),
            torch.tensor(rewards, dtype=torch.float32, device=self.device).view(shape),
            start[None].to(self.device),
        )

    def learn(self, session: Session) -> None:
        """Takes one step along the gradient that the pairs of a session estimate."""
        places, settings = self.task.prompt_tokens, self.settings
        inputs = session.pairs.inputs[0, :, :, 0]  # [P, 2, prompt and completion]
        prompts = inputs[..., :places].long()
        chosen = to_tokens(inputs[..., places:].cpu().numpy(), self._text.size)
        completions = torch.from_numpy(chosen).to(self.device)
        flat = prompts.flatten(0, 1), completions.flatten(0, 1)
        with torch.no_grad():
            reference = self.reference.log_prob(*flat).view(-1, 2)
        pairs = objective.Compared(
            self.model.log_prob(*flat).view(-1, 2),
            reference,
            session.labels[0],
            (session.pairs.start[0, :, 0] != OFFLINE).float(),
        )
        t1, t2 = objective.estimates(pairs, settings.beta)
        gradient = of_t1 = self._gradient(t1)
        share, anchored = torch.tensor(torch.nan), torch.tensor(torch.nan)
        if settings.lambda_:
            of_t2 = self._gradient(t2)
            share = settings.lambda_ * _norm(of_t2) / _norm(of_t1)
            gradient = _sum(gradient, settings.lambda_, of_t2)
        if settings.reverse_kl:
            anchored = self.anchored(prompts[:, 0], session.number)
            gradient = _sum(gradient, settings.reverse_kl, self._gradient(anchored))
        self.adam.step([-g[None] for g in gradient])
        radius = settings.projection_radius
        if radius < torch.inf:
            objective.project(self.model.parameters, self.reference.parameters, radius)
        self.updates += 1
        right = (pairs.margin(settings.beta) > 0).float() == session.labels[0]
        values = (t1, right.float().mean(), share, anchored)
        self.logged = {
            name: value.detach().view(1).float() for name, value in zip(LOGGED, values, strict=True)
        }

    def anchored(self, prompts: Tensor, number: int) -> Tensor:
        """Anchor's surrogate, from one completion of the reference to each prompt [B, P]."""
        streams = self.streams("anchor", number)
        uniform = streams.uniform(len(prompts), self.task.completion_tokens)[0]
        completions = self._sample(self.reference, prompts, uniform)
        return objective.anchor(self.model.log_prob(prompts, completions))

    def _gradient(self, value: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(value, self.model.parameters, retain_graph=True))

    def _prompts(self, streams: Streams, count: int) -> Tensor:
        uniform = streams.uniform(count, self.task.prompt_tokens)[0]
        return torch.from_numpy(self._text.draw_prompts(uniform.cpu().numpy())).to(self.device)

    @staticmethod
    def _sample(model: LanguageModel, prompts: Tensor, uniform: Tensor) -> Tensor:
        return model.sample(prompts, uniform) if len(prompts) else uniform.long()

    @staticmethod
    def _in_order(pairs: Pairs) -> Tensor:
        return torch.arange(pairs.inputs.shape[1])[None]

    def _recent(self, pairs: Pairs) -> RecentRewards:
        return RecentRewards.of(list(pairs.task_reward.flatten(1)), self.task.reward_range[0])

    # --- evaluation ---

    @override
    def policy(self, observation: Tensor) -> Tensor:
        """Draws one completion per prompt, and the reference's, from streams of this step."""
        prompts = observation[0].long()
        shape = len(prompts), self.task.completion_tokens
        streams = self.streams("completions", self._step)
        drawn = [
            model.sample(prompts, streams.uniform(*shape)[0])
            for model in (self.model, self.reference)
        ]
        rewards = [
            torch.from_numpy(self._text.rewards(prompts.cpu().numpy(), ids.cpu().numpy()))
            for ids in drawn
        ]
        wins = (1 + (rewards[0] - rewards[1]).sign()) / 2  # a tie is half a win
        values = wins.mean(), self._divergence(prompts, drawn[0]), rewards[1].mean()
        self.measured = {
            name: value.view(1).float().cpu() for name, value in zip(MEASURED, values, strict=True)
        }
        actions = torch.from_numpy(to_actions(drawn[0].cpu().numpy(), self._text.size))
        return actions[None].to(self.device)

    def _divergence(self, prompts: Tensor, completions: Tensor) -> Tensor:
        """KL(policy || reference): exact at every place of completions that the policy drew."""
        models = self.model, self.reference
        with torch.no_grad():
            policy, reference = (model.log_probs(prompts, completions) for model in models)
        per_place: Tensor = (policy.exp() * (policy - reference)).sum(-1)
        return (per_place * until_end(completions, self.model.end)).sum(-1).mean()

    @override
    def evaluated(self) -> dict[str, Tensor]:
        return self.measured

    @override
    def metrics(self) -> dict[str, Tensor]:
        kl = {"kl_to_reference": self.measured["kl_to_reference"]}
        return {"updates": torch.tensor([float(self.updates)]), **self.logged, **kl}

    @override
    def health(self) -> dict[str, Tensor]:
        largest = torch.stack([p.detach().abs().max() for p in self.model.parameters]).max()
        return {"a parameter of the language model": largest.view(1)}

    @override
    def export_policies(self, step: int) -> "list[ModelFolder]":
        return [ModelFolder(self.task, self.model)]


@dataclass(frozen=True)
class ModelFolder:
    """Aligned model, to be written as transformers reads it."""

    task: TextTask
    model: LanguageModel

    def save(self, path: Path | str) -> list[Path]:
        """Writes the folder `path`, file by file."""
        with TemporaryDirectory() as scratch:
            made = files_of(self.task, self.model, Path(scratch))
            for file in made:
                write_bytes(Path(path) / file.name, file.read_bytes())
        return [Path(path) / file.name for file in made]


def _sum(gradient: Sequence[Tensor], weight: float, more: Sequence[Tensor]) -> list[Tensor]:
    return [g + weight * m for g, m in zip(gradient, more, strict=True)]


def _norm(parts: Sequence[Tensor]) -> Tensor:
    return nn.utils.get_total_norm(parts)
