# SPDX-License-Identifier: Apache-2.0
"""One simulated robot as `sim_node` runs it: an environment of `envs` with a single member, and a watchdog. No ROS."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

import envs
from envs.spec import RobotSpec
from envs.tasks import Task, TaskSet
from envs.vector_env import TaskVectorEnv


@lru_cache(maxsize=4)
def environment(env: str, base_tasks: str) -> tuple[str, TaskSet]:
    """Return id and task set of an environment, given by its id or by a bundle that was trained for it.

    Args:
        base_tasks: names, separated by commas; empty for all, or for those of the bundle.

    Raises:
        ValueError: unknown environment or base task.
        UserError: no such bundle.
    """
    names = [name.strip() for name in base_tasks.split(",") if name.strip()]
    if env.endswith(".tigr"):
        from tigr_core.bundle import load_bundle  # brings PyTorch

        about = load_bundle(env).info
        env, names = about.env_id, names or about.base_tasks
    return env, envs.task_set(env, names or None)


def task_of(values: Mapping[str, Any]) -> Task | None:
    """Return the task meant by the parameters ``task`` and ``parameter``; None if it is to be drawn.

    Raises:
        ValueError: there is no such task.
    """
    _, task_set = environment(values["env"], values["base_tasks"])
    return task_set.parse((values["task"], values["parameter"])) if values["task"] else None


def task_change_of(values: Mapping[str, Any], control_dt: float) -> dict[str, Any] | None:
    """Return the schedule meant by the parameter ``task_change``, as `envs.make_vector` takes it.

    Raises:
        ValueError: another form.
    """
    text = values["task_change"]
    try:
        match text.split(":"):
            case [""]:
                return None
            case ["every_steps", steps]:
                return {"every_steps": int(steps)}
            case ["every_seconds", seconds]:
                return {"every_steps": round(float(seconds) / control_dt)}
            case ["crossing", quantity, place]:
                return {"crossing": {"quantity": quantity, "place": float(place)}}
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"found task_change {text!r}, expected '', 'every_steps:100', 'every_seconds:5.0' or 'crossing:x_position:5.0'"
    )


class Simulation:
    """A robot and its task, stepped by efforts.

    Args:
        values: the parameters env, base_tasks, task_change and episode_steps (0: endless) of `sim_node`.

    Raises:
        ValueError: they do not fit together.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        env_id, task_set = environment(values["env"], values["base_tasks"])
        robot = envs.ENVIRONMENTS[env_id].make_robot(1)
        self._env = TaskVectorEnv(
            robot,
            task_set,
            num_envs=1,
            episode_steps=values["episode_steps"] or sys.maxsize,
            task_change=task_change_of(values, robot.spec.control_dt),
        )
        self.info: dict[str, Any] = {}
        self.effort = np.zeros(self.spec.action_dim)  # [A], of the last step, within the limits
        self.steps = 0  # of this episode
        self.ended = False

    @property
    def spec(self) -> RobotSpec:
        return self._env.spec_robot

    @property
    def task(self) -> Task:
        return self._env.tasks[0]

    @property
    def positions(self) -> np.ndarray:
        """Joint positions [J], m or rad."""
        return self._env.joint_positions[0]

    @property
    def velocities(self) -> np.ndarray:
        """Joint velocities [J], m/s or rad/s."""
        return self._env.joint_velocities[0]

    @property
    def healthy(self) -> bool:
        """Whether the physics has not diverged."""
        return bool(np.isfinite(self.positions).all() and np.isfinite(self.velocities).all())

    def begin(self, task: Task | None, seed: int | None = None) -> None:
        """Start an episode with a task, drawn if None; a seed restarts the random generator."""
        _, self.info = self._env.reset(seed=seed, options={"tasks": [task]})
        self.effort = np.zeros(self.spec.action_dim)
        self.steps, self.ended = 0, False

    def step(self, effort: np.ndarray) -> float:
        """Apply efforts [A] for one control period and return the reward."""
        _, reward, terminated, truncated, self.info = self._env.step_effort(effort[None])
        # What the actuators exerted, not what was asked for.
        self.effort = self.spec.action_to_effort(self.spec.ctrl_to_action(self.spec.effort_to_ctrl(effort)))
        self.steps += 1
        self.ended = bool(terminated[0] or truncated[0])
        return float(reward[0])

    def set_task(self, task: Task | None) -> None:
        """Change the task from the next step on; None draws another one."""
        if task is None and self._env.task_set.has_alternatives:
            task = self._env.task_set.sample_other(self.task, self._env.rngs[0])
        self._env.set_task(0, task or self.task)

    def close(self) -> None:
        """Release threads."""
        self._env.close()


class HeldCommand:
    """The last command, held until it is too old; then zero effort, by itself. Time is counted in control periods.

    Args:
        action_dim: number of actuators A.
        timeout_periods: for how many periods a command holds.
    """

    def __init__(self, action_dim: int, timeout_periods: float) -> None:
        self.timeout_periods = timeout_periods
        self._zero = np.zeros(action_dim)
        self.release()

    def release(self) -> None:
        """Forget the command: zero effort until another comes."""
        self._effort = self._zero
        self.age_periods = np.inf

    def take(self, effort: np.ndarray) -> None:
        """Hold another command [A] from now on."""
        self._effort, self.age_periods = effort, 0.0

    @property
    def safe(self) -> bool:
        """Whether the watchdog has taken over: no command, or too old a one."""
        return self.age_periods > self.timeout_periods

    def next(self) -> np.ndarray:
        """Return the effort [A] of the next control period."""
        self.age_periods += 1.0
        return self._zero if self.safe else self._effort
