# SPDX-License-Identifier: Apache-2.0
"""Episodes that are collected while the learner learns, and what a checkpoint keeps of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from envs.tasks import Task, TaskSet
from tigr_core.collector import Collector, Request
from tigr_core.model import TaskInferenceModel
from tigr_core.rollout import Episodes
from tigr_core.stop import Interrupted


class Ahead:
    """The episodes of the next epoch, collected with a copy of the model as it is when they are asked for.

    Request and weights are kept until they are there: what is lost by an interruption is collected again, the same to
    the last bit. So it does not matter when the episodes come, nor whether the run was stopped before.
    """

    def __init__(self, collector: Collector, model: TaskInferenceModel, request: Request, epoch: int) -> None:
        self.epoch = epoch  # in which they were asked for, before its learning
        self._collector, self._model, self._request = collector, copy.deepcopy(model), request
        self._wait: Callable[[], Episodes] | None = collector.begin(self._model, request)

    def episodes(self) -> Episodes:
        """Wait for the episodes; after `Interrupted`, asking again collects them anew."""
        if self._wait is None:
            self._wait = self._collector.begin(self._model, self._request)
        try:
            return self._wait()
        except Interrupted:
            self._wait = None
            raise

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values for a checkpoint."""
        tasks = [_plain(task) for task in self._request.tasks]
        changes = [change and (change[0], _plain(change[1])) for change in self._request.changes]
        request = {**vars(self._request), "tasks": tasks, "changes": changes}
        return {"epoch": self.epoch, "request": request, "weights": self._model.state_dict()}

    @classmethod
    def resume(cls, state: dict[str, Any], collector: Collector, model: TaskInferenceModel, tasks: TaskSet) -> Ahead:
        """Begin again what a checkpoint kept; `model` gives the sizes and stays as it is."""
        model = copy.deepcopy(model)
        model.load_state_dict(state["weights"])
        kept = state["request"]
        changes = [change and (change[0], tasks.parse(change[1])) for change in kept.get("changes", [])]
        request = {**kept, "tasks": [tasks.parse(task) for task in kept["tasks"]], "changes": changes}
        return cls(collector, model, Request(**request), state["epoch"])


def _plain(task: Task) -> tuple[str, tuple[float, ...]]:
    return task.base_task, task.parameter
