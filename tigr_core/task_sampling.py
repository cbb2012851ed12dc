# SPDX-License-Identifier: Apache-2.0
"""Which training tasks an epoch's episodes are collected on: evenly, or in part by how the policy fares on them.

behind  by how far the returns of a base task lie behind those of the best base task
worst   the tasks whose returns grow least first (`task_distribution` of the paper's code)
best    the tasks whose returns grow most first (the same)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from envs.tasks import Task
from tigr_core.replay import ReplayBuffer

Preference = Literal["behind", "worst", "best"]

RECENT_EPISODES = 400  # that tell how hard a base task is
RETURNS_NEEDED = 3  # of each task: two would grow or fall by the same amount whatever they are, once standardised
MEMORY = 10.0  # episodes of a task after which what its returns did counts e times less
PROGRESS_RANGE = (0.05, 0.95)  # of the least and the most growing task: no task is given up
RARITY_BONUS = 0.1  # of the task with the fewest episodes


class TaskSampler:
    """Draws training tasks: a `share` of them by the `preference`, the others evenly."""

    def __init__(self, tasks: Sequence[Task], num_base_tasks: int, share: float, preference: Preference) -> None:
        self.tasks, self.share, self.preference = tasks, share, preference
        self.label = np.array([task.index for task in tasks])
        self.base_task_shares = np.full(num_base_tasks, 1.0 / num_base_tasks)  # [B], of what is drawn
        self._odds: np.ndarray | None = None  # [n], sum to 1; None: even

    def update(self, replay: ReplayBuffer) -> None:
        """Read off the replay buffer how the policy fares."""
        count = len(self.base_task_shares)
        self.base_task_shares, self._odds = np.full(count, 1.0 / count), None
        if self.share == 0.0 or replay.num_episodes == 0:
            return
        if self.preference == "behind":
            self._prefer_base_tasks(replay.recent_returns(RECENT_EPISODES, count))
        else:
            self._prefer_tasks(replay)

    def _prefer_base_tasks(self, returns: np.ndarray) -> None:
        """Take mean returns of base tasks ``[B]``, nan where there are none."""
        behind = np.nan_to_num(np.nanmax(returns) - returns, nan=0.0)
        if behind.any():
            self.base_task_shares = self.share * behind / behind.sum() + (1.0 - self.share) / len(behind)
        if np.ptp(self.base_task_shares) > 0.0:
            of_each = self.base_task_shares[self.label]
            odds = of_each / np.bincount(self.label, minlength=len(returns))[self.label]
            self._odds = odds / odds.sum()

    def _prefer_tasks(self, replay: ReplayBuffer) -> None:
        histories = replay.returns_of(self.tasks)
        if min(map(len, histories)) < RETURNS_NEEDED:
            return
        progress = np.array([learning_progress(returns) for returns in histories])
        progress = _scaled(progress, *PROGRESS_RANGE, if_equal=0.5)
        rarity = _scaled(-np.array([len(returns) for returns in histories]), 0.0, RARITY_BONUS, if_equal=0.0)
        odds = (progress if self.preference == "best" else 1.0 - progress) + rarity
        self._odds = self.share * odds / odds.sum() + (1.0 - self.share) / len(odds)
        self.base_task_shares = np.bincount(self.label, self._odds, minlength=len(self.base_task_shares))

    def draw(self, count: int, rng: np.random.Generator) -> list[Task]:
        """Draw training tasks; where all are equal, each as seldom twice as can be."""
        size = len(self.tasks)
        if self._odds is not None:
            numbers = rng.choice(size, size=count, p=self._odds)
        else:
            numbers = np.concatenate([rng.permutation(size) for _ in range(-(-count // size))])[:count]
        return [self.tasks[number] for number in numbers]


def learning_progress(returns: np.ndarray) -> float:
    """Return how returns ``[n]`` of one task grow from one to the next, in their standard deviations, the last most."""
    spread = returns.std()
    if spread == 0.0:
        return 0.0
    weight = np.exp(np.arange(2 - len(returns), 1) / MEMORY)
    return float((np.diff(returns) / spread * weight).sum() / weight.sum())


def _scaled(values: np.ndarray, low: float, high: float, *, if_equal: float) -> np.ndarray:
    """Map the lowest value to `low` and the highest to `high`."""
    spread = np.ptp(values)
    if spread == 0.0:
        return np.full(len(values), if_equal)
    return low + (values - values.min()) / spread * (high - low)
