"""The networks' written-out passes: their gradients, and that cutting the stack changes no bit."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import CPU, draw
from torch import Tensor

from mujoco_sail.core import networks
from mujoco_sail.core.activations import SLOPE, Activation
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.streams import Streams

MEMBERS, GROUPS, ROWS, SIZES = 3, 2, 5, [4, 8, 8, 2]
SMALL, LARGE = 1, 2**40  # bytes of cache: a part for each member, one part for all


def make_stack(activation: Activation = "relu", sizes: list[int] = SIZES) -> StackedMLP:
    streams = Streams(list(range(MEMBERS)), "net", CPU)
    return StackedMLP(sizes, GROUPS, streams, activation)


def plain(net: StackedMLP, x: Tensor) -> Tensor:
    """What the networks compute, for autograd to differentiate."""
    output_gradient = 0.0 if net.activation == "relu" else SLOPE
    h = x
    for weight, bias in zip(net.parameters[::2], net.parameters[1::2], strict=True):
        z = h @ weight + bias
        h = torch.where(z > 0, z, output_gradient * z)
    return z


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("cache", [SMALL, LARGE])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("sizes", [[4, 8, 2], SIZES, [4, 8, 8, 8, 1]], ids=len)
def test_every_gradient_is_that_of_autograd(
    monkeypatch: pytest.MonkeyPatch, cache: int, activation: Activation, sizes: list[int]
) -> None:
    monkeypatch.setattr(networks, "CACHE_BYTES", cache)
    net = make_stack(activation, sizes)
    x = draw(MEMBERS, 1, ROWS, sizes[0]).requires_grad_()
    target = draw(MEMBERS, GROUPS, ROWS, sizes[-1])
    expected = plain(net, x)
    loss = 0.5 * (expected - target).square().sum()
    of_x, *of_parameters = torch.autograd.grad(loss, [x, *net.parameters])

    out = net(x)
    torch.testing.assert_close(out, expected)
    of_function = torch.autograd.grad(out, [x, *net.parameters], (out - target).detach())
    torch.testing.assert_close(list(of_function), [of_x, *of_parameters])

    def output_gradient(out: Tensor, members: slice) -> Tensor:
        return out - target[members]

    out, gradients = net.parameter_gradients(x, output_gradient)
    torch.testing.assert_close([out, *gradients], [expected.detach(), *of_parameters])
    out, of_columns = net.input_gradient(x, output_gradient, slice(1, 3))
    torch.testing.assert_close([out, of_columns], [expected.detach(), of_x[:, 0, :, 1:3]])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_bit_depends_on_how_the_stack_is_cut(
    monkeypatch: pytest.MonkeyPatch, precision: networks.Precision
) -> None:
    x, results = draw(MEMBERS, 1, 256, 30), []
    for cache in (SMALL, LARGE):
        monkeypatch.setattr(networks, "CACHE_BYTES", cache)
        streams = Streams(list(range(MEMBERS)), "net", CPU)
        net = StackedMLP([30, 256, 256, 1], GROUPS, streams, "relu", precision)
        assert len(net.parts(256)) == (MEMBERS if cache == SMALL else 1)
        out, gradients = net.parameter_gradients(x, lambda q, _: q)
        results.append([out, *gradients, *net.input_gradient(x, lambda q, _: q, slice(24, None))])
        with torch.no_grad():
            results[-1].append(net(x))
    for one, other in zip(*results, strict=True):
        assert one.abs().max() > 0
        assert torch.equal(one, other)


@pytest.mark.parametrize("rows", [1, 7, 100_000])
def test_every_network_is_in_one_part_beside_those_of_its_member(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Two members of 2 networks, 8 wide, 7 rows and 4 bytes fit."""
    monkeypatch.setattr(networks, "CACHE_BYTES", 2 * 2 * 8 * 7 * 4)
    parts = make_stack().parts(rows)
    assert len(parts) == {1: 1, 7: 2, 100_000: 3}[rows]
    members = [m for part in parts for m in range(MEMBERS)[part.members]]
    assert members == list(range(MEMBERS))
    everything = range(MEMBERS * GROUPS)
    for part in parts:
        belonging = [n for n in everything if n // GROUPS in range(MEMBERS)[part.members]]
        assert list(everything[part.networks]) == belonging


def test_parameters_that_moved_before_the_way_back_are_noticed() -> None:
    net = make_stack()
    out = net(draw(MEMBERS, 1, ROWS, SIZES[0]))
    net.move_towards(net.frozen_copy(), 0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_bfloat16_gives_the_gradients_of_float32_but_for_rounding() -> None:
    x, output_gradient, results = draw(MEMBERS, 1, 64, 30), draw(MEMBERS, GROUPS, 64, 1), []
    precisions: tuple[networks.Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        streams = Streams(list(range(MEMBERS)), "net", CPU)
        net = StackedMLP([30, 64, 64, 1], GROUPS, streams, "relu", precision)
        out, gradients = net.parameter_gradients(x, lambda _, members: output_gradient[members])
        of_function = torch.autograd.grad(net(x), net.parameters, output_gradient)
        of_x = net.input_gradient(x, lambda _, members: output_gradient[members], slice(24, None))[
            1
        ]
        results.append([out, of_x, *gradients, *of_function])
    assert not torch.equal(results[0][0], results[1][0])
    for exact, rounded in zip(*results, strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.1 * exact.norm()
        # Rounding has no direction.
        assert abs((rounded * exact).sum() / exact.square().sum() - 1) < 8e-3


def test_a_stack_of_networks_is_each_network_by_itself() -> None:
    device = torch.device("cpu")
    stack = StackedMLP([4, 8, 8, 2], 3, Streams([0, 1], "net", device), "relu")
    x = Streams([0, 1], "x", device).normal(1, 5, 4)
    out = stack(x)
    assert out.shape == (2, 3, 5, 2)
    for m in range(2):
        for g in range(3):
            h = x[m, 0]
            for layer in range(3):
                weight, bias = stack.parameters[2 * layer][m, g], stack.parameters[2 * layer + 1]
                h = h @ weight + bias[m, g]
                h = torch.relu(h) if layer < 2 else h
            torch.testing.assert_close(out[m, g], h)
