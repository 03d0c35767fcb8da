"""Warning of `run` and `report` if T2 is negligible; without PyTorch, which reports do not need.

T2 is SAIL's gradient through the sampling distribution, see `agents.sail`.
"""

from collections.abc import Sequence

NEGLIGIBLE = 0.01  # fraction of the reward's gradient


def negligible_t2(name: str, shares: Sequence[float]) -> list[str]:
    """One line about the runs whose T2 is negligible; empty if there are none.

    Args:
        name: Name of the agent.
        shares: For each run with T2, the largest |T2| / |T1| of all fits.
    """
    below = [share for share in shares if share < NEGLIGIBLE]
    if not below:
        return []
    runs = f"{len(below)} run{'s' if len(below) > 1 else ''}"
    if not max(below):
        return [f"{name}: T2 was 0 in every fit of {runs}, as with lambda = 0"]
    return [
        f"{name}: T2 stayed below {NEGLIGIBLE:.0%} of the reward's gradient in every fit of {runs} "
        f"(at most {max(below):.2%}), which hardly differ from lambda = 0"
    ]
