# SPDX-License-Identifier: Apache-2.0
"""Old episodes as episodes of other tasks.

Training knows the reward of every task and the replay buffer the quantities that rewards are about, so that an episode
can be read as one of another task: its rewards are computed anew (as in Andrychowicz et al., arXiv 1707.01495,
and Li et al., arXiv 2002.11708, for whole episodes). The encoder then cannot tell a task by how the policy behaves in
it, and whatever the robot happened to do teaches the policy every task it resembles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.task_batch import TaskBatch
from envs.tasks import TaskSet


class Relabeller:
    """Computes the rewards that episodes would have had under other tasks, drawn from the whole of a task set.

    A task under which some reward would lie below `worst_reward` is not given: where the robot is that far from a
    target there is nothing to learn about it, and the rewards would drown all others.
    """

    def __init__(self, task_set: TaskSet, quantity_dims: Mapping[str, int], *, worst_reward: float) -> None:
        self.task_set, self.quantity_dims, self.worst_reward = task_set, quantity_dims, worst_reward

    def __call__(
        self, quantities: np.ndarray, action: np.ndarray, valid: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draw a task for each of E episodes: quantities ``[E, T, Q]``, action ``[E, T, A]``, valid ``[E, T]``.

        Return reward ``[E, T]`` float32, base-task label ``[E]``, parameter ``[E, P]`` and whether to use them ``[E]``.
        """
        batch = TaskBatch(self.task_set, self.quantity_dims, len(quantities))
        for member in range(len(quantities)):
            batch.assign(member, self.task_set.sample(rng))
        # Members come last but one in a TaskBatch: time steps first.
        tracking = batch.track(quantities.swapaxes(0, 1)).reward
        reward = (tracking + batch.control_reward(action.swapaxes(0, 1))).T
        good = (reward >= self.worst_reward) | ~valid
        return reward.astype(np.float32), batch.label, batch.parameter, good.all(axis=1)
