"""What `run` and `report` say where T2 hardly acts; without PyTorch, which a report does not need.

T2 is SAIL's gradient through the sampling distribution, see `agents.sail`.
"""

from collections.abc import Sequence

HARDLY = 0.01  # of the reward's gradient


def hardly_acts(name: str, shares: Sequence[float]) -> list[str]:
    """A line about the runs whose T2 hardly acts; none if there are none.

    Args:
        name: Of their agent.
        shares: Of each run with T2, the largest share of T1's gradient in any fit.
    """
    below = [share for share in shares if share < HARDLY]
    if not below:
        return []
    return [
        f"{name}: T2 stayed below {HARDLY:.0%} of the reward's gradient in every fit of "
        f"{len(below)} runs (at most {max(below):.2%}); they hardly differ from lambda = 0"
    ]
