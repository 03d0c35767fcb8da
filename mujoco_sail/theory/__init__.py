"""SAIL and SAIL-RevKL on a problem small enough to enumerate: every claim becomes a number.

Axis names: S problems (one per seed), N points, starts or runs of each problem, P prompts,
K responses, D features, B sampled pairs. Of decision problems of several steps: C conditions,
H steps, Z states, A actions, D = Z A rewards, V vectors of visit counts, N pairs of them, E rewards
of an ensemble.
"""
