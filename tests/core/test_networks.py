"""Stacked networks, and their passes without autograd."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.tiny import CPU, draw
from torch import Tensor

from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.passes import (
    SLOPE,
    Activation,
    Precision,
    forward,
    input_gradient,
    parameter_gradients,
)
from mujoco_sail.core.streams import Streams

MEMBERS, GROUPS, ROWS, SIZES = 3, 2, 5, [4, 8, 8, 2]


def make_stack(activation: Activation = "relu", sizes: list[int] = SIZES) -> StackedMLP:
    streams = Streams(list(range(MEMBERS)), "net", CPU)
    return StackedMLP(sizes, GROUPS, streams, activation)


def plain(net: StackedMLP, x: Tensor) -> Tensor:
    """Outputs of the networks, computed so that autograd can differentiate them."""
    output_gradient = 0.0 if net.activation == "relu" else SLOPE
    h = x
    for weight, bias in zip(net.parameters[::2], net.parameters[1::2], strict=True):
        z = h @ weight + bias
        h = torch.where(z > 0, z, output_gradient * z)
    return z


def passes(net: StackedMLP, x: Tensor, output_gradient: Tensor) -> list[Tensor]:
    """Outputs, gradients of the input's columns 1 and 2 and of all parameters."""
    shown = x.expand(MEMBERS, GROUPS, *x.shape[2:]).flatten(0, 1)
    out, inputs = forward(net.rounded(), shown, net.activation)
    passed = net.rounded(), inputs, output_gradient.flatten(0, 1)
    of_columns = input_gradient(*passed, slice(1, 3), net.activation)
    return [
        out.unflatten(0, (MEMBERS, GROUPS)),
        of_columns.unflatten(0, (MEMBERS, GROUPS)).sum(1),
        *[
            g.view(p.shape)
            for g, p in zip(
                parameter_gradients(*passed, net.activation), net.parameters, strict=True
            )
        ],
    ]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("sizes", [[4, 8, 2], SIZES, [4, 8, 8, 8, 1]], ids=len)
def test_every_gradient_equals_autograds(activation: Activation, sizes: list[int]) -> None:
    net = make_stack(activation, sizes)
    x = draw(MEMBERS, 1, ROWS, sizes[0]).requires_grad_()
    output_gradient = draw(MEMBERS, GROUPS, ROWS, sizes[-1])
    expected = plain(net, x)
    grad_x, *of_parameters = torch.autograd.grad(expected, [x, *net.parameters], output_gradient)

    out = net(x)
    torch.testing.assert_close(out, expected)
    of_function = torch.autograd.grad(out, [x, *net.parameters], output_gradient)
    torch.testing.assert_close(list(of_function), [grad_x, *of_parameters])
    torch.testing.assert_close(
        passes(net, x.detach(), output_gradient),
        [expected.detach(), grad_x[:, 0, :, 1:3], *of_parameters],
    )


@pytest.mark.parametrize("shared", [True, False])
def test_results_are_bitwise_independent_of_the_slices_of_members(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    net, results = make_stack("leaky_relu"), []
    x = draw(MEMBERS, 1 if shared else GROUPS, ROWS, SIZES[0]).requires_grad_()
    for cache in (1, 2 * GROUPS * ROWS * max(SIZES[1:-1]) * 4, 2**40):
        monkeypatch.setattr("mujoco_sail.core.passes.CACHE_BYTES", cache)
        out = net(x)
        with torch.no_grad():
            assert torch.equal(net(x), out)
        gradients = torch.autograd.grad(out.square().sum(), [x, *net.parameters])
        results.append((len(net.parts(x.expand(MEMBERS, GROUPS, *x.shape[2:]))), out, *gradients))
    counts, *tensors = zip(*results, strict=True)
    assert counts == (MEMBERS, math.ceil(MEMBERS / 2), 1)
    assert all(torch.equal(one, other) for one, *others in tensors for other in others)


@pytest.mark.parametrize("cache", [1, 2**40])
def test_active_members_have_the_same_bits_whoever_else_is_computed(
    monkeypatch: pytest.MonkeyPatch, cache: int
) -> None:
    monkeypatch.setattr("mujoco_sail.core.passes.CACHE_BYTES", cache)
    net, x = make_stack("leaky_relu"), draw(MEMBERS, 1, ROWS, SIZES[0]).requires_grad_()
    active = [member == 1 for member in range(MEMBERS)]
    results = []
    for some in ([True] * MEMBERS, active):
        with net.only(some):
            out = net(x)
            with torch.no_grad():
                assert torch.equal(net(x), out)
            gradients = torch.autograd.grad(out.square().sum(), [x, *net.parameters])
        results.append([out, *gradients])
    for whole, part in zip(*results, strict=True):
        assert torch.equal(whole[1], part[1])
        assert part[0].any() == (cache != 1)  # computed because it shares a slice
    assert net(x)[0].any()


def test_parameters_changed_before_the_backward_pass_are_an_error() -> None:
    net = make_stack()
    out = net(draw(MEMBERS, 1, ROWS, SIZES[0]))
    net.copy_from(net.frozen_copy())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_all_networks_have_the_same_cache_line_alignment() -> None:
    net = make_stack(sizes=[3, 5, 1])
    for layer in net.layers:
        starts = {network.data_ptr() % 64 for network in layer}
        assert len(starts) == 1
    assert net.largest().tolist() == [
        max(float(p[m].detach().abs().max()) for p in net.parameters) for m in range(MEMBERS)
    ]


def test_bfloat16_gradients_equal_float32_gradients_up_to_rounding() -> None:
    x, output_gradient, results = draw(MEMBERS, 1, 64, 30), draw(MEMBERS, GROUPS, 64, 1), []
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        streams = Streams(list(range(MEMBERS)), "net", CPU)
        net = StackedMLP([30, 64, 64, 1], GROUPS, streams, "relu", precision)
        of_function = torch.autograd.grad(net(x), net.parameters, output_gradient)
        results.append([*passes(net, x, output_gradient), *of_function])
    assert not torch.equal(results[0][0], results[1][0])
    for exact, rounded in zip(*results, strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.1 * exact.norm()
        # Rounding does not change the length along the exact gradient.
        assert abs((rounded * exact).sum() / exact.square().sum() - 1) < 8e-3


def test_a_stack_equals_its_networks_applied_separately() -> None:
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


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_layers_are_networks_on_the_same_memory(count: int) -> None:
    net, x = make_stack(), draw(MEMBERS, GROUPS, ROWS, 4)
    first = net.first(count)
    h = x
    for weight, bias in zip(net.parameters[::2][:count], net.parameters[1::2], strict=False):
        z = h @ weight + bias
        h = z.relu()
    torch.testing.assert_close(first(x), z)
    gradients = torch.autograd.grad(first(x).square().sum(), first.parameters)
    expected = torch.autograd.grad(z.square().sum(), net.parameters[: 2 * count])
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        net.flat.zero_()
    assert not first(x).any()
