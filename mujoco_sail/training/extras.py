"""What runs leave beside their own files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extras:
    """Options of `mujoco-sail run` that no result depends on.

    Attributes:
        keep_preferences: Whether a complete run keeps its labelled pairs, `preferences.h5`.
        track: Trackers, some of `results.tracking.TRACKERS`.
    """

    keep_preferences: bool = False
    track: tuple[str, ...] = ()


NO_EXTRAS = Extras()
