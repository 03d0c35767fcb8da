"""Synthetic and forged policies."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from mujoco_sail.policies.policy import About, Policy


def policy_of(*sizes: int, activation: Any = "relu", squash: Any = "tanh") -> Policy:
    random = np.random.default_rng(0)
    weights = [
        random.normal(size=(out, into)).astype(np.float32)
        for into, out in itertools.pairwise(sizes)
    ]
    biases = [random.normal(size=size).astype(np.float32) for size in sizes[1:]]
    about = About(env="hopper", id="Hopper-v5", protocol="quick", agent="sail", seed=3, step=9)
    return Policy(weights, biases, activation, squash, about)


def forge(pair: Path, data: bytes | None = None, old: str = "", new: str | bytes = "") -> None:
    """Changes the content of a pair of files and its digest."""
    told, weights = Path(f"{pair}.toml"), Path(f"{pair}.safetensors")
    text = told.read_bytes().split(b"\n", 1)[1]
    assert old.encode() in text
    text = text.replace(old.encode(), new.encode() if isinstance(new, str) else new)
    data = weights.read_bytes() if data is None else data
    weights.write_bytes(data)
    seal = hashlib.sha256(text + data).hexdigest()
    told.write_bytes(f'sha256 = "{seal}"\n'.encode() + text)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
