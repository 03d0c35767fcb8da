"""Options of `mujoco-sail run` that no result depends on, but for its rounding."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extras:
    """What runs leave beside their own files.

    Attributes:
        keep_preferences: Whether a complete run keeps its labelled pairs, `preferences.h5`.
        track: Trackers, some of `results.tracking.TRACKERS`.
    """

    keep_preferences: bool = False
    track: tuple[str, ...] = ()


NO_EXTRAS = Extras()
DEVICES = ("auto", "cpu", "cuda")  # "auto" is CUDA where there is a GPU
