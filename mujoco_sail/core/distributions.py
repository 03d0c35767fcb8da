"""The squashed Gaussian policy of a stack."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mujoco_sail.core.memberwise import memberwise


class LogStd(NamedTuple):
    """How a network's output becomes a log standard deviation in [low, high].

    Attributes:
        low: Smallest.
        high: Largest.
        form: "tanh" squashes the output (B-Pref), so that an untrained policy lies in the middle;
            "clamp" cuts it off (Stable-Baselines3), so that it begins near 0.
    """

    low: float
    high: float
    form: Literal["tanh", "clamp"]

    def __call__(self, raw: Tensor) -> Tensor:
        """The log-std of an output of the same shape."""
        if self.form == "clamp":
            return raw.clamp(self.low, self.high)
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * torch.tanh(raw)

    def gradient(self, raw: Tensor, of: Tensor) -> Tensor:
        """Gradient with respect to the output, from that with respect to the log-std."""
        if self.form == "clamp":
            return of * ((raw >= self.low) & (raw <= self.high))
        squashed = torch.tanh(raw)
        return of * (0.5 * (self.high - self.low) * (1 - squashed * squashed))


class SquashedGaussian(NamedTuple):
    """a = tanh(u), u ~ N(mean, exp(log_std)^2).

    Source: SAC (Haarnoja et al. 2018, arXiv 1812.05905), appendix C.

    Attributes:
        mean: [..., A], of the base Gaussian.
        log_std: [..., A], of the base Gaussian.
    """

    mean: Tensor
    log_std: Tensor

    @classmethod
    def from_output(cls, output: Tensor, log_std: LogStd) -> "SquashedGaussian":
        """Reads a network's output, [..., 2A]."""
        mean, raw = output.chunk(2, dim=-1)
        return cls(mean, log_std(raw))

    def to_output(self, output: Tensor, log_std: LogStd) -> Tensor:
        """Gradient with respect to that output, where `self` is that of mean and log-std."""
        return torch.cat([self.mean, log_std.gradient(output.chunk(2, -1)[1], self.log_std)], -1)

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
        log_prob = 2 * (u + memberwise(softplus, -2 * u)) - self.log_std - 0.5 * noise * noise
        constant = noise.shape[-1] * (0.5 * math.log(2 * math.pi) + 2 * math.log(2))
        return torch.tanh(u), log_prob.sum(-1) - constant

    def soft_value_gradient(
        self, noise: Tensor, action: Tensor, grad_action: Tensor, alpha: Tensor
    ) -> "SquashedGaussian":
        """Gradient of alpha log pi(a|s) - Q(s, a) with respect to mean and log-std.

        Args:
            noise: Of the sample, [..., A].
            action: The sample, a = tanh(u), u = mean + exp(log_std) noise.
            grad_action: Gradient of Q with respect to the action, [..., A].
            alpha: Temperature, broadcast to [..., A].
        """
        # d log pi / du = 2 tanh(u), d log pi / d log_std = -1 at constant u.
        grad_u = alpha * 2 * action - grad_action * (1 - action * action)
        return SquashedGaussian(grad_u, grad_u * noise * torch.exp(self.log_std) - alpha)


def standard_normals(uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal samples, [..., n], from uniform ones in [0, 1), [..., 2n].

    Source: Box and Muller 1958.
    """
    first, second = uniform.chunk(2, -1)
    radius, angle = torch.sqrt(-2 * torch.log(1 - first)), 2 * math.pi * second
    return radius * torch.cos(angle), radius * torch.sin(angle)
