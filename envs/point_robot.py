# SPDX-License-Identifier: Apache-2.0
"""Point robot: a point on a plane with position control, 0.1 s per step, 20 steps an episode.

Robot, reset and the tasks `goal` and `goal_on_arc` follow PEARL (Rakelly et al., arXiv 1903.08254). PEARL's point has
no clock; the control period and the velocity (displacement / control period) make it a robot like the others.

Action (2): displacement in one step over the largest one; the environment clips to the range.

| index | name | joint | unit  | range   |
|-------|------|-------|-------|---------|
| 0     | x    | x     | 0.1 m | [-1, 1] |
| 1     | y    | y     | 0.1 m | [-1, 1] |

Observation (2):

| index | name       | joint     | unit | range       |
|-------|------------|-----------|------|-------------|
| 0     | x_position | x (slide) | m    | (-inf, inf) |
| 1     | y_position | y (slide) | m    | (-inf, inf) |

Reward: tracking; control = 0. With distance = |position - goal|, m:

| base task              | goal                         | reward                                    | parameter       |
|------------------------|------------------------------|-------------------------------------------|-----------------|
| goal                   | the parameter, m             | -distance                                 | each in [-1, 1] |
| goal_left / goal_right | parameter * (-1, 0) / (1, 0) | -distance                                 | m, [0.3, 1]     |
| goal_up / goal_down    | parameter * (0, 1) / (0, -1) | -distance                                 | m, [0.3, 1]     |
| goal_on_arc            | on the circle of radius 1 m  | 1 - distance where that is <= 0.2 m, or 0 | rad, [0, pi]    |

Reset: velocity 0; position = U(-1, 1) along both axes, in the sparse environment the origin. An episode never
terminates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import pi

import numpy as np

from envs.appearance import WORLD, Capsules, Link, View
from envs.robot import EnvDefinition, Robot
from envs.spec import Actuator, ObservationTerm, RobotSpec
from envs.tasks import BaseTask

CONTROL_DT = 0.1  # [s]
EPISODE_STEPS = 20
START_RANGE = 1.0  # [m]
DRAWN_RADIUS = 0.05  # [m]

BASE_TASKS = (BaseTask("goal", "position", "m", -1, 1, "absolute", axis=(1.0, 1.0), parameter_dim=2, control_cost=0.0),)
AXIS_BASE_TASKS = (
    BaseTask("goal_left", "position", "m", 0.3, 1, "absolute", axis=(-1.0, 0.0), control_cost=0.0),
    BaseTask("goal_right", "position", "m", 0.3, 1, "absolute", axis=(1.0, 0.0), control_cost=0.0),
    BaseTask("goal_up", "position", "m", 0.3, 1, "absolute", axis=(0.0, 1.0), control_cost=0.0),
    BaseTask("goal_down", "position", "m", 0.3, 1, "absolute", axis=(0.0, -1.0), control_cost=0.0),
)
SPARSE_BASE_TASKS = (
    BaseTask(
        "goal_on_arc", "position", "m", 0, pi, "within", form="direction", axis=(1.0, 1.0), reach=0.2, control_cost=0.0
    ),
)


def _ball(place: np.ndarray) -> Capsules:
    return Capsules(("point",), np.array([[place, place]]), np.array([DRAWN_RADIUS]))


class PointRobot(Robot):
    """The robot; a state is (x, y, x velocity, y velocity). It has no use for threads."""

    spec = RobotSpec(
        name="point_robot",
        joints=("x", "y"),
        observation=tuple(ObservationTerm(f"{joint}_position", "m", "position", joint) for joint in ("x", "y")),
        actuators=tuple(Actuator(joint, joint, -0.1, 0.1, gear=1.0, effort_unit="m") for joint in ("x", "y")),
        control_dt=CONTROL_DT,
    )
    quantity_dims: Mapping[str, int] = {"position": 2, "x_position": 1, "y_position": 1}  # all in m
    view = View(across=0, up=1, low=-1.1, high=1.1, follows=False)
    links = (
        Link("point_x", WORLD, "slide", "x", np.eye(3)[0], np.zeros(3), np.eye(3), None, Capsules.none()),
        Link("point", "point_x", "slide", "y", np.eye(3)[1], np.zeros(3), np.eye(3), None, _ball(np.zeros(3))),
    )

    def __init__(self, num_threads: int = 1, *, start_range: float = START_RANGE) -> None:
        self._start_range = start_range  # [m]

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate((rng.uniform(-self._start_range, self._start_range, 2), np.zeros(2)))

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        return np.concatenate((positions, velocities), axis=-1)

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.concatenate((state[:, :2] + ctrl, ctrl / CONTROL_DT), axis=1)

    def joint_positions(self, state: np.ndarray) -> np.ndarray:
        return state[:, :2]

    def joint_velocities(self, state: np.ndarray) -> np.ndarray:
        return state[:, 2:]

    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"position": state[:, :2], "x_position": state[:, 0], "y_position": state[:, 1]}

    def capsules(self, positions: np.ndarray) -> Capsules:
        return _ball(np.append(positions, 0.0))


ENVIRONMENTS = {
    "tigr/PointRobot-v0": EnvDefinition(
        "point on a plane, goals anywhere in a square", PointRobot, BASE_TASKS, EPISODE_STEPS
    ),
    "tigr/PointRobotAxes-v0": EnvDefinition(
        "point on a plane, goals to the left, right, up or down", PointRobot, AXIS_BASE_TASKS, EPISODE_STEPS
    ),
    "tigr/SparsePointRobot-v0": EnvDefinition(
        "point on a plane, goals on a half circle, a reward only near them",
        partial(PointRobot, start_range=0.0),
        SPARSE_BASE_TASKS,
        EPISODE_STEPS,
    ),
}
