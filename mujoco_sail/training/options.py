"""Options of `mujoco-sail run` that do not affect results; the device changes their rounding.

They are imported before PyTorch, so that `--help` and error messages appear quickly.
"""

from dataclasses import dataclass

from mujoco_sail.results import tracking
from mujoco_sail.system import packages


@dataclass(frozen=True)
class Extras:
    """Optional outputs of runs, which do not affect the results.

    Attributes:
        keep_preferences: Whether a complete run writes its labelled pairs to `preferences.h5`.
        track: Names of trackers, from `results.tracking.TRACKERS`.
    """

    keep_preferences: bool = False
    track: tuple[str, ...] = ()

    def check(self) -> None:
        """Checks that the required packages are installed.

        Raises:
            UserError: A package is not installed.
        """
        tracking.check(self.track)
        if self.keep_preferences:
            packages.load("h5py", "--keep-preferences")


NO_EXTRAS = Extras()
DEVICES = ("auto", "cpu", "cuda")  # "auto" is CUDA where there is a GPU
