"""Benchmarks of learning from preferences in continuous control.

Axis names used by every docstring of the package: M members (one agent spec with one
seed), E reward ensemble, C critics, B batch, P pairs of segments, T steps of a segment,
O observation, A action, N transitions, K episodes of an evaluation, G networks of a member in one
stack of networks; a lower-case m counts some of the M members.
"""

import os
import sys
import warnings

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
