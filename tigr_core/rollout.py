# SPDX-License-Identifier: Apache-2.0
"""Whole episodes as arrays: what collectors return, the replay buffer stores and evaluation reads.

Time alignment, defined here once: transition ``t`` is ``(obs[t], action[t], reward[t], obs[t + 1])``; the task estimate
``latent[t]`` comes from the transitions ``0 .. t - 1``, so it is what the policy knew when it chose ``action[t]``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Episodes:
    """E episodes of up to T steps. Steps at and beyond ``length`` are padding.

    Sizes: D observation, A action, P task parameter, Q robot's quantities, K mixture components, L latent.
    """

    obs: np.ndarray  # [E, T + 1, D] float32
    action: np.ndarray  # [E, T, A] float32, in [-1, 1]
    reward: np.ndarray  # [E, T] float32
    terminated: np.ndarray  # [E, T] bool
    length: np.ndarray  # [E] int64, valid steps
    base_task: np.ndarray  # [E, T] int64, label of the task that gave reward t
    parameter: np.ndarray  # [E, T, P] float32
    quantities: np.ndarray  # [E, T, Q] float32, what any task could be about, after each step
    tracked_value: np.ndarray  # [E, T] float32
    tracked_target: np.ndarray  # [E, T] float32
    tracking_error: np.ndarray  # [E, T] float32, |value - target| / |target| where the reward is relative
    mixture_weights: np.ndarray  # [E, T + 1, K] float32
    latent: np.ndarray  # [E, T + 1, L] float32

    def __len__(self) -> int:
        return int(self.obs.shape[0])

    @property
    def num_steps(self) -> int:
        """Number of valid transitions."""
        return int(self.length.sum())

    @property
    def valid(self) -> np.ndarray:
        """Mask [E, T] of the steps that happened."""
        return np.arange(self.reward.shape[1])[None, :] < self.length[:, None]

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return per episode, [E]."""
        return np.where(self.valid, self.reward, 0.0).sum(axis=1)

    @property
    def one_task(self) -> np.ndarray:
        """Mask [E] of the episodes whose task did not change."""
        same = (self.base_task == self.base_task[:, :1]) & (self.parameter == self.parameter[:, :1]).all(axis=2)
        return (same | ~self.valid).all(axis=1)

    def select(self, index: np.ndarray) -> Episodes:
        """Return the episodes at `index` (integers or a mask)."""
        return Episodes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def concatenate(parts: list[Episodes]) -> Episodes:
        """Join several records with equal T along the episode axis."""
        return Episodes(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Episodes)})
