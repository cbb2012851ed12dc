# SPDX-License-Identifier: Apache-2.0
"""Tasks as data: base tasks (which kind), tasks (kind and parameter), task sets, and when a task changes.

Base tasks differ in kind (non-parametric); each has a parameter with a range (Bing et al., arXiv 2108.03718).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from envs.base_task import BaseTask


@dataclass(frozen=True)
class Task:
    """A base task with its parameter. `index` is the base task's label in the task set it came from."""

    base_task: str
    index: int
    parameter: tuple[float, ...]

    @property
    def scalar(self) -> float:
        """The parameter of a one-dimensional task."""
        if len(self.parameter) != 1:
            raise ValueError(f"found {len(self.parameter)} parameters of {self.base_task!r}, expected one for .scalar")
        return self.parameter[0]

    def __str__(self) -> str:
        return f"{self.base_task}({', '.join(f'{entry:g}' for entry in self.parameter)})"


TaskLike: TypeAlias = Task | tuple[str, float | Sequence[float]] | Mapping[str, Any]


@dataclass(frozen=True)
class TaskSet:
    """Base tasks in label order.

    Raises:
        ValueError: no base task, or two of one name.
    """

    base_tasks: tuple[BaseTask, ...]

    def __post_init__(self) -> None:
        if not self.base_tasks or len(set(self.names)) != len(self.names):
            raise ValueError(f"found base tasks {list(self.names)}, expected at least one and every name once")

    def __len__(self) -> int:
        return len(self.base_tasks)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(base_task.name for base_task in self.base_tasks)

    @property
    def parameter_dim(self) -> int:
        """Largest number of parameters among the base tasks."""
        return max(base_task.parameter_dim for base_task in self.base_tasks)

    @property
    def num_known(self) -> int:
        """One more than the highest label of a train task: those beyond are held out."""
        known = [label for label, base_task in enumerate(self.base_tasks) if not base_task.held_out]
        return known[-1] + 1 if known else len(self)

    def task(self, name: str, *parameter: float) -> Task:
        """Return a checked task. Parameters outside the base task's range are allowed (generalisation tests).

        Raises:
            ValueError: unknown name, wrong number of parameters, a parameter that is not a finite number, or one
                with which the task cannot be, such as zero where the reward divides by it.
        """
        index = self._index(name)
        base_task = self.base_tasks[index]
        try:
            values = tuple(float(entry) for entry in parameter)
        except (TypeError, ValueError):
            values = (math.nan,)
        if len(values) != base_task.parameter_dim or not all(math.isfinite(value) for value in values):
            raise ValueError(
                f"found parameter {parameter} for base task {name!r}, expected {base_task.parameter_dim} "
                f"finite number(s), fix: choose from {base_task.range_text}"
            )
        if problem := base_task.problem(values):
            raise ValueError(f"{problem}, fix: choose from {base_task.range_text}")
        return Task(name, index, values)

    def parse(self, task: TaskLike) -> Task:
        """Return the task meant by a Task, ``(name, parameter)`` or ``{"base_task": ..., "parameter": ...}``.

        Labels are those of this set, also for a Task that came from another one.

        Raises:
            ValueError: another form, or anything `task()` refuses.
        """
        match task:
            case Task():
                return self.task(task.base_task, *task.parameter)
            case {"base_task": str(name), "parameter": parameter} if len(task) == 2:
                pass
            case (str(name), parameter):
                pass
            case _:
                raise ValueError(
                    f"found task {task!r}, expected a Task, (name, parameter) or "
                    f"{{'base_task': name, 'parameter': parameter}}, "
                    f"fix: e.g. ({self.names[0]!r}, {self.base_tasks[0].high:g})"
                )
        return self.task(name, *(parameter if isinstance(parameter, (Sequence, np.ndarray)) else (parameter,)))

    def from_text(self, text: str) -> Task:
        """Return the task that ``str(task)`` was made from, such as ``jump(2)``; digits are lost beyond the sixth.

        Raises:
            ValueError: another form, or anything `task()` refuses.
        """
        name, _, rest = text.partition("(")
        try:
            values = [float(entry) for entry in rest.removesuffix(")").split(",")]
        except ValueError:
            raise ValueError(f"found task {text!r}, expected a form like {self.names[0]}(1)") from None
        return self.task(name, *values)

    def sample(self, rng: np.random.Generator) -> Task:
        """Draw a base task, then its parameter, both uniformly."""
        return self.sample_parameter(int(rng.integers(len(self))), rng)

    def sample_parameter(self, index: int, rng: np.random.Generator) -> Task:
        """Draw the parameter of the base task with this label uniformly."""
        base_task = self.base_tasks[index]
        return self.task(base_task.name, *base_task.sample(rng))

    @property
    def has_alternatives(self) -> bool:
        """Whether there is more than one task to draw."""
        return len(self) > 1 or self.base_tasks[0].low < self.base_tasks[0].high

    def sample_other(self, current: Task, rng: np.random.Generator) -> Task:
        """Draw a task that differs from `current` in kind or parameter; needs `has_alternatives`."""
        while (task := self.sample(rng)) == current:
            pass
        return task

    def split(self, num_train: int, num_test: int, rng: np.random.Generator) -> tuple[list[Task], list[Task]]:
        """Return disjoint train and test tasks.

        Both lists go round the base tasks in label order, so any stretch of them is balanced. Per base task,
        parameters lie evenly over the range, ends included, in a shuffled order; with several parameters each
        is spread and shuffled by itself (a Latin hypercube), unless they lie evenly over a disc. Only a base task
        whose range is a point is the same in both lists. Where base tasks are held out, the test tasks are theirs
        and the train tasks are the others'.
        """
        known, held_out = ([t.name for t in self.base_tasks if t.held_out is out] for out in (False, True))
        train_names = [(known or held_out)[i % len(known or held_out)] for i in range(num_train)]
        test_names = [(held_out or known)[i % len(held_out or known)] for i in range(num_test)]
        parameters = {
            base_task.name: iter(base_task.spread((train_names + test_names).count(base_task.name), rng))
            for base_task in self.base_tasks
        }
        train = [self.task(name, *next(parameters[name])) for name in train_names]
        test = [self.task(name, *next(parameters[name])) for name in test_names]
        return train, test

    def subset(self, names: Iterable[str]) -> TaskSet:
        """Return the set of the named base tasks, labelled in the order of `names`.

        Raises:
            ValueError: unknown name, no name, or one named twice.
        """
        return TaskSet(tuple(self.base_tasks[self._index(name)] for name in names))

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"found base task {name!r}{nearest(name, self.names)}, expected one of {list(self.names)}")
        return self.names.index(name)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name closest to `name`, or an empty string."""
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


Quantities: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class EverySteps:
    """The task changes by time: after every `steps` steps of an episode."""

    steps: int

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"found every_steps {self.steps!r}, expected a whole number of at least 1")

    def due(self, steps: np.ndarray, before: Quantities, after: Quantities) -> np.ndarray:
        """Return which members change now, [N], given the steps they have done [N]."""
        return steps % self.steps == 0


@dataclass(frozen=True)
class OnCrossing:
    """The task changes by place: whenever the scalar `quantity` passes `place`, in either direction."""

    quantity: str
    place: float

    def __post_init__(self) -> None:
        if not isinstance(self.place, (int, float)) or not math.isfinite(self.place):
            raise ValueError(f"found crossing place {self.place!r}, expected a finite number")

    def due(self, steps: np.ndarray, before: Quantities, after: Quantities) -> np.ndarray:
        """Return which members change now, [N], given the quantities around the last step."""
        return (before[self.quantity] > self.place) != (after[self.quantity] > self.place)


TaskChange: TypeAlias = EverySteps | OnCrossing
TaskChangeLike: TypeAlias = TaskChange | Mapping[str, Any]


def parse_task_change(change: TaskChangeLike) -> TaskChange:
    """Return the schedule given as ``{"every_steps": N}`` or ``{"crossing": {"quantity": .., "place": ..}}``.

    Raises:
        ValueError: another form or a bad value.
    """
    match change:
        case EverySteps() | OnCrossing():
            return change
        case {"every_steps": steps} if len(change) == 1:
            return EverySteps(steps)
        case {"crossing": {"quantity": str(quantity), "place": place} as crossing} if len(change) == 1:
            if len(crossing) == 2:
                return OnCrossing(quantity, place)
    raise ValueError(
        f"found task change {change!r}, expected {{'every_steps': steps}} or "
        "{'crossing': {'quantity': name, 'place': value}}"
    )
