"""Text tasks of tiny size."""

from __future__ import annotations

from typing import Any

from helpers.command_line import overrides, without_workers
from mujoco_sail.cli import main
from mujoco_sail.recipes.load import load_task

TINY_TEXT = {
    "steps": 40,
    "session_every": 8,
    "labels": 16,
    "labels_per_session": 4,
    "evaluation_every": 20,
    "evaluation_episodes": 6,
    "log_every": 20,
    "replay_capacity": 40,
    "hidden_units": 16,
    "hidden_layers": 2,
    "heads": 2,
    "corpus_texts": 64,
    "corpus_epochs": 4,
    "batch_size": 16,
}
# All mechanisms act.
ALL = {"lambda": 1.0, "reverse_kl": 0.1, "offline": 0.25, "projection_radius": 0.05}


def text_task(env: str = "echo", teacher: str | None = None, **changes: Any) -> Any:
    return load_task(f"language/{env}", "quick", {**TINY_TEXT, **changes}, teacher)


def run_text(results: Any, agents: str, env: str = "language/echo", *more: str) -> int:
    """Runs a tiny benchmark and returns its exit code."""
    options = ["--env", env, "--agents", agents, "--seeds", "1", "--protocol", "quick"]
    with without_workers():
        return main(["run", *options, *overrides(TINY_TEXT), *more, "--results", str(results)])
