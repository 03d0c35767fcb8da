"""Online alignment of causal language models by DPO, SAIL and SAIL-RevKL (extra `language`).

A text task is an environment of the suite whose episodes have one step: the observation is a prompt
and the action a completion. So the suite needs no second harness: recipes, label budget, teachers,
evaluation, result files, resuming, tables and figures are those of all tasks. What a text task has
of its own are keys of its recipe (`task`), an environment (`text`) and agents that own a
language model (`alignment`). Recipes name these classes; no other subpackage imports this one.
"""
