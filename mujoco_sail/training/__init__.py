"""Training loop, worker processes and forecasts."""
