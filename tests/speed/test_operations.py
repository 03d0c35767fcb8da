"""Operations counted by `mujoco-sail speed` equal those executed."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.runs import MakeRun
from helpers.tiny import CPU, tiny_task
from torch.utils.flop_counter import FlopCounterMode

from mujoco_sail.agents.sac import CRITICS
from mujoco_sail.speed import roofline
from mujoco_sail.training.forecast import update_operations


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_count_equals_the_operations_of_all_matrix_products_of_an_update(
    make_run: MakeRun, layers: int
) -> None:
    """Exactly, since the counter sees every product that PyTorch executes."""
    run = make_run([("sac", 0), ("sac", 1), ("sac", 2)], tiny_task(hidden_layers=layers))
    agent: Any = run.members[0].spec.agent(run)
    agent.train()
    with FlopCounterMode(display=False) as counter:
        agent.update()
    assert counter.get_total_flops() == 3 * update_operations(run.task, run.sizes)


def test_the_middle_layers_are_sixteen_products(make_run: MakeRun) -> None:
    """An additional layer gives sixteen products; first and last layers do not change."""
    counts = []
    for layers in (2, 3):
        task = tiny_task(hidden_layers=layers)
        counts.append(update_operations(task, (17, 6)))
    assert counts[1] - counts[0] == 16 * 2 * task.batch_size * task.hidden_units**2


@pytest.mark.parametrize("way", roofline.PRODUCT_CALLS)
def test_every_product_call_does_the_stated_number_of_operations(
    way: roofline.ProductCall,
) -> None:
    task = tiny_task()
    call = roofline.middle_product(task, 3, CPU, way)
    with FlopCounterMode(display=False) as counter:
        call()
    assert counter.get_total_flops() == roofline.product_operations(task, 3)
    assert counter.get_total_flops() == 3 * CRITICS * 2 * task.batch_size * task.hidden_units**2
