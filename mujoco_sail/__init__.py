"""Benchmarks of learning from preferences in continuous control.

Axis names used by every docstring of the package: M members (one agent entry with one
seed), E reward ensemble, C critics, B batch, P pairs of segments, T steps of a segment,
O observation, A action, N transitions, K episodes of an evaluation, G networks of a member in one
stack of networks; a lower-case m counts some of the M members.
"""

__version__ = "0.1.0"
