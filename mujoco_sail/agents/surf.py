"""SURF: PEBBLE with pseudo-labels from confident predictions, and temporal cropping.

    loss = CE(labelled) + weight 1/(mu B) sum 1[ P_nu(sigma_k > sigma_-k) > tau ] CE(k)

over mu B unlabelled pairs, where k in {1, 2} is the segment that a network predicts to be
preferred, -k the other. Both cross-entropies are computed on cropped segments, the prediction on
whole segments. Each network uses its own pseudo-labels, as in the released code.

Source: SURF (Park et al. 2022, arXiv 2203.10050), section 4.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.reward_model import Likelihood, Objective, margin
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.objectives import log_likelihood
from mujoco_sail.core.products import memberwise
from mujoco_sail.core.streams import Streams
from mujoco_sail.preferences.pairs import Pairs, crops
from mujoco_sail.preferences.sessions import Session
from mujoco_sail.recipes.settings import setting
from mujoco_sail.recipes.task import MOST


@dataclass(frozen=True, kw_only=True)
class SURFSettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    unlabelled_weight: float = setting(low=0, per_member=True)  # the paper's lambda
    unlabelled_ratio: int = setting(low=1, high=MOST)  # mu, unlabelled pairs per labelled one
    confidence: float = setting(low=0.5, below=1, per_member=True)  # tau
    # Length of the shortest crop relative to a segment; 1 for no cropping.
    shortest_crop: float = setting(above=0, high=1, per_member=True)


class SURF(SAIL):
    """PEBBLE with pseudo-labels and temporal cropping."""

    Settings = SURFSettings
    settings: SURFSettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.unlabelled_weight = self.per_member("unlabelled_weight")
        self.shortest_crop = self.per_member("shortest_crop")
        # P > tau means R_nu(sigma_k) - R_nu(sigma_-k) > logit(tau).
        self.sure_margin = memberwise(torch.logit, self.per_member("confidence")).view(-1, 1, 1)
        self.log_columns("sure_predictions")

    def reward_objective(self, session: Session) -> Objective:
        """Negative of the loss in the module docstring."""
        of_crops = partial(self.crop_likelihood, self.streams("crops", session.number))
        unlabelled = self.streams("unlabelled pairs", session.number)

        def of_pseudo_labels(labelled: int) -> Tensor:
            pairs = self.unlabelled(self.settings.unlabelled_ratio * labelled, unlabelled)
            log_p = self.pseudo_log_likelihood(pairs, of_crops)
            return self.unlabelled_weight.unsqueeze(1) * log_p.mean(-1)

        of_labels = replace(super().reward_objective(session), likelihood=of_crops)
        return of_labels.plus(of_pseudo_labels)

    def crop_likelihood(
        self, streams: Streams, rewards: Tensor, valid: Tensor, label: Tensor
    ) -> Tensor:
        """Log P_nu(y) of a random crop of each segment, a `reward_model.Likelihood`."""
        whole = torch.ones_like(self.shortest_crop)
        left = crops(valid, self.shortest_crop, whole, streams)
        return log_likelihood(margin(rewards, left), label)

    def fit_reward(self, session: Session) -> None:
        """Fits the reward; logs the fraction of confident predictions for new pairs, [M]."""
        super().fit_reward(session)
        count = self.task.labels_per_session * self.task.candidates_per_label
        fresh = self.unlabelled(count, self.streams("sure", session.number))
        sure, _ = self.pseudo_labels(self.reward_model.margin(fresh))
        self.logged["sure_predictions"] = sure.mean((1, 2))

    def unlabelled(self, count: int, streams: Streams) -> Pairs:
        """Pairs drawn uniformly from the query window."""
        return Pairs.drawn(self.replay_buffer, streams, count, self.task.segment_steps)

    def pseudo_log_likelihood(self, pairs: Pairs, of_crops: Likelihood) -> Tensor:
        """Log P_nu(k) of cropped segments where a network is confident, else 0, [M, E, P]."""
        rewards = self.reward_model.rewards(pairs.inputs.unsqueeze(1))  # [M, E, P, 2, T]
        valid = pairs.valid.unsqueeze(1).expand_as(rewards)
        sure, label = self.pseudo_labels(margin(rewards.detach(), valid))
        return sure * of_crops(rewards, valid, label)

    def pseudo_labels(self, margin: Tensor) -> tuple[Tensor, Tensor]:
        """Mask of confident predictions, and their pseudo-labels.

        Args:
            margin: R_nu(sigma_1) - R_nu(sigma_2) of whole segments, [M, E, P].

        Returns:
            1 where the prediction is confident, and 1 where the first segment is preferred, both
            [M, E, P].
        """
        return (margin.abs() > self.sure_margin).to(margin.dtype), (margin > 0).to(margin.dtype)
