"""The training loop, and who executes it."""
