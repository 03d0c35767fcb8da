"""Default baseline and margin of equivalence, and the check of a margin."""

import math
from numbers import Real

from mujoco_sail.system.errors import UserError

BASELINE = "pebble"  # the agent that all others are compared with
MARGIN = 0.1  # of equivalence, a share of what `sac` gains on `random`


def check_margin(margin: float) -> None:
    """Refuses a margin within which nothing could be equivalent.

    Raises:
        UserError: It is no number above 0, or infinite.
    """
    if not (isinstance(margin, Real) and 0 < margin < math.inf):
        raise UserError(f"--margin {margin}: expected a number above 0, such as {MARGIN}")
