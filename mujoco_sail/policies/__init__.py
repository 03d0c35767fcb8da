"""Trained policies as files: export, load, watch."""

from mujoco_sail.policies.policy import About, Policy, export, load

__all__ = ["About", "Policy", "export", "load"]
