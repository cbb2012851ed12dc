# SPDX-License-Identifier: Apache-2.0
"""Rewards of N members with N different tasks, computed at once from the tables in `envs.tasks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from envs.base_task import Reward
from envs.tasks import Quantities, Task, TaskSet

IMPACT = "impact"  # the quantity that `BaseTask.impact_cost` is about


@dataclass(frozen=True)
class Tracking:
    """How well N members follow their tasks; every field is [..., N].

    Where the tracked quantity is a vector, value and target are distances along the direction of the target.
    """

    value: np.ndarray
    target: np.ndarray
    error: np.ndarray  # |value - target|, divided by |target| where the reward is relative
    terms: dict[str, np.ndarray]  # of the reward: "tracking"; "alive" and "impact" where a task of the set has them

    @property
    def reward(self) -> np.ndarray:
        """Sum of the terms: all but what control costs."""
        return reduce(np.add, self.terms.values())


@dataclass(frozen=True)
class _Comparison:
    """What a reward can be made of."""

    value: np.ndarray  # [..., N, V]
    target: np.ndarray  # [N, V]
    error: np.ndarray  # [..., N]
    reach: np.ndarray  # [N]


_TRACKING: dict[Reward, Callable[[_Comparison], np.ndarray]] = {
    "relative": lambda c: -c.error,
    "relative_square": lambda c: -np.square(c.error),
    "absolute": lambda c: -c.error,
    "absolute_sum": lambda c: -np.abs(c.value - c.target).sum(axis=-1),
    "within": lambda c: np.where(c.error <= c.reach, 1.0 - c.error, 0.0),
    "along": lambda c: (c.value * c.target).sum(axis=-1),
}


class TaskBatch:
    """The current tasks of N members, kept as arrays so that one expression rewards all of them.

    Sizes: V components of the widest tracked quantity, P parameters. Narrower ones are padded with zeros,
    which changes no norm and no inner product.

    Raises:
        ValueError: a base task is about a quantity the robot lacks, or one with another number of components.
    """

    def __init__(self, task_set: TaskSet, quantity_dims: Mapping[str, int], num: int) -> None:
        for base_task in task_set.base_tasks:
            if quantity_dims.get(base_task.quantity) != len(base_task.axis):
                raise ValueError(
                    f"found base task {base_task.name!r} with {len(base_task.axis)} axis entries for "
                    f"quantity {base_task.quantity!r}, expected one of {dict(quantity_dims)}"
                )
            if base_task.impact_cost and quantity_dims.get(IMPACT) != 1:
                raise ValueError(
                    f"found base task {base_task.name!r} with an impact cost, expected a robot with the quantity "
                    f"{IMPACT!r} among {dict(quantity_dims)}"
                )
        self._task_set = task_set
        starts = np.cumsum([0, *quantity_dims.values()])
        self._first_column = dict(zip(quantity_dims, starts[:-1].tolist(), strict=True))
        self._zero_column = int(starts[-1])
        dims = [len(base_task.axis) for base_task in task_set.base_tasks]
        value_dim = max(dims)
        self._pads = min(dims) < value_dim
        self._rows = np.arange(num)[:, None]
        self.tasks: list[Task | None] = [None] * num
        self.label = np.zeros(num, dtype=np.int64)
        self.parameter = np.zeros((num, task_set.parameter_dim))
        self._columns = np.zeros((num, value_dim), dtype=np.intp)  # of the concatenated quantities
        self._target = np.zeros((num, value_dim))
        self._direction = np.zeros((num, value_dim))
        self._distance = np.zeros(num)  # of the target along its direction
        self._scale = np.ones(num)
        self._reach = np.zeros(num)
        self._kinds = {base_task.reward: np.zeros(num, dtype=bool) for base_task in task_set.base_tasks}
        self._control_cost = np.zeros(num)
        self._alive = np.zeros(num) if any(base_task.alive for base_task in task_set.base_tasks) else None
        has_impact = any(base_task.impact_cost for base_task in task_set.base_tasks)
        self._impact_cost = np.zeros(num) if has_impact else None
        changing = [base_task.parameter_dim for base_task in task_set.base_tasks if base_task.form == "dynamics"]
        self.dynamics = np.zeros((num, max(changing, default=0)))  # of the members; zero: the robot as it is

    def assign(self, index: int, task: Task) -> None:
        """Give member `index` a task of the set."""
        base_task = self._task_set.base_tasks[task.index]
        dim = len(base_task.axis)
        target = base_task.target(task.parameter)
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
        self._distance[index] = (self._target[index] * self._direction[index]).sum()
        self._scale[index] = distance if base_task.is_relative else 1.0
        self._reach[index] = base_task.reach
        for kind, members in self._kinds.items():
            members[index] = base_task.reward == kind
        self._control_cost[index] = base_task.control_cost
        if self._alive is not None:
            self._alive[index] = base_task.alive
        if self._impact_cost is not None:
            self._impact_cost[index] = base_task.impact_cost
        self.dynamics[index] = task.parameter if base_task.form == "dynamics" else 0.0

    def track(self, quantities: np.ndarray) -> Tracking:
        """Compare the quantities after a step, [..., N, Q] as from `flat`, with the targets."""
        if self._pads:
            quantities = np.concatenate([quantities, np.zeros((*quantities.shape[:-1], 1))], axis=-1)
        value = quantities[..., self._rows, self._columns]
        error = np.sqrt(np.square(value - self._target).sum(axis=-1)) / self._scale
        return Tracking(
            value=(value * self._direction).sum(axis=-1),
            target=self._distance + np.zeros(error.shape),
            error=error,
            terms=self._terms(quantities, _Comparison(value, self._target, error, self._reach)),
        )

    def _terms(self, quantities: np.ndarray, comparison: _Comparison) -> dict[str, np.ndarray]:
        shape = comparison.error.shape
        terms = {"tracking": np.zeros(shape)}
        for kind, members in self._kinds.items():
            np.copyto(terms["tracking"], _TRACKING[kind](comparison), where=members)
        if self._alive is not None:
            terms["alive"] = np.broadcast_to(self._alive, shape).copy()
        if self._impact_cost is not None:
            terms["impact"] = -self._impact_cost * quantities[..., self._first_column[IMPACT]]
        return terms

    def control_reward(self, action: np.ndarray) -> np.ndarray:
        """Return -control_cost * sum(action^2), [..., N], for actions [..., N, A] in [-1, 1]."""
        return -self._control_cost * np.square(action).sum(axis=-1)

    def flat(self, quantities: Quantities) -> np.ndarray:
        """Return the named quantities of N members side by side, [N, Q], in the robot's order."""
        return np.concatenate([quantities[name].reshape(len(self._rows), -1) for name in self._first_column], axis=1)
