"""Speed benchmark: this package, Stable-Baselines3 and the matrix product on this machine."""
