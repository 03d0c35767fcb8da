"""SAIL and SAIL-RevKL for log-linear policies: projected stochastic gradient ascent.

    grad J_g = T1 + T2 - gamma grad KL
    T1 = E[ grad log sigmoid(beta (h(y_w) - h(y_l))) ]                        the DPO gradient
    T2 = E[ (log sigmoid(...) - b) grad (log pi(y1|x) + log pi(y2|x)) ]       the policy's score
    - grad KL(pi_ref || pi_theta) = E_{y ~ pi_ref}[ grad log pi_theta(y|x) ]  the anchor

with y1, y2 ~ pi_theta(.|x), labels by the oracle, and b the leave-one-out mean of the batch.

Sources: SAIL (arXiv 2406.15567), SAIL-RevKL (arXiv 2606.31524).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mujoco_sail.core.objectives import leave_one_out, log_likelihood, t1_t2_surrogates
from mujoco_sail.theory.problem import Problem, project

DRAWS = 5  # uniform numbers per preference: prompt, two responses, label, anchor


@dataclass(frozen=True)
class Preferences:
    """Labelled pairs and samples from the reference policy, [S, N, B] each.

    Attributes:
        first: Index of (x, y1) among the P * K prompt-response pairs.
        second: Index of (x, y2), of the same prompt.
        label: 1 where the oracle prefers y1, else 0.
        anchor: Index of (x, y) with y ~ pi_ref(.|x).
    """

    first: Tensor
    second: Tensor
    label: Tensor
    anchor: Tensor


class DirectSail:
    """Log-linear policy trained on preferences between its own responses.

    Args:
        problem: S problems.
        gamma: Weight of the anchor of each of N runs, [N]; 0 is SAIL.
        baseline: Whether T2 has its leave-one-out baseline.

    Attributes:
        theta: Parameters, [S, N, D]; initially those of the reference policy.
    """

    def __init__(self, problem: Problem, gamma: Tensor, baseline: bool = True) -> None:
        self.problem = problem
        self.gamma = gamma
        self.baseline = baseline
        self.theta = problem.origin[:, None].expand(-1, len(gamma), -1).clone()

    def ask(self, uniform: Tensor) -> Preferences:
        """Draws prompts, responses of the current policy, labels and reference responses.

        Args:
            uniform: Draws from [0, 1), [S, N or 1, B, 5]; with 1, all N runs share them.
        """
        problem, runs = self.problem, self.theta.shape[1]
        prompts, responses = problem.reference.shape[1:]
        shape = (len(self.theta), runs, uniform.shape[-2], DRAWS)
        for_prompt, for_first, for_second, for_label, for_anchor = uniform.expand(shape).unbind(-1)
        prompt = (for_prompt * prompts).floor()

        policy = problem.log_policy(self.theta)
        reference = problem.reference[:, None].expand_as(policy)
        first, second = _respond(policy, prompt, for_first), _respond(policy, prompt, for_second)
        anchor = _respond(reference, prompt, for_anchor)

        chances = problem.preference.flatten(1)[:, None].expand(-1, runs, -1)
        chance = chances.gather(-1, first * responses + second % responses)
        return Preferences(first, second, (for_label < chance).to(chance.dtype), anchor)

    def gradient(self, data: Preferences) -> Tensor:
        """Estimates grad J_g at theta, [S, N, D]."""
        theta = self.theta.detach().requires_grad_()
        log_policy = self.problem.log_policy(theta).flatten(-2)
        h = log_policy - self.problem.reference.flatten(-2)[:, None]
        margin = self.problem.beta * (h.gather(-1, data.first) - h.gather(-1, data.second))
        score = log_policy.gather(-1, data.first) + log_policy.gather(-1, data.second)

        log_p = log_likelihood(margin, data.label).detach()
        baseline = leave_one_out(log_p) if self.baseline else torch.zeros_like(log_p)
        t1, t2 = t1_t2_surrogates(margin, data.label, score, baseline)
        anchor = self.gamma[:, None] * log_policy.gather(-1, data.anchor)
        (gradient,) = torch.autograd.grad((t1 + t2 + anchor).mean(-1).sum(), theta)
        return gradient

    def update(self, uniform: Tensor, rate: Tensor) -> None:
        """Takes a step of projected stochastic gradient ascent.

        Args:
            uniform: As for `ask`.
            rate: Step size of each run, broadcast to [S, N].
        """
        gradient = self.gradient(self.ask(uniform))
        self.theta = project(self.theta + rate[..., None] * gradient, self.problem.radius)


def _respond(log_policy: Tensor, prompt: Tensor, uniform: Tensor) -> Tensor:
    """Samples responses to given prompts by inversion of the distribution function.

    p is added to the distribution function of prompt p, so that those of all prompts form one
    increasing sequence, in which a single search suffices.

    Args:
        log_policy: Log probabilities, [S, N, P, K].
        prompt: Prompts, integers as floats, [S, N, B].
        uniform: Draws from [0, 1) in single precision, [S, N, B].

    Returns:
        Index of (x, y) among the P * K prompt-response pairs, [S, N, B].
    """
    rising = log_policy.exp().cumsum(-1)
    rising = rising / rising[..., -1:]
    rising = rising + torch.arange(rising.shape[-2])[:, None]
    return torch.searchsorted(rising.flatten(-2), prompt + uniform, right=True)
