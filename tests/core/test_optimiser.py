"""Adam with inactive members."""

from __future__ import annotations

import torch

from mujoco_sail.core.optimiser import MemberAdam, project
from mujoco_sail.core.streams import Streams


def test_an_inactive_member_keeps_parameters_moments_and_step_count() -> None:
    device = torch.device("cpu")
    ours = torch.zeros(2, 3)
    adam = MemberAdam([ours], 2, 0.1)
    reference = torch.nn.Parameter(torch.zeros(3))
    library = torch.optim.Adam([reference], 0.1)
    draws = Streams([0], "gradients", device).normal(4, 3)[0]
    for step, gradient in enumerate(draws):
        adam.step([torch.stack([gradient, gradient])], active=[True, step in (1, 3)])
        if step in (1, 3):
            reference.grad = gradient
            library.step()
    torch.testing.assert_close(ours[1], reference.detach())
    assert not torch.equal(ours[0], ours[1])


def test_a_projection_ends_on_the_ball_around_the_reference_and_moves_nothing_inside() -> None:
    centre = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    far = [torch.tensor([4.0, 2.0]), torch.tensor([[7.0]])]  # distance 5
    project(far, centre, 2.5)
    assert [part.tolist() for part in far] == [[2.5, 2.0], [[5.0]]]
    project(far, centre, 2.6)
    assert [part.tolist() for part in far] == [[2.5, 2.0], [[5.0]]]
