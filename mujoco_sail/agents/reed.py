"""REED: PEBBLE whose reward networks also learn to predict representations of next states.

    z_sa = last hidden layer of r_nu at (s, a)
    z_s' = first hidden layer of r_nu at (s', 0)
    L    = -E[ cos( h(q(g(z_sa))), stopgrad(q(z_s')) ) ]

over transitions (s, a, s') of the replay buffer, where g predicts z_s', q projects both
representations, and h is the predictor of SimSiam (Chen and He 2021, arXiv 2011.10566). Each reward
network has its own g, q and h. Before every label session, the hidden layers of the reward and
g, q, h descend L; the session then selects its queries and fits the reward as in PEBBLE.

Source: REED (Metcalf et al. 2023, arXiv 2402.17975), section 4, the variant with distillation. L is
read from the released code; the paper's equations were not available for comparison.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu
from typing_extensions import override

from mujoco_sail.agents.base import Runner
from mujoco_sail.agents.sail import SAIL, SAILSettings
from mujoco_sail.core.networks import StackedMLP
from mujoco_sail.core.optimiser import MemberAdam
from mujoco_sail.core.passes import SLOPE
from mujoco_sail.core.replay_buffer import Batch
from mujoco_sail.core.streams import Streams
from mujoco_sail.recipes.settings import setting
from mujoco_sail.recipes.task import MOST

EPSILON = 1e-5  # added to the variance in a batch normalisation, as in PyTorch


@dataclass(frozen=True, kw_only=True)
class REEDSettings(SAILSettings):
    """Hyperparameters that the protocol does not fix."""

    # Steps of Adam on L before each label session; 0 for none.
    consistency_updates: int = setting(low=0, per_member=True)
    consistency_batch_size: int = setting(low=2, high=MOST)  # transitions per network and step
    consistency_rate: float = setting(above=0)  # learning rate of these steps
    projection_units: int = setting(low=1, high=MOST)  # size of the outputs of q and h
    predictor_units: int = setting(low=1, high=MOST)  # size of the hidden layer of h


class REED(SAIL):
    """PEBBLE with a self-supervised objective of temporal consistency for its reward networks."""

    Settings = REEDSettings
    settings: REEDSettings

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.consistency_updates = self.per_member("consistency_updates")
        width, projection = self.task.reward_units, self.settings.projection_units
        sizes = {
            "transition": [width, width],  # g
            "projector": [width, projection],  # q
            "predictor_in": [projection, self.settings.predictor_units],  # first layer of h
            "predictor_out": [self.settings.predictor_units, projection],  # second layer of h
        }
        self.heads = {
            name: StackedMLP(of_head, self.settings.ensemble, self.streams(name), "relu")
            for name, of_head in sizes.items()
        }
        net = self.reward_model.net
        self._first, self._hidden = net.first(1), net.first(self.task.reward_layers)
        self.log_columns("next_state_similarity")

    @override
    def label_session(self, step: int) -> None:
        """Learns from transitions, then runs the label session of PEBBLE."""
        self.learn_transitions(step)
        super().label_session(step)

    def learn_transitions(self, step: int) -> None:
        """Takes steps of Adam on L from zero moments; logs -L of the last batch, [M]."""
        nets = (self._hidden, *self.heads.values())
        layers = [layer for net in nets for layer in net.layers]
        parameters = [p for net in nets for p in net.parameters]
        updates: list[int] = self.consistency_updates.tolist()
        adam = MemberAdam(layers, len(updates), self.settings.consistency_rate)
        streams = self.streams("transitions", step)
        last = torch.full_like(self.reward_model.updates, torch.nan)
        for done in range(max(updates)):
            value = self.similarity(self.transitions(streams))
            active = [done < count for count in updates]
            adam.step(torch.autograd.grad(-value.sum(), parameters), active)
            last = torch.where(done < self.consistency_updates, value.detach().mean(1), last)
        self.logged["next_state_similarity"] = last

    def transitions(self, streams: Streams) -> Batch:
        """Transitions from the whole replay buffer, [M, E, B, ...]; each network draws its own."""
        networks, size = self.settings.ensemble, self.settings.consistency_batch_size
        rows = self.replay_buffer.sample(streams.uniform(networks * size))
        return Batch.of(rows.view(len(rows), networks, size, -1), *self.runner.sizes)

    def similarity(self, batch: Batch) -> Tensor:
        """-L of every network, [M, E], from transitions [M, E, B, ...]."""
        heads = self.heads
        z_sa = leaky_relu(self._hidden(torch.cat([batch.observation, batch.action], -1)), SLOPE)
        narrow = heads["predictor_in"](heads["projector"](heads["transition"](z_sa)))
        # The normalisation removes this layer's bias, which is its offset afterwards instead.
        hidden = torch.relu(normalised(narrow) + heads["predictor_in"].parameters[1])
        predicted = heads["predictor_out"](hidden)
        with torch.no_grad():
            no_action = torch.zeros_like(batch.action)
            z_next = self._first(torch.cat([batch.next_observation, no_action], -1))
            target = heads["projector"](leaky_relu(z_next, SLOPE))
        return torch.cosine_similarity(predicted, target, -1).mean(-1)


def normalised(x: Tensor) -> Tensor:
    """Subtracts the mean over a batch and divides by the standard deviation, [..., B, units]."""
    centred = x - x.mean(-2, keepdim=True)
    return centred / (centred.square().mean(-2, keepdim=True) + EPSILON).sqrt()
