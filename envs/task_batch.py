# SPDX-License-Identifier: Apache-2.0
"""Rewards of N members with N different tasks, computed at once from the tables in `envs.tasks`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from envs.tasks import Quantities, Task, TaskSet


@dataclass(frozen=True)
class Tracking:
    """How well N members follow their tasks; every field is [..., N].

    Where the tracked quantity is a vector, value and target are distances along the direction of the target.
    """

    value: np.ndarray
    target: np.ndarray
    error: np.ndarray  # |value - target|, divided by |target| where the reward is relative
    reward: np.ndarray


class TaskBatch:
    """The current tasks of N members, kept as arrays so that one expression rewards all of them.

    Sizes: V components of the widest tracked quantity, P parameters. Narrower ones are padded with zeros,
    which changes no norm and no inner product.

    Raises:
        ValueError: a base task tracks a quantity the robot lacks, or one with another number of components.
    """

    def __init__(self, task_set: TaskSet, quantity_dims: Mapping[str, int], num: int) -> None:
        for base_task in task_set.base_tasks:
            if quantity_dims.get(base_task.quantity) != len(base_task.axis):
                raise ValueError(
                    f"found base task {base_task.name!r} with {len(base_task.axis)} axis entries for "
                    f"quantity {base_task.quantity!r}, expected one of {dict(quantity_dims)}"
                )
        self._task_set = task_set
        starts = np.cumsum([0, *quantity_dims.values()])
        self._first_column = dict(zip(quantity_dims, starts[:-1].tolist(), strict=True))
        self._zero_column = int(starts[-1])
        value_dim = max(len(base_task.axis) for base_task in task_set.base_tasks)
        self._rows = np.arange(num)[:, None]
        self.tasks: list[Task | None] = [None] * num
        self.label = np.zeros(num, dtype=np.int64)
        self.parameter = np.zeros((num, task_set.parameter_dim))
        self._columns = np.zeros((num, value_dim), dtype=np.intp)  # of the concatenated quantities
        self._target = np.zeros((num, value_dim))
        self._direction = np.zeros((num, value_dim))
        self._scale = np.ones(num)
        self._along = np.zeros(num, dtype=bool)
        self._control_cost = np.zeros(num)

    def assign(self, index: int, task: Task) -> None:
        """Give member `index` a task of the set."""
        base_task = self._task_set.base_tasks[task.index]
        dim = len(base_task.axis)
        target = np.array(task.parameter) * np.array(base_task.axis)
        distance = float(np.linalg.norm(target))
        self.tasks[index] = task
        self.label[index] = task.index
        self.parameter[index] = np.pad(task.parameter, (0, self.parameter.shape[1] - len(task.parameter)))
        first = self._first_column[base_task.quantity]
        self._columns[index] = self._zero_column
        self._columns[index, :dim] = np.arange(first, first + dim)
        self._target[index] = 0.0
        self._target[index, :dim] = target
        self._direction[index] = 0.0
        self._direction[index, :dim] = target / (distance or 1.0) if dim > 1 else 1.0
        self._scale[index] = distance if base_task.reward == "relative" else 1.0
        self._along[index] = base_task.reward == "along"
        self._control_cost[index] = base_task.control_cost

    def track(self, quantities: np.ndarray) -> Tracking:
        """Compare the quantities after a step, [..., N, Q] as from `flat`, with the targets."""
        padded = np.concatenate([quantities, np.zeros((*quantities.shape[:-1], 1))], axis=-1)
        value = padded[..., self._rows, self._columns]
        error = np.sqrt(np.square(value - self._target).sum(axis=-1)) / self._scale
        return Tracking(
            value=(value * self._direction).sum(axis=-1),
            target=np.broadcast_to((self._target * self._direction).sum(axis=-1), error.shape),
            error=error,
            reward=np.where(self._along, (value * self._target).sum(axis=-1), -error),
        )

    def control_reward(self, action: np.ndarray) -> np.ndarray:
        """Return -control_cost * sum(action^2), [..., N], for actions [..., N, A] in [-1, 1]."""
        return -self._control_cost * np.square(action).sum(axis=-1)

    def flat(self, quantities: Quantities) -> np.ndarray:
        """Return the named quantities of N members side by side, [N, Q], in the robot's order."""
        return np.concatenate([quantities[name].reshape(len(self._rows), -1) for name in self._first_column], axis=1)
