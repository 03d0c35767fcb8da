"""Agents: one module per class, which also states its loss."""
