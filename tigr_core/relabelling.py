# SPDX-License-Identifier: Apache-2.0
"""Old episodes as episodes of other tasks.

Training knows the reward of every task and the replay buffer the quantities that rewards are about, so that an episode
can be read as one of another task: its rewards are computed anew (as in Andrychowicz et al., arXiv 1707.01495,
and Li et al., arXiv 2002.11708, for whole episodes). The encoder then cannot tell a task by how the policy behaves in
it, and whatever the robot happened to do teaches the policy every task it resembles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from envs.task_batch import TaskBatch
from envs.tasks import TaskSet


class Relabelled(NamedTuple):
    """E episodes under other tasks."""

    reward: np.ndarray  # [E, T] float32
    base_task: np.ndarray  # [E]
    parameter: np.ndarray  # [E, P]
    mean_reward: np.ndarray  # [E], -inf where the task must not be given


class Relabeller:
    """Draws a base task for each episode, and its parameter: for every other episode the best of several drawn.

    Best by mean reward: what the robot did, by chance or under another task, is then an example of how to do a task.
    The other half shows the encoder what it looks like when a robot does not do its task. A task is not given where
    some reward would lie below `worst_reward`: that far from a target there is nothing to learn about it, and such
    rewards would drown all others.
    """

    def __init__(
        self, task_set: TaskSet, quantity_dims: Mapping[str, int], *, worst_reward: float, candidates: int
    ) -> None:
        self.task_set, self.quantity_dims = task_set, quantity_dims
        self.worst_reward, self.candidates = worst_reward, candidates

    def __call__(
        self, quantities: np.ndarray, action: np.ndarray, valid: np.ndarray, rng: np.random.Generator
    ) -> Relabelled:
        """Draw a task for each of E episodes: quantities ``[E, T, Q]``, action ``[E, T, A]``, valid ``[E, T]``."""
        base_tasks = rng.integers(len(self.task_set), size=len(quantities)).tolist()
        best = self._draw(base_tasks, quantities, action, valid, rng)
        of_several = rng.random(len(quantities)) < 0.5
        for _ in range(self.candidates - 1):
            other = self._draw(base_tasks, quantities, action, valid, rng)
            better = np.flatnonzero(of_several & (other.mean_reward > best.mean_reward))
            for kept, new in zip(best, other, strict=True):
                kept[better] = new[better]
        return best

    def _draw(
        self,
        base_tasks: list[int],
        quantities: np.ndarray,
        action: np.ndarray,
        valid: np.ndarray,
        rng: np.random.Generator,
    ) -> Relabelled:
        batch = TaskBatch(self.task_set, self.quantity_dims, len(quantities))
        for member, label in enumerate(base_tasks):
            batch.assign(member, self.task_set.sample_parameter(label, rng))
        # Members come last but one in a TaskBatch: time steps first.
        tracking = batch.track(quantities.swapaxes(0, 1)).reward
        reward = (tracking + batch.control_reward(action.swapaxes(0, 1))).T
        too_far = ((reward < self.worst_reward) & valid).any(axis=1)
        mean = np.where(valid, reward, 0.0).sum(axis=1) / valid.sum(axis=1).clip(1)
        return Relabelled(reward.astype(np.float32), batch.label, batch.parameter, np.where(too_far, -np.inf, mean))
