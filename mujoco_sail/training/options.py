"""Options of `mujoco-sail run` that no result depends on, but for its rounding.

The command line imports them before PyTorch, so that `--help` and mistakes answer at once.
"""

from dataclasses import dataclass

from mujoco_sail.results import tracking
from mujoco_sail.system import packages


@dataclass(frozen=True)
class Extras:
    """Files that runs write beside their results; no result depends on them.

    Attributes:
        keep_preferences: Whether a complete run keeps its labelled pairs, `preferences.h5`.
        track: Trackers, some of `results.tracking.TRACKERS`.
    """

    keep_preferences: bool = False
    track: tuple[str, ...] = ()

    def check(self) -> None:
        """Checks that the packages that the options need are installed.

        Raises:
            UserError: A package is not installed.
        """
        tracking.check(self.track)
        if self.keep_preferences:
            packages.load("h5py", "--keep-preferences")


NO_EXTRAS = Extras()
DEVICES = ("auto", "cpu", "cuda")  # "auto" is CUDA where there is a GPU
