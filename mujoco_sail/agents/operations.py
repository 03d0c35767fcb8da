"""Number of floating-point operations of an update."""

from mujoco_sail.recipes.task import Task


def update_operations(task: Task, sizes: tuple[int, int]) -> int:
    """Counts the operations in the matrix products of a SAC update of one member.

    A multiply-add counts as two operations.

    A layer's forward pass, the gradient of its weights and the gradient of its input are one
    product each. The critic step has a forward pass of the actor and of both targets, and a forward
    and backward pass of both critics. The actor step has a forward and backward pass of the actor
    and of both critics, for the latter with respect to the action only.

    Args:
        task: Batch size and hidden layers.
        sizes: O and A.
    """
    observation, action = sizes
    batch, width = task.batch_size, task.hidden_units
    middle = 16 * (task.hidden_layers - 1) * width * width
    # Among the inputs, only the actions of the actor need a gradient.
    first = (8 * (observation + action) + 2 * action + 3 * observation) * width
    # The input gradient of the critics' last layer, of one unit, is an outer product, no matmul.
    last = (8 * 1 + 4 * 2 * action) * width
    return 2 * batch * (middle + first + last)
