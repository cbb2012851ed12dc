# SPDX-License-Identifier: Apache-2.0
"""Many tasks stepped at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.robot import Robot
from envs.spec import RobotSpec
from envs.task_batch import TaskBatch, Tracking
from envs.tasks import OnCrossing, Task, TaskChangeLike, TaskLike, TaskSet, parse_task_change

StepResult = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class TaskVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N copies of a robot, each with its own task and random generator.

    Members never reset by themselves. Equal seeds, tasks and actions give equal bits whatever the number of
    members and threads. Physics that diverges shows as non-finite observations and rewards.

    Sizes: D observation, A actuators, Q and V position and velocity coordinates, P task parameters.

    `info`, after reset and after each step:

    | key            | shape       | meaning                                                                |
    |----------------|-------------|------------------------------------------------------------------------|
    | base_task      | [N] int     | label of the task that gave the reward of this step                    |
    | parameter      | [N, P]      | its parameter, padded with zeros to the longest of the task set        |
    | tracked_value  | [N]         | what the task is about; of a vector, the part along the target         |
    | tracked_target | [N]         | what it should be                                                      |
    | tracking_error | [N]         | distance of value and target, over that of target from 0 if relative   |
    | reward_terms   | name -> [N] | "tracking", "control", and "alive" or "impact" where a task of the set    |
    |                |             | has them; the reward is their sum; zero after reset                    |
    | next_base_task | [N] int     | label of the task of the next step; another if the task just changed   |

    Args:
        robot: the robot; this environment closes it.
        task_set: what tasks are drawn from.
        num_envs: N.
        episode_steps: steps after which an episode is truncated.
        task_change: when tasks change within an episode; None for never. The step at which a change falls
            due is rewarded under the old task; the member's own generator draws the new one from the set.

    Raises:
        ValueError: num_envs or episode_steps below 1, or a task change that cannot happen.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's declaration)

    def __init__(
        self,
        robot: Robot,
        task_set: TaskSet,
        num_envs: int,
        *,
        episode_steps: int,
        task_change: TaskChangeLike | None = None,
    ) -> None:
        if num_envs < 1 or episode_steps < 1:
            raise ValueError(f"found num_envs {num_envs} and episode_steps {episode_steps}, expected at least 1 each")
        self.num_envs = num_envs
        self.episode_steps = episode_steps
        self.task_set = task_set
        self._robot = robot
        self._batch = TaskBatch(task_set, robot.quantity_dims, num_envs)
        self._task_change = None if task_change is None else parse_task_change(task_change)
        self._check_task_change()
        self._check_dynamics()
        self._arranges = any(base_task.form == "world" for base_task in task_set.base_tasks)
        self.single_observation_space = Box(-np.inf, np.inf, (robot.spec.obs_dim,), np.float64)
        self.single_action_space = Box(-1.0, 1.0, (robot.spec.action_dim,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rngs: list[np.random.Generator] = []
        self._changes: dict[int, tuple[int, Task]] = {}  # member -> step after which it gets another task, and that
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._state: np.ndarray | None = None

    @property
    def spec_robot(self) -> RobotSpec:
        return self._robot.spec

    @property
    def tasks(self) -> list[Task]:
        """The current task of each member."""
        self._require_reset()
        return [task for task in self._batch.tasks if task is not None]

    @property
    def quantity_dims(self) -> Mapping[str, int]:
        """Name -> number of components of everything a task can be about."""
        return self._robot.quantity_dims

    @property
    def quantities(self) -> np.ndarray:
        """What tasks can be about, after the last step, [N, Q]: the quantities of the robot side by side."""
        self._require_reset()
        return self._flat_quantities

    @property
    def rngs(self) -> list[np.random.Generator]:
        """The random generator of each member."""
        return self._rngs

    @property
    def joint_positions(self) -> np.ndarray:
        """Joint positions [N, Q], m or rad; of a floating base first, as `RobotSpec` orders them."""
        return self._robot.joint_positions(self._require_reset()).copy()

    @property
    def joint_velocities(self) -> np.ndarray:
        """Joint velocities [N, V], m/s or rad/s; of a floating base first."""
        return self._robot.joint_velocities(self._require_reset()).copy()

    def set_task(self, index: int, task: TaskLike) -> None:
        """Give member `index` another task, from its next step on."""
        state = self._require_reset()
        self._batch.assign(index, self.task_set.parse(task))
        self._state = self._for_tasks(state, [index])

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode with every member.

        Args:
            seed: one per member; an integer s stands for s, s + 1, ...; None leaves a generator as it is.
            options: ``{"tasks": [...]}``, one per member: a Task, ``(name, parameter)``, ``{"base_task": ...,
                "parameter": ...}``, or None to draw it. Without the option every task is drawn.
                ``{"changes": [...]}``, one per member: ``(steps, task)`` to give it that task after so many steps of
                this episode, or None. The step at which a change falls due is rewarded under the old task.

        Returns:
            obs [N, D] and `info`.

        Raises:
            ValueError: unknown option, wrong number of seeds, tasks or changes, or a task the task set refuses.
        """
        tasks, changes = self._parse_options(options)
        self._seed(seed)
        # The state is drawn first: it is the same whether a task is given or drawn.
        self._state = np.stack([self._robot.initial_state(rng) for rng in self._rngs])
        for index, (task, rng) in enumerate(zip(tasks, self._rngs, strict=True)):
            self._batch.assign(index, task or self.task_set.sample(rng))
        self._state = self._for_tasks(self._state, range(self.num_envs))
        self._changes = changes
        self._steps[:] = 0
        self._quantities = self._robot.quantities(self._state, self._state)
        self._flat_quantities = self._batch.flat(self._quantities)
        tracking = self._batch.track(self._flat_quantities)
        nothing = {name: np.zeros(self.num_envs) for name in (*tracking.terms, "control")}
        return self._observe(self._state), self._info(tracking, nothing)

    def step(self, actions: np.ndarray) -> StepResult:
        """Apply actions [N, A]; entries are clipped to [-1, 1].

        Returns:
            obs [N, D], reward [N], terminated [N], truncated [N], `info`.

        Raises:
            ValueError: wrong shape or a non-finite entry; nothing has been stepped then.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        return self._step(self.spec_robot.action_to_effort(self._checked(actions, "action")))

    def step_effort(self, effort: np.ndarray) -> StepResult:
        """Apply efforts [N, A], as commands over topics carry them; otherwise as `step`."""
        return self._step(self._checked(effort, "effort"))

    def _step(self, effort: np.ndarray) -> StepResult:
        previous_state = self._require_reset()
        ctrl = self.spec_robot.effort_to_ctrl(effort)
        state = self._state = self._robot.step(previous_state, ctrl)
        previous_quantities = self._quantities
        self._quantities = self._robot.quantities(previous_state, state)
        self._flat_quantities = self._batch.flat(self._quantities)
        self._steps += 1
        tracking = self._batch.track(self._flat_quantities)
        control = self._batch.control_reward(self.spec_robot.ctrl_to_action(ctrl))
        info = self._info(tracking, {**tracking.terms, "control": control})
        if self._task_change is not None:
            due = self._task_change.due(self._steps, previous_quantities, self._quantities)
            self._change_tasks(np.flatnonzero(due))
        for index in [member for member, (steps, _) in self._changes.items() if steps == self._steps[member]]:
            self.set_task(index, self._changes.pop(index)[1])
        info["next_base_task"] = self._batch.label.copy()
        truncated = self._steps >= self.episode_steps
        terminated = self._robot.terminated(state)
        # A change of the task may have arranged the world anew, and that is what is seen.
        return self._observe(self._state), tracking.reward + control, terminated, truncated, info

    @property
    def has_scripts(self) -> bool:
        """Whether there are policies written by hand for the tasks."""
        return self._robot.has_scripts

    def scripted_actions(self) -> np.ndarray:
        """Return what policies written by hand, which know the tasks, would do now, [N, A] in [-1, 1]."""
        return self.spec_robot.ctrl_to_action(self._robot.scripted_ctrl(self._require_reset()))

    def close_extras(self, **kwargs: Any) -> None:
        self._robot.close()

    def _observe(self, state: np.ndarray) -> np.ndarray:
        return self.spec_robot.observe(self._robot.joint_positions(state), self._robot.joint_velocities(state))

    def _info(self, tracking: Tracking, reward_terms: dict[str, np.ndarray]) -> dict[str, Any]:
        return {
            "base_task": self._batch.label.copy(),
            "parameter": self._batch.parameter.copy(),
            "tracked_value": tracking.value,
            "tracked_target": tracking.target,
            "tracking_error": tracking.error,
            "reward_terms": reward_terms,
            "next_base_task": self._batch.label.copy(),
        }

    def _change_tasks(self, members: np.ndarray) -> None:
        for index in members.tolist():
            self.set_task(index, self.task_set.sample_other(self.tasks[index], self._rngs[index]))

    def _for_tasks(self, state: np.ndarray, members: Iterable[int]) -> np.ndarray:
        """Return `state` of robots whose bodies, and the worlds of `members`, are what their tasks say."""
        if self._batch.dynamics.shape[1]:
            state = self._robot.with_dynamics(state, self._batch.dynamics)
        if self._arranges:
            state = self._robot.arranged(state, {i: task for i in members if (task := self._batch.tasks[i])})
        return state

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            seeds: Sequence[int | None] = [None] * self.num_envs
        else:
            seeds = range(seed, seed + self.num_envs) if isinstance(seed, (int, np.integer)) else seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"found {len(seeds)} seeds, expected one for each of {self.num_envs} members")
        rngs = self._rngs or [seeding.np_random()[0] for _ in range(self.num_envs)]
        self._rngs = [
            rng if value is None else seeding.np_random(int(value))[0] for rng, value in zip(rngs, seeds, strict=True)
        ]

    def _parse_options(self, options: dict[str, Any] | None) -> tuple[list[Task | None], dict[int, tuple[int, Task]]]:
        options = options or {}
        if unknown := set(options) - {"tasks", "changes"}:
            raise ValueError(f"found reset option(s) {sorted(unknown)}, expected 'tasks' and 'changes' only")
        tasks, changes = ([*(options.get(name) or [None] * self.num_envs)] for name in ("tasks", "changes"))
        for name, given in (("tasks", tasks), ("changes", changes)):
            if len(given) != self.num_envs:
                raise ValueError(f"found {len(given)} {name}, expected one for each of {self.num_envs} members")
        for change in changes:
            if change is not None and (
                len(change) != 2 or not isinstance(change[0], (int, np.integer)) or change[0] < 1
            ):
                raise ValueError(
                    f"found the change {change!r}, expected (steps, task) with a step of at least 1, or None"
                )
        return (
            [None if task is None else self.task_set.parse(task) for task in tasks],
            {i: (int(c[0]), self.task_set.parse(c[1])) for i, c in enumerate(changes) if c is not None},
        )

    def _checked(self, values: np.ndarray, kind: str) -> np.ndarray:
        """Return `values` [N, A] as contiguous float64, checked for shape and finiteness."""
        array = np.ascontiguousarray(values, dtype=np.float64)
        if array.shape != self.action_space.shape:
            raise ValueError(f"found {kind} of shape {array.shape}, expected {self.action_space.shape}")
        if not np.isfinite(array).all():
            member = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise ValueError(
                f"found a non-finite {kind} {array[member].tolist()} for member {member}, "
                f"task {self.tasks[member]}, expected finite numbers, fix: look for a diverged policy"
            )
        return array

    def _check_task_change(self) -> None:
        if self._task_change is not None and not self.task_set.has_alternatives:
            raise ValueError(f"found a task change with the only task {self.task_set.names[0]!r}, expected another one")
        scalars = [name for name, dim in self._robot.quantity_dims.items() if dim == 1]
        if isinstance(self._task_change, OnCrossing) and self._task_change.quantity not in scalars:
            raise ValueError(f"found crossing quantity {self._task_change.quantity!r}, expected one of {scalars}")

    def _check_dynamics(self) -> None:
        names = self._robot.dynamics
        for base_task in self.task_set.base_tasks:
            if base_task.form == "dynamics" and base_task.parameter_dim != len(names):
                raise ValueError(
                    f"found base task {base_task.name!r} with {base_task.parameter_dim} parameters about the dynamics, "
                    f"expected one for each of the robot's {len(names)}: {', '.join(names) or 'none'}"
                )

    def _require_reset(self) -> np.ndarray:
        if self._state is None:
            raise ResetNeeded("found a call before the first reset(), expected reset() first")
        return self._state
