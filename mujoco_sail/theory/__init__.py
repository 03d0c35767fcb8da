"""Exact test of SAIL's and SAIL-RevKL's theory on problems small enough to enumerate.

Axis names: S problems (one per seed), N points, starts or runs of each problem, P prompts,
K responses, D features, B sampled pairs. For decision problems of several steps: C conditions,
H steps, Z states, A actions, D = Z A rewards, V vectors of visit counts, N pairs of them, E rewards
of an ensemble.
"""
