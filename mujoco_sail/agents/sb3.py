"""Stable-Baselines3's SAC and PPO on the task reward, evaluated and logged like all agents.

Each member is a separate Stable-Baselines3 model with its own networks, buffer and random numbers.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn
from typing_extensions import override

from mujoco_sail.agents.base import Agent, Runner
from mujoco_sail.core.streams import seed_for
from mujoco_sail.environments.factory import make_env
from mujoco_sail.environments.wrappers import Env
from mujoco_sail.policies.policy import Activation, Policy, Squash
from mujoco_sail.recipes.settings import setting


class StableBaselines(Agent):
    """Base class of agents that train one Stable-Baselines3 model."""

    stackable = False
    own_environments = True
    resumable = False
    # Columns of training.csv and their keys in the library's logger.
    columns: ClassVar[dict[str, str]]
    activation: ClassVar[Activation]
    squash: ClassVar[Squash]

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.seed = seed_for(runner.seeds[0], "stable-baselines3") % 2**31
        self.model = self.make_model()
        self.model.set_logger(Logger(folder=None, output_formats=[]))

    @abstractmethod
    def make_model(self) -> BaseAlgorithm:
        """Creates the model and its training environment."""

    def environment(self) -> Env:
        """Creates the training environment."""
        return make_env(self.task, self.runner.seeds[0], "training")

    @abstractmethod
    def actor(self, policy: Any) -> list[nn.Module]:
        """Modules of the model's policy from observation to action, in order."""

    def train(self) -> None:
        """Trains with the library's `learn`."""
        # With this interval the library never clears its logger, so that the newest values remain.
        self.model.learn(self.task.steps, callback=_AfterStep(self), log_interval=self.task.steps)

    def policy(self, observation: Tensor) -> Tensor:
        """Deterministic actions of the model."""
        action, _ = self.model.predict(observation[0].cpu().numpy(), deterministic=True)
        return torch.as_tensor(action, device=self.device).unsqueeze(0)

    @override
    def health(self) -> dict[str, Tensor]:
        parameters = [p.detach().abs().max() for p in self.model.policy.parameters()]
        return {"a parameter of the policy": torch.stack(parameters).max().unsqueeze(0)}

    @override
    def export_policies(self, step: int) -> list[Policy]:
        parts = nn.Sequential(*self.actor(self.model.policy))
        layers = [(p.weight, p.bias) for p in parts.modules() if isinstance(p, nn.Linear)]
        return [self._make_policy(0, step, layers, self.activation, self.squash)]

    @override
    def metrics(self) -> dict[str, Tensor]:
        values = {"updates": float(self.model._n_updates)}
        for column, key in self.columns.items():
            values[column] = float(self.model.logger.name_to_value.get(key, torch.nan))
        return {name: torch.tensor([value]) for name, value in values.items()}


class _AfterStep(BaseCallback):
    """Callback that calls `Runner.after_step`, and stops at the last step of the task."""

    def __init__(self, agent: StableBaselines) -> None:
        super().__init__()
        self.agent = agent

    def _on_step(self) -> bool:
        self.agent.runner.after_step(self.num_timesteps, self.agent)
        return self.num_timesteps < self.agent.task.steps


@dataclass(frozen=True, kw_only=True)
class SB3SACSettings:
    """Hyperparameters that the protocol does not fix; named as in `mujoco_sail.agents.sac`."""

    discount: float = setting(low=0, below=1)
    tau: float = setting(above=0, high=1)
    target_every: int = setting(low=1)
    initial_temperature: float = setting(above=0)


class SB3SAC(StableBaselines):
    """Stable-Baselines3's SAC with the network size, batch size and learning rate of the task."""

    Settings = SB3SACSettings
    settings: SB3SACSettings
    columns: ClassVar[dict[str, str]] = {
        "critic_loss": "train/critic_loss",
        "actor_loss": "train/actor_loss",
        "temperature": "train/ent_coef",
    }
    activation = "relu"
    squash = "tanh"

    @override
    def make_model(self) -> BaseAlgorithm:
        return stable_baselines3.SAC(
            **self.arguments(),
            target_update_interval=self.settings.target_every,
            device=self.device,
        )

    def arguments(self) -> dict[str, Any]:
        """Arguments shared with other libraries that have Stable-Baselines3's interface."""
        task = self.task
        return {
            "policy": "MlpPolicy",
            "env": self.environment(),
            "learning_rate": task.learning_rate,
            "buffer_size": task.stored_transitions,
            "learning_starts": task.random_steps,
            "batch_size": task.batch_size,
            "tau": self.settings.tau,
            "gamma": self.settings.discount,
            "ent_coef": f"auto_{self.settings.initial_temperature}",
            "policy_kwargs": {"net_arch": [task.hidden_units] * task.hidden_layers},
            "seed": self.seed,
        }

    @override
    def actor(self, policy: Any) -> list[nn.Module]:
        return [policy.actor.latent_pi, policy.actor.mu]


@dataclass(frozen=True, kw_only=True)
class SB3PPOSettings:
    """Hyperparameters that the protocol does not fix; named as in Stable-Baselines3."""

    learning_rate: float = setting(above=0)
    n_steps: int = setting(low=2)  # environment steps between updates
    batch_size: int = setting(low=2)
    n_epochs: int = setting(low=1)
    gamma: float = setting(low=0, high=1)
    gae_lambda: float = setting(low=0, high=1)
    clip_range: float = setting(above=0)


class SB3PPO(StableBaselines):
    """Stable-Baselines3's PPO with the network size of the task."""

    Settings = SB3PPOSettings
    settings: SB3PPOSettings
    columns: ClassVar[dict[str, str]] = {
        "critic_loss": "train/value_loss",
        "actor_loss": "train/policy_gradient_loss",
        "approx_kl": "train/approx_kl",
    }
    activation = "tanh"
    squash = "clip"

    @override
    def make_model(self) -> BaseAlgorithm:
        task, settings = self.task, self.settings
        return stable_baselines3.PPO(
            "MlpPolicy",
            self.environment(),
            learning_rate=settings.learning_rate,
            n_steps=settings.n_steps,
            batch_size=settings.batch_size,
            n_epochs=settings.n_epochs,
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip_range,
            policy_kwargs={"net_arch": [task.hidden_units] * task.hidden_layers},
            seed=self.seed,
            device=self.device,
        )

    @override
    def actor(self, policy: Any) -> list[nn.Module]:
        return [policy.mlp_extractor.policy_net, policy.action_net]
