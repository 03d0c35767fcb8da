"""The squashed Gaussian policy of a stack."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mujoco_sail.core.memberwise import memberwise


@dataclass(frozen=True)
class SquashedGaussian:
    """a = tanh(u), u ~ N(mean, exp(log_std)^2).

    Source: SAC (Haarnoja et al. 2018, arXiv 1812.05905), appendix C.

    Attributes:
        mean: [..., A], of the base Gaussian.
        log_std: [..., A], of the base Gaussian.
    """

    mean: Tensor
    log_std: Tensor

    @classmethod
    def from_output(cls, output: Tensor, low: float, high: float) -> "SquashedGaussian":
        """Reads a network's output, [..., 2A]; tanh keeps the log-std in [low, high]."""
        mean, raw = output.chunk(2, dim=-1)
        return cls(mean, 0.5 * (low + high) + 0.5 * (high - low) * torch.tanh(raw))

    def mode(self) -> Tensor:
        """The deterministic action, [..., A]."""
        return torch.tanh(self.mean)

    def action(self, noise: Tensor) -> Tensor:
        """A reparametrised sample, [..., A], from standard normal noise of that shape."""
        return torch.tanh(self.mean + torch.exp(self.log_std) * noise)

    def action_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample, [..., A], and its log-density, [...], equation 26."""
        u = self.mean + torch.exp(self.log_std) * noise
        # log N(u) = -noise^2 / 2 - log_std - log(2 pi) / 2, less log(1 - tanh(u)^2) =
        # 2 (log 2 - u - softplus(-2 u)), which does not cancel; constants apart.
        log_prob = 2 * (u + memberwise(softplus, -2 * u)) - self.log_std - 0.5 * noise**2
        constant = noise.shape[-1] * (0.5 * math.log(2 * math.pi) + 2 * math.log(2))
        return torch.tanh(u), log_prob.sum(-1) - constant
