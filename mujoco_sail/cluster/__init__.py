"""A grid of environments, agents and seeds on a Ray cluster."""
