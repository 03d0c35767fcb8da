"""How many operations learning takes."""

from mujoco_sail.recipes.task import Task


def update_operations(task: Task, sizes: tuple[int, int]) -> int:
    """Operations of SAC's matrix products, per member and update; a multiply-add counts as two.

    A layer's forward pass, the gradient of its weights and the gradient of its input are one
    product each. The critic's step has the actor forward, both targets forward, both critics
    forward and backward; the actor's step the actor forward and backward, both critics forward
    and backward to the action only.

    Args:
        task: B transitions, hidden layers of H units.
        sizes: O and A.
    """
    observation, action = sizes
    batch, width = task.batch_size, task.hidden_units
    middle = 16 * (task.hidden_layers - 1) * width * width
    # Of the inputs only the actor's actions have a gradient.
    first = (8 * (observation + action) + 2 * action + 3 * observation) * width
    # The gradient through the critics' last layer, of one unit, is an outer product: no matmul.
    last = (8 * 1 + 4 * 2 * action) * width
    return 2 * batch * (middle + first + last)
