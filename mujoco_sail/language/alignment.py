"""Agents that align a language model online: DPO, SAIL and SAIL-RevKL.

A session, every `session_every` steps, draws `labels_per_session` prompts and two completions of
each, asks the teacher which is better, and takes one step of Adam along the gradient of
`language.objective`. Random numbers do not depend on the settings, so that agents of equal seeds
see equal prompts. The reference is the model at the start and never changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from typing_extensions import override

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.optimiser import MemberAdam, project
from mujoco_sail.core.streams import Streams
from mujoco_sail.language import objective
from mujoco_sail.language.model import LanguageModel, build, memory, skeleton, until_end
from mujoco_sail.language.task import TextTask
from mujoco_sail.language.text import text_of, to_actions, to_tokens
from mujoco_sail.preferences.pairs import Pairs
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.preferences.teacher import RecentRewards
from mujoco_sail.recipes.settings import setting
from mujoco_sail.recipes.task import Task

OFFLINE = -1  # `Pairs.start` of a completion that the reference drew
MEASURED = ("success_rate", "kl_from_reference", "reference_return")
LOGGED = ("log_likelihood", "accuracy", "t2_share", "reference_log_prob")


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    """Hyperparameters that the protocol does not fix."""

    beta: float = setting(above=0)  # scale of the implicit reward
    lambda_: float = setting(low=0)  # weight of T2; 1 is its exact weight
    reverse_kl: float = setting(low=0)  # gamma, weight of the anchor
    projection_radius: float = setting(above=0, infinite=True)  # around the reference; inf: none
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
        # A checkpoint has the trained parameters alone.
        tuned = not runner.step or self.task.trained_layers > 0
        self.model, self.reference = (
            build(self.task, runner.seeds[0], self.device, tuned=tuned) for _ in range(2)
        )
        self._text = text_of(self.task)
        self.adam = MemberAdam.of_one(self.model.parameters, self.task.learning_rate)
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
        for step in range(self.runner.step + 1, self.task.steps + 1):
            self._step = step
            if step % self.task.session_every == 0 and self.runner.feedback.labels_left:
                self.learn(self.ask(step))
            self.runner.after_step(step, self)

    def ask(self, step: int) -> Session:
        """Asks for labels of pairs in the order in which they are drawn."""
        low, _ = self.task.reward_range
        return self.runner.feedback.collect(
            step,
            self.draw,
            lambda pairs: torch.arange(pairs.inputs.shape[1])[None],
            lambda pairs: RecentRewards.of(list(pairs.task_reward.flatten(1)), low),
        )

    def draw(self, streams: Streams) -> Pairs:
        """Draws pairs of completions; the share `offline` of all so far by the reference."""
        count = self.task.labels_per_session * self.task.candidates_per_label
        of_prompts = streams.uniform(count, self.task.prompt_tokens)[0].cpu().numpy()
        prompts = torch.from_numpy(self._text.draw_prompts(of_prompts)).repeat_interleave(2, 0)
        uniform = streams.uniform(2 * count, self.task.completion_tokens)[0]
        before = self.updates * count + torch.arange(count + 1, dtype=torch.float64)
        offline = (before * self.settings.offline).floor().diff() > 0
        by_reference = offline.repeat_interleave(2)
        completions = torch.empty(uniform.shape, dtype=torch.int64)
        for model, at in ((self.reference, by_reference), (self.model, ~by_reference)):
            if at.any():
                completions[at] = model.sample(prompts[at], uniform[at])
        rewards = torch.from_numpy(self._text.rewards(prompts, completions)).float()
        actions = torch.from_numpy(to_actions(completions.numpy(), self._text.size))
        start = torch.full((1, count, 2), self._step)
        start[:, offline] = OFFLINE
        shape = (1, count, 2, 1)
        inputs = torch.cat([prompts.float(), actions], 1).view(*shape, -1)
        columns = inputs, torch.ones(shape), rewards.view(shape), start
        return Pairs(*(column.to(self.device) for column in columns))

    def learn(self, session: Session) -> None:
        """Takes one step along the gradient that the pairs of a session estimate."""
        settings, inputs = self.settings, session.pairs.inputs[0, :, :, 0].cpu()  # [P, 2, ...]
        prompts, actions = inputs.tensor_split([self.task.prompt_tokens], -1)
        completions = torch.from_numpy(to_tokens(actions.numpy(), self._text.size))
        flat = prompts.long().flatten(0, 1), completions.flatten(0, 1)
        with torch.no_grad():
            reference = self.reference.log_prob(*flat).view(-1, 2)
        policy = self.model.log_prob(*flat).view(-1, 2)
        online = (session.pairs.start[0, :, 0] != OFFLINE).float()
        pairs = objective.Compared(policy, reference, session.labels[0], online)
        t1, t2 = objective.estimates(pairs, settings.beta)
        gradient = of_t1 = self._gradient(t1)
        share = anchored = torch.tensor(torch.nan)
        if settings.lambda_:
            of_t2 = self._gradient(t2)
            usual = get_total_norm(of_t1)  # 0 where every label is a tie and every margin 0
            share = torch.where(usual > 0, settings.lambda_ * get_total_norm(of_t2) / usual, share)
            gradient = _sum(gradient, settings.lambda_, of_t2)
        if settings.reverse_kl:
            anchored = self.anchored(flat[0][::2], session.number)
            gradient = _sum(gradient, settings.reverse_kl, self._gradient(anchored))
        self.adam.step([-g for g in gradient])
        radius = settings.projection_radius
        if radius < torch.inf:
            project(self.model.parameters, self.reference.parameters, radius)
        self.updates += 1
        margin, label = pairs.margin(settings.beta).detach(), session.labels[0]
        right = ((margin > 0).float() == label)[(label != 0.5) & (margin != 0)]
        logged = t1.detach(), right.float().mean(), share, anchored.detach()
        self.logged = _named(LOGGED, logged)

    def anchored(self, prompts: Tensor, number: int) -> Tensor:
        """Anchor's surrogate, from one completion of the reference to each prompt [B, P]."""
        streams = self.streams("anchor", number)
        uniform = streams.uniform(len(prompts), self.task.completion_tokens)[0]
        return self.model.log_prob(prompts, self.reference.sample(prompts, uniform)).mean()

    def _gradient(self, value: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(value, self.model.parameters, retain_graph=True))

    @override
    def policy(self, observation: Tensor) -> Tensor:
        """Draws one completion per prompt, and the reference's, from streams of this step."""
        prompts = observation[0].long().cpu()
        shape = len(prompts), self.task.completion_tokens
        streams = self.streams("completions", self._step)
        models = self.model, self.reference
        own, others = (model.sample(prompts, streams.uniform(*shape)[0]) for model in models)
        rewards, rival = (self._text.rewards(prompts, drawn) for drawn in (own, others))
        with torch.no_grad():
            log_policy, log_reference = (model.log_probs(prompts, own) for model in models)
        # KL(policy || reference): exact at every place of completions that the policy drew.
        per_place = (log_policy.exp() * (log_policy - log_reference)).sum(-1).cpu()
        divergence = (per_place * until_end(own, self.model.end)).sum(-1).mean()
        wins = torch.from_numpy(rewards - rival).sign().mean() / 2 + 0.5  # a tie is half a win
        self.measured = _named(MEASURED, (wins, divergence, rival.mean()))
        return torch.from_numpy(to_actions(own.numpy(), self._text.size))[None].to(self.device)

    @override
    def evaluated(self) -> dict[str, Tensor]:
        return self.measured

    @override
    def metrics(self) -> dict[str, Tensor]:
        kl = {"kl_from_reference": self.measured["kl_from_reference"]}
        return {"updates": torch.tensor([float(self.updates)]), **self.logged, **kl}

    @override
    def health(self) -> dict[str, Tensor]:
        largest = torch.stack([p.detach().abs().max() for p in self.model.parameters]).max()
        return {"a parameter of the language model": largest.view(1)}

    @override
    def export_policies(self, step: int) -> list[LanguageModel]:
        return [self.model]


def _named(names: Sequence[str], values: Sequence[Tensor | float]) -> dict[str, Tensor]:
    """Scalars by name, [1] each, on the CPU."""
    return {name: torch.tensor([float(x)]) for name, x in zip(names, values, strict=True)}


def _sum(gradient: Sequence[Tensor], weight: float, more: Sequence[Tensor]) -> list[Tensor]:
    return [g + weight * m for g, m in zip(gradient, more, strict=True)]
