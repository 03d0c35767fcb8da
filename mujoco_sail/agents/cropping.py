"""Temporal cropping with many crops per pair: base class of QPA and PoLiCER.

The reward is fitted to random crops of the labelled segments instead of whole segments.

Source: QPA (Hu et al. 2024, arXiv 2305.17400), its released script.
"""

from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.reward_model import Objective, margin
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import crops
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.recipes.settings import demand, setting
from mujoco_sail.recipes.task import MOST


@dataclass(frozen=True, kw_only=True)
class CroppingSettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    # tau: number of crops of each labelled pair in a batch; 0 for no cropping.
    crops_per_pair: int = setting(low=0, high=MOST)
    # Lengths of the shortest and the longest crop, relative to a segment.
    shortest_crop: float = setting(above=0, high=1, per_member=True)
    longest_crop: float = setting(above=0, high=1, per_member=True)

    def __post_init__(self) -> None:
        """Checks that the settings are consistent."""
        super().__post_init__()
        fits, longest = self.shortest_crop <= self.longest_crop, self.longest_crop
        demand(self, [("shortest_crop", fits, f"at most longest_crop = {longest}")])


class Cropping(SAIL):
    """PEBBLE whose reward is fitted to crops."""

    Settings = CroppingSettings
    settings: CroppingSettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.shortest_crop = self.per_member("shortest_crop")
        self.longest_crop = self.per_member("longest_crop")

    def reward_objective(self, session: Session) -> Objective:
        """Objective of SAIL with the likelihood of random crops."""
        whole = super().reward_objective(session)
        if not self.settings.crops_per_pair:
            return whole
        of_crops = partial(self.crop_likelihood, self.streams("crops", session.number))
        return replace(whole, likelihood=of_crops)

    def crop_likelihood(
        self, streams: Streams, rewards: Tensor, valid: Tensor, label: Tensor
    ) -> Tensor:
        """Mean of log P_nu(y) over random crops of each pair, a `reward_model.Likelihood`.

        A crop has the label of its pair. The rewards of all crops are those of the whole segments,
        so the networks are evaluated only once.
        """
        many = valid.unsqueeze(2).expand(-1, -1, self.settings.crops_per_pair, -1, -1, -1)
        seen = crops(many, self.shortest_crop, self.longest_crop, streams)
        margins = margin(rewards.unsqueeze(2), seen)  # [M, E, tau, B]
        return log_likelihood(margins, label.unsqueeze(2)).mean(2)
