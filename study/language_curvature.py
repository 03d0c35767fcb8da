"""Curvature of the objective of alignment along its path: `python study/language_curvature.py`.

A transformer with a vocabulary of 4 and completions of 4 tokens has 256 completions per prompt, so
the objective of `mujoco_sail.language.objective`, its gradient and products with its Hessian are
exact, in float64. The path is that of gradient ascent with a fixed step and without noise, from the
reference on. The largest eigenvalue of the Hessian is Lanczos's: where it is positive, the
objective is not concave.
"""

import itertools
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import GPT2Config, GPT2LMHeadModel

from mujoco_sail.core.streams import seed_for
from mujoco_sail.language import objective
from mujoco_sail.language.model import LanguageModel, initialise

TOKENS, PLACES, PROMPT = 4, 4, 2
PROMPTS = torch.tensor([[0, 1], [3, 2]])
SHARPNESS = 25.0  # initial weights, in units of GPT-2's, so that policies are far from uniform
BETA = 0.5
GAMMAS = (0.0, 0.1, 0.3, 1.0)
SEEDS = 5
STEPS, EVERY, RATE = 200, 40, 0.5
ITERATIONS = 30  # of Lanczos


@dataclass(frozen=True)
class Enumerated:
    """Problem whose completions are enumerated.

    Attributes:
        policy: The model that is trained.
        reference: The model at the start.
        preference: P(y1 > y2) by the judge, [X, K, K], for X prompts and K completions.
        completions: All completions, [K, L].
        beta: Scale of the implicit reward.
        gamma: Weight of the anchor.
    """

    policy: LanguageModel
    reference: LanguageModel
    preference: Tensor
    completions: Tensor
    beta: float
    gamma: float

    def log_policy(self, model: LanguageModel) -> Tensor:
        """Log-probabilities of all completions, [X, K]."""
        count = len(self.completions)
        rows = [model.log_prob(prompt.expand(count, -1), self.completions) for prompt in PROMPTS]
        return torch.stack(rows)

    def objective(self) -> Tensor:
        """J - gamma KL(pi_ref || pi_theta), written out without the code of the agents."""
        log_policy, log_reference = self.log_policy(self.policy), self.log_policy(self.reference)
        reward = self.beta * (log_policy - log_reference)
        margin = reward[:, :, None] - reward[:, None, :]
        likelihood = self.preference * logsigmoid(margin)
        likelihood = likelihood + (1 - self.preference) * logsigmoid(-margin)
        policy = log_policy.exp()
        value = torch.einsum("xk,xkl,xl->x", policy, likelihood, policy)
        divergence = (log_reference.exp() * (log_reference - log_policy)).sum(-1)
        return (value - self.gamma * divergence).mean()

    def terms(self) -> tuple[Tensor, Tensor, Tensor]:
        """Expectations of T1 and T2, by the code of the agents, and the anchor; flat gradients."""
        log_policy = self.log_policy(self.policy)
        log_reference = self.log_policy(self.reference).detach()
        both = [
            torch.stack(torch.broadcast_tensors(x[:, :, None], x[:, None, :]), -1).flatten(1, 2)
            for x in (log_policy, log_reference)
        ]
        label = self.preference.flatten(1)
        pairs = objective.Compared(*both, label, torch.ones_like(label))
        t1, t2 = objective.surrogates(pairs, self.beta, torch.zeros(1).double())
        weight = both[0].detach().sum(-1).exp()
        anchor = (log_reference.exp() * log_policy).sum(-1)
        parts = ((weight * t1).sum(-1), (weight * t2).sum(-1), anchor)
        return tuple(self.flat(part.mean(), keep=True) for part in parts)  # type: ignore[return-value]

    def flat(self, value: Tensor, *, keep: bool = False) -> Tensor:
        """Gradient with respect to the policy's parameters as one vector."""
        parameters = self.policy.parameters
        found = torch.autograd.grad(value, parameters, retain_graph=keep, create_graph=keep)
        return torch.cat([g.flatten() for g in found])

    def largest_eigenvalue(self) -> float:
        """Largest eigenvalue of the Hessian of the objective."""
        gradient = self.flat(self.objective(), keep=True)
        return lanczos(lambda v: self.flat(gradient @ v, keep=True).detach(), len(gradient))


def lanczos(product: Any, size: int, iterations: int = ITERATIONS) -> float:
    """Largest eigenvalue of a symmetric matrix from its products with vectors.

    Args:
        product: Function from v to A v, both [size].
        size: Number of rows of A.
        iterations: Size of the Krylov space; all vectors are kept orthogonal.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(size, generator=generator, dtype=torch.float64)
    basis, projected = [start / start.norm()], []
    for _ in range(min(iterations, size)):
        image = product(basis[-1])
        space = torch.stack(basis)
        projected.append(torch.cat([space @ image, image.new_zeros(iterations + 1 - len(space))]))
        for _ in range(2):  # once is not enough in floating point
            image = image - space.T @ (space @ image)
        if image.norm() < 1e-10:
            break
        basis.append(image / image.norm())
    count = len(projected)
    matrix = torch.stack([column[:count] for column in projected])
    upper = matrix.tril() + matrix.tril(-1).T
    return float(torch.linalg.eigvalsh(upper)[-1])


def problem(seed: int, gamma: float, beta: float = BETA) -> Enumerated:
    """Problem with a random reference and random hidden rewards, of standard deviation 2."""
    generator = torch.Generator().manual_seed(seed_for(seed, "enumerated"))
    count = TOKENS**PLACES
    reward = 2 * torch.randn(len(PROMPTS), count, generator=generator, dtype=torch.float64)
    models = [transformer(seed) for _ in range(2)]
    completions = torch.tensor(list(itertools.product(range(TOKENS), repeat=PLACES)))
    preference = torch.sigmoid(reward[:, :, None] - reward[:, None, :])
    return Enumerated(*models, preference, completions, beta, gamma)


def transformer(seed: int) -> LanguageModel:
    """GPT-2 of one block, eight units wide, in float64; equal seeds give equal models."""
    config = GPT2Config(
        vocab_size=TOKENS,
        n_positions=PROMPT + PLACES,
        n_embd=8,
        n_layer=1,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",  # type: ignore[call-arg]
    )
    with torch.random.fork_rng(devices=[]):
        module = GPT2LMHeadModel(config).double()
    initialise(module, torch.Generator().manual_seed(seed_for(seed, "transformer")))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SHARPNESS)
    text: Any = SimpleNamespace(size=TOKENS, end=None)
    return LanguageModel(module, text)


def path(seed: int, gamma: float) -> list[tuple[int, float, float, float]]:
    """Step, objective, KL(pi_ref || pi_theta) and largest eigenvalue along gradient ascent."""
    one, rows = problem(seed, gamma), []
    for step in range(STEPS + 1):
        value = one.objective()
        if step % EVERY == 0:
            with torch.no_grad():
                reference, policy = (one.log_policy(m) for m in (one.reference, one.policy))
                divergence = (reference.exp() * (reference - policy)).sum(-1).mean()
            rows.append((step, value.item(), float(divergence), one.largest_eigenvalue()))
        with torch.no_grad():
            moved = one.flat(value)
            at = 0
            for parameter in one.policy.parameters:
                count = parameter.numel()
                parameter.add_(RATE * moved[at : at + count].view_as(parameter))
                at += count
    return rows


def main() -> None:
    """Prints a table: a row per weight of the anchor and step, means over the seeds."""
    print("| gamma | step | objective | KL(ref, policy) | largest eigenvalue: mean (min, max) |")
    print("|---:|---:|---:|---:|---:|")
    for gamma in GAMMAS:
        rows = torch.tensor([path(seed, gamma) for seed in range(SEEDS)])
        for step, value, divergence, top in rows.mean(0).tolist():
            of_step = rows[:, int(step) // EVERY, 3]
            print(
                f"| {gamma:g} | {step:.0f} | {value:.4f} | {divergence:.3f} | {top:.3f} "
                f"({of_step.min():.3f}, {of_step.max():.3f}) |"
            )


if __name__ == "__main__":
    sys.exit(main())
