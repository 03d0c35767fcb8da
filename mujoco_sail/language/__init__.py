"""Online alignment of causal language models by DPO, SAIL and SAIL-RevKL (extra `language`).

A text task is an environment of the suite whose episodes have one step: the observation is a prompt
and the action a completion. So there is no second harness: a text task has keys of its recipe
(`task`), an environment (`text`) and agents with a language model (`alignment`) of its own, and all
else is that of all tasks. Recipes name these classes; no other subpackage imports this one.
"""
