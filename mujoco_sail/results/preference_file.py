"""`preferences.h5`: all labelled pairs of a run, for offline learning."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from mujoco_sail.preferences.pairs import Pairs

NAME = "preferences.h5"


def encode(
    pairs: Pairs,
    labels: Tensor,
    asked: Sequence[tuple[int, int]],
    sizes: tuple[int, int],
    about: Mapping[str, Any],
) -> bytes:
    """Encodes the pairs of one run as an HDF5 file, described in docs/results.md.

    Equal arguments give equal bytes.

    Args:
        pairs: Pairs in the order in which they were labelled, [1, P, ...].
        labels: Labels, [1, P].
        asked: Step and session of each pair.
        sizes: O and A.
        about: Attributes of the file.
    """
    observation, action = torch.split(pairs.inputs[0].cpu(), list(sizes), -1)
    steps, sessions = np.array(asked, np.int64).reshape(-1, 2).T
    columns = {
        "observation": observation.numpy(),
        "action": action.numpy(),
        "reward": pairs.task_reward[0].cpu().numpy(),
        "valid": pairs.valid[0].cpu().numpy().astype(np.bool_),
        "label": labels[0].cpu().numpy(),
        "step": steps,
        "session": sessions,
    }
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs.update(about)
        for name, values in columns.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
    return memory.getvalue()
