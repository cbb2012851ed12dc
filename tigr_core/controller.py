# SPDX-License-Identifier: Apache-2.0
"""The controller: the one object that acts with a trained model, in training rollouts, evaluation and on the robot.

obs ──► act ──► action ──► (robot or simulator) ──► reward, next_obs ──► observe ──► estimate ──► act ...
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tigr_core.acting import Step, acting
from tigr_core.model import TaskInferenceModel


@dataclass(frozen=True)
class TaskEstimate:
    """What the controller believes about N tasks, as float32 arrays."""

    mixture_weights: np.ndarray  # [N, K]
    latent: np.ndarray  # [N, L]
    component_mean: np.ndarray  # [N, K, L]
    component_std: np.ndarray  # [N, K, L]
    entropy: np.ndarray  # [N], nats, of the mixture weights

    @property
    def component(self) -> np.ndarray:
        """Most likely component, [N]."""
        return self.mixture_weights.argmax(axis=1)


class Controller:
    """Acts for N robots at once; holds their contexts. No learning and no ROS in here.

    With `fast`, networks are those of the fast mode, see `acting.py`.

    Raises `ValueError` for non-finite input and for `observe` without a preceding `act`.
    """

    def __init__(self, model: TaskInferenceModel, num_robots: int = 1, *, fast: bool = False) -> None:
        self.model, self._acting = model, acting(model, fast=fast)
        self.num_robots = num_robots
        self.reset()

    def reset(self) -> None:
        """Forget everything: the context is empty again."""
        self._state = self._acting.initial_state(self.num_robots)
        self._obs: np.ndarray | None = None
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # action and reward of the last transition
        self._noise: Tensor | None = None
        self._told: tuple[np.ndarray, np.ndarray] | None = None
        self._infer()

    def tell(self, code: Tensor, whom: Tensor) -> None:
        """Until the next reset, let the robots of the mask `whom` ``[N]`` act on a code ``[N, L]``, not on z."""
        self._told = (whom.unsqueeze(1).numpy(), code.numpy())
        self._infer()

    def _explored(self, generator: torch.Generator) -> np.ndarray:
        """Return one draw of z for the whole episode, which follows the posterior (PEARL's exploration)."""
        posterior = self._acting.posterior(self._state)
        if self._noise is None:
            self._noise = torch.randn(posterior.mean.shape, generator=generator)
        return posterior.sample(self._noise).numpy()

    def _infer(self) -> None:
        self.mixture_weights, self.latent = self._acting.infer(self._state)
        if self._told is not None:
            whom, code = self._told
            self.latent = np.where(whom, code, self.latent)

    def act(self, obs: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Return actions [N, A] in [-1, 1] for observations [N, D]; explores only when given a generator."""
        self._obs = self._checked("observation", obs, (self.num_robots, self.model.obs_dim))
        latent = self.latent
        if generator is not None and self.model.config.method == "pearl":
            latent = self._explored(generator)
        return self._acting.act(self._obs, latent, generator)

    def observe(
        self, action: np.ndarray, reward: np.ndarray, next_obs: np.ndarray, obs: np.ndarray | None = None
    ) -> None:
        """Add the transition that followed to the context: action [N, A] as applied, reward [N], next_obs [N, D].

        `obs` is needed only where another policy than `act` chose the action.
        """
        if obs is not None:
            self._obs = self._checked("observation", obs, (self.num_robots, self.model.obs_dim))
        if self._obs is None:
            raise ValueError("observe() found no observation to start from: call act() first")
        applied = self._checked("action", action, (self.num_robots, self.model.action_dim))
        gained = self._checked("reward", reward, (self.num_robots,))
        reached = self._checked("next observation", next_obs, (self.num_robots, self.model.obs_dim))
        step = Step(self._obs, applied, gained, reached, self._before)
        self._state = self._acting.advance(self._state, step)
        if self.model.config.reward_changes:
            self._before = applied.copy(), gained.copy()  # the arrays are the caller's
        self._obs = None
        self._infer()

    @property
    def estimate(self) -> TaskEstimate:
        """The present task estimate."""
        posterior = self._acting.posterior(self._state)
        return TaskEstimate(
            mixture_weights=self.mixture_weights,
            latent=self.latent,
            component_mean=posterior.mean.numpy(),
            component_std=posterior.std.numpy(),
            entropy=posterior.entropy.numpy(),
        )

    @staticmethod
    def _checked(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        array = np.ascontiguousarray(values, dtype=np.float32)
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite: {array[~np.isfinite(array)][:3]}")
        return array
