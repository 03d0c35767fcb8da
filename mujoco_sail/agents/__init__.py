"""Agents: one module per class, each with its whole loss in one file."""
