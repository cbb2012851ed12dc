# SPDX-License-Identifier: Apache-2.0
"""Tasks for robots, as Gymnasium environments. Imports nothing else of this project.

::

    half_cheetah ─┐
    ant, humanoid ┼─► mujoco_robot ─┐ Robot: state -> state, RobotSpec (observation layout, efforts)
    walker, hopper┘                 │
    point_robot, meta_world ────────┤
                                    ├──► vector_env ──► task_env ──► gymnasium.make(id)
    base_task ──► tasks ────────────┤        └─────────────────────► make_vector(id, N), gymnasium.make_vec(id)
                                    │
    task_batch ◄────────────────────┘ rewards of N tasks at once, from the tables of base tasks

Imports point one way: base_task < tasks; appearance, spec, tasks < robot; appearance < mujoco_links < mujoco_physics;
robot, mujoco_physics < mujoco_robot < floating_robot, varied_runner < the robots; tasks < task_batch; robot,
task_batch < vector_env < task_env; base_task < meta_world_tasks < meta_world. Meta-World's package is an extra; only
meta_world_simulator imports it, and only when an episode begins.

A new base task is one row in a robot's table. A new robot is one file in this folder: it offers `envs.robot.Robot` and
declares its environments in a table named ENVIRONMENTS, which is found there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

import gymnasium

from envs.robot import EnvDefinition, Robot
from envs.spec import Actuator, ObservationTerm, RobotSpec
from envs.task_env import TaskEnv
from envs.tasks import (
    BaseTask,
    EverySteps,
    OnCrossing,
    Task,
    TaskChange,
    TaskChangeLike,
    TaskLike,
    TaskSet,
    nearest,
)
from envs.vector_env import TaskVectorEnv

__all__ = [
    "ENVIRONMENTS",
    "Actuator",
    "BaseTask",
    "EnvDefinition",
    "EverySteps",
    "ObservationTerm",
    "OnCrossing",
    "Robot",
    "RobotSpec",
    "Task",
    "TaskChange",
    "TaskEnv",
    "TaskLike",
    "TaskSet",
    "TaskVectorEnv",
    "env_ids",
    "make_env",
    "make_vector",
    "task_set",
]


def _declared() -> dict[str, EnvDefinition]:
    """Return the environments that the files of this folder declare; raises ValueError if two have the same id."""
    declared: dict[str, EnvDefinition] = {}
    for file in pkgutil.iter_modules(__path__):
        own = getattr(importlib.import_module(f"{__name__}.{file.name}"), "ENVIRONMENTS", {})
        if twice := declared.keys() & own.keys():
            raise ValueError(f"found {', '.join(twice)} in envs/{file.name}.py and before, expected an id of its own")
        declared |= own
    return declared


ENVIRONMENTS: dict[str, EnvDefinition] = _declared()


def env_ids() -> dict[str, str]:
    """Return the ids of our environments, each with a one-line description."""
    return {env_id: definition.description for env_id, definition in ENVIRONMENTS.items()}


def task_set(env_id: str, base_tasks: Sequence[str] | None = None) -> TaskSet:
    """Return the task set of an environment, or of the named `base_tasks` of it in that order.

    Raises:
        ValueError: unknown environment or base task.
    """
    full_set = TaskSet(_definition(env_id).base_tasks)
    return full_set if base_tasks is None else full_set.subset(base_tasks)


def make_vector(
    env_id: str,
    num_envs: int = 1,
    *,
    num_threads: int = 1,
    base_tasks: Sequence[str] | None = None,
    task_change: TaskChangeLike | None = None,
    episode_steps: int | None = None,
) -> TaskVectorEnv:
    """Return `num_envs` members of an environment stepped at once.

    Args:
        env_id: one of `env_ids()`.
        num_envs: number of members.
        num_threads: threads that step physics; results do not depend on it.
        base_tasks: names to restrict and order the base tasks; None for all of the environment.
        task_change: None, a schedule, ``{"every_steps": 100}`` or
            ``{"crossing": {"quantity": "x_position", "place": 5.0}}``.
        episode_steps: steps until truncation; None for the environment's own.

    Raises:
        ValueError: unknown environment or base task, a bad number or schedule, or an extra that is not installed.
    """
    definition = _definition(env_id)
    if extra := definition.missing_extra:
        raise ValueError(f"found no package {extra!r} for {env_id}, expected it, fix: pip install 'tigr_ros[{extra}]'")
    return TaskVectorEnv(
        definition.make_robot(num_threads),
        task_set(env_id, base_tasks),
        num_envs,
        episode_steps=definition.episode_steps if episode_steps is None else episode_steps,
        task_change=task_change,
    )


def make_env(
    env_id: str,
    *,
    base_tasks: Sequence[str] | None = None,
    task_change: TaskChangeLike | None = None,
    episode_steps: int | None = None,
) -> TaskEnv:
    """Return a single environment; arguments as for `make_vector`."""
    return TaskEnv(make_vector(env_id, base_tasks=base_tasks, task_change=task_change, episode_steps=episode_steps))


def _definition(env_id: str) -> EnvDefinition:
    if env_id not in ENVIRONMENTS:
        hint = nearest(env_id, ENVIRONMENTS)
        raise ValueError(f"found environment {env_id!r}{hint}, expected one of {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[env_id]


for _env_id in ENVIRONMENTS:
    gymnasium.register(
        _env_id,
        entry_point="envs:make_env",
        vector_entry_point="envs:make_vector",
        kwargs={"env_id": _env_id},
    )
