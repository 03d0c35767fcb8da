"""Benchmarks of preference-based reinforcement learning in continuous control.

Names of tensor axes in all docstrings:

    M   members of a stack (a member is one agent specification with one seed)
    m   members of a slice of a stack
    E   networks of a reward ensemble
    C   critics
    G   networks per member in a stack of networks
    B   transitions or pairs of a batch
    P   pairs of segments
    T   steps of a segment
    O   size of an observation
    A   size of an action
    S   networks of a stack of networks, over all members
    N   transitions of a replay buffer
    K   episodes of an evaluation
"""

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mujoco_sail.interface import (
        Comparison,
        Results,
        TrainingError,
        UserError,
        compare,
        read_results,
        train,
    )

__all__ = [
    "Comparison",
    "Results",
    "TrainingError",
    "UserError",
    "__version__",
    "compare",
    "read_results",
    "train",
]
__version__ = "0.1.0"

# By default, on AMD processors, MKL selects a kernel by the alignment of the data, so that the last
# bits of a member would depend on its index in the stack. MKL reads the variable once, at its first
# computation. Child processes inherit it.
if not os.environ.get("MKL_CBWR"):
    os.environ["MKL_CBWR"] = "AUTO"
    if "torch" in sys.modules:
        from mujoco_sail.core import products

        if products.alignment_matters():
            warnings.warn(
                "PyTorch computed before mujoco_sail was imported, too late for MKL_CBWR=AUTO: the "
                "last bits of results may depend on the stack's size; import mujoco_sail first",
                RuntimeWarning,
                stacklevel=2,
            )


if not TYPE_CHECKING:  # a type checker would accept any name of the package

    def __getattr__(name: str) -> Any:
        """Imports the Python interface, which imports pandas, when one of its names is used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from mujoco_sail import interface  # noqa: PLC0415

        return getattr(interface, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
