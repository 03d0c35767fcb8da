"""Benchmarks of learning from preferences in continuous control.

Axis names used by every docstring of the package: M members (one agent spec with one
seed), E reward ensemble, C critics, B batch, P pairs of segments, T steps of a segment,
O observation, A action, N transitions, K episodes of an evaluation, G networks of a member in one
stack of networks; a lower-case m counts some of the M members.
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

# Otherwise MKL chooses a kernel by the alignment of the data on AMD processors, and a member's last
# bits depend on its place in the stack. MKL reads the variable once, at its first computation;
# child processes inherit it.
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


if not TYPE_CHECKING:  # a type checker would take every name for one of the package

    def __getattr__(name: str) -> Any:
        """Imports the Python interface, and pandas with it, when one of its names is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from mujoco_sail import interface  # noqa: PLC0415

        return getattr(interface, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
