# SPDX-License-Identifier: Apache-2.0
"""One task at a time: the vector environment with a single member behind Gymnasium's standard interface."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs.spec import RobotSpec
from envs.tasks import Task, TaskLike, TaskSet
from envs.vector_env import TaskVectorEnv


class TaskEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Member 0 of a `TaskVectorEnv`; `info` has the same keys with scalars, and `parameter` [P].

    Args:
        vector: a vector environment with one member; this environment closes it.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's declaration)

    def __init__(self, vector: TaskVectorEnv) -> None:
        if vector.num_envs != 1:
            raise ValueError(f"found a vector environment of {vector.num_envs} members, expected one")
        self._vector = vector
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space

    @property
    def spec_robot(self) -> RobotSpec:
        return self._vector.spec_robot

    @property
    def task_set(self) -> TaskSet:
        return self._vector.task_set

    @property
    def task(self) -> Task:
        """The current task."""
        return self._vector.tasks[0]

    def set_task(self, task: TaskLike) -> None:
        """Change the task, from the next step on."""
        self._vector.set_task(0, task)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the random generator; None leaves it as it is.
            options: ``{"task": ...}`` with a Task, ``(name, parameter)`` or ``{"base_task": ...,
                "parameter": ...}``; without the option the task is drawn.

        Returns:
            obs [D] and `info`.

        Raises:
            ValueError: unknown option, or a task the task set refuses.
        """
        options = options or {}
        if unknown := set(options) - {"task"}:
            raise ValueError(f"found reset option(s) {sorted(unknown)}, expected 'task' only")
        obs, info = self._vector.reset(seed=seed, options={"tasks": [options.get("task")]})
        # One generator draws everything, and it is the one Gymnasium shows.
        self._np_random = self._vector.rngs[0]
        self._np_random_seed = self._np_random_seed if seed is None else seed
        return obs[0], _first(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply an action [A]; entries are clipped to [-1, 1]. Raises as `TaskVectorEnv.step`."""
        obs, reward, terminated, truncated, info = self._vector.step(np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(info)

    def close(self) -> None:
        self._vector.close()


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """Return member 0 of a vector `info`: plain numbers for [1] arrays, rows for [1, P] arrays."""
    return {
        key: _first(value) if isinstance(value, dict) else value.item() if value.ndim == 1 else value[0]
        for key, value in info.items()
    }
