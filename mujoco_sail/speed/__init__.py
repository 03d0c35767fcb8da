"""How fast the core is on this machine, beside Stable-Baselines3 and beside the matrix product."""
