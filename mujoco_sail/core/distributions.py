"""Squashed Gaussian policies."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mujoco_sail.core.products import memberwise


class LogStd(NamedTuple):
    """Map from a network's output to a log standard deviation in [low, high].

    Attributes:
        low: Lower bound.
        high: Upper bound.
        form: "tanh" squashes the output (B-Pref): an untrained policy starts at the middle of the
            range. "clamp" clips the output (Stable-Baselines3): its log-std starts near 0.
    """

    low: float
    high: float
    form: Literal["tanh", "clamp"]

    def __call__(self, raw: Tensor) -> Tensor:
        """Log-std, of the same shape as the output."""
        if self.form == "clamp":
            return raw.clamp(self.low, self.high)
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * torch.tanh(raw)

    def gradient(self, raw: Tensor, grad: Tensor) -> Tensor:
        """Gradient with respect to the output, given the gradient with respect to the log-std."""
        if self.form == "clamp":
            return grad * ((raw >= self.low) & (raw <= self.high))
        squashed = torch.tanh(raw)
        return grad * (0.5 * (self.high - self.low) * (1 - squashed * squashed))


class GaussianGradient(NamedTuple):
    """Gradient with respect to the mean and the log-std of a Gaussian.

    Attributes:
        mean: Gradient with respect to the mean, [..., A].
        log_std: Gradient with respect to the log standard deviation, [..., A].
    """

    mean: Tensor
    log_std: Tensor

    def to_output(self, output: Tensor, log_std: LogStd) -> Tensor:
        """Gradient with respect to the network's output, [..., 2A]."""
        return torch.cat([self.mean, log_std.gradient(output.chunk(2, -1)[1], self.log_std)], -1)


class SquashedGaussian(NamedTuple):
    """Tanh-squashed diagonal Gaussian, a = tanh(u), u ~ N(mean, exp(log_std)^2).

    Source: SAC (Haarnoja et al. 2018, arXiv 1812.05905), appendix C.

    Attributes:
        mean: Mean of the base Gaussian, [..., A].
        log_std: Log standard deviation of the base Gaussian, [..., A].
    """

    mean: Tensor
    log_std: Tensor

    @classmethod
    def from_output(cls, output: Tensor, log_std: LogStd) -> "SquashedGaussian":
        """Distribution given by a network's output, [..., 2A]."""
        mean, raw = output.chunk(2, dim=-1)
        return cls(mean, log_std(raw))

    def mode(self) -> Tensor:
        """The deterministic action, [..., A]."""
        return torch.tanh(self.mean)

    def action(self, noise: Tensor) -> Tensor:
        """Reparametrised sample, [..., A], from standard normal noise of the same shape."""
        return torch.tanh(self.mean + torch.exp(self.log_std) * noise)

    def action_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Sample, [..., A], and its log-density, [...], equation 26."""
        u = self.mean + torch.exp(self.log_std) * noise
        # log N(u) - log(1 - tanh(u)^2), where log N(u) = -noise^2 / 2 - log_std - log(2 pi) / 2 and
        # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), the numerically stable form.
        # Constants are added at the end.
        log_prob = 2 * (u + memberwise(softplus, -2 * u)) - self.log_std - 0.5 * noise * noise
        constant = noise.shape[-1] * (0.5 * math.log(2 * math.pi) + 2 * math.log(2))
        return torch.tanh(u), log_prob.sum(-1) - constant

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density, [M, ...], of actions in (-1, 1), [M, ..., A], equation 26."""
        noise = (memberwise(torch.atanh, action) - self.mean) / torch.exp(self.log_std)
        log_prob = -0.5 * noise * noise - self.log_std - memberwise(torch.log1p, -action * action)
        return log_prob.sum(-1) - action.shape[-1] * 0.5 * math.log(2 * math.pi)

    def soft_value_gradient(
        self, noise: Tensor, action: Tensor, grad_action: Tensor, alpha: Tensor
    ) -> GaussianGradient:
        """Gradient of alpha log pi(a|s) - Q(s, a) with respect to mean and log-std.

        Args:
            noise: Noise of the sample, [..., A].
            action: The sample, a = tanh(u), u = mean + exp(log_std) noise.
            grad_action: Gradient of Q with respect to the action, [..., A].
            alpha: Temperature, broadcast to [..., A].
        """
        # d log pi / du = 2 tanh(u), d log pi / d log_std = -1 at constant u.
        grad_u = alpha * 2 * action - grad_action * (1 - action * action)
        return GaussianGradient(grad_u, grad_u * noise * torch.exp(self.log_std) - alpha)


def standard_normals(uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Box-Muller transform: uniform samples in [0, 1), [..., 2n], to two normal ones, [..., n].

    The two standard normal samples are independent.

    Source: Box and Muller 1958.
    """
    first, second = uniform.chunk(2, -1)
    radius, angle = torch.sqrt(-2 * torch.log(1 - first)), 2 * math.pi * second
    return radius * torch.cos(angle), radius * torch.sin(angle)
