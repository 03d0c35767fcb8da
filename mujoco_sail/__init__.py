"""Benchmarks of learning from preferences in continuous control.

Axis names used by every docstring of the package: M members (one agent entry with one
seed), E reward ensemble, C critics, B batch, P pairs of segments, T steps of a segment,
O observation, A action, N transitions, K episodes of an evaluation.
"""

__version__ = "0.1.0"
