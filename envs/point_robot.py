# SPDX-License-Identifier: Apache-2.0
"""Point robot: a point on a plane with position control, 0.1 s per step, 20 steps an episode.

Robot, reset and the task `goal` follow PEARL (Rakelly et al., arXiv 1903.08254). PEARL's point has no
clock; the control period and the velocity (displacement / control period) make it a robot like the others.

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

Reward: tracking, -|position - goal|; control = 0. The goal is

| base task              | goal                         | parameter             |
|------------------------|------------------------------|-----------------------|
| goal                   | the parameter, m             | x and y, each [-1, 1] |
| goal_left / goal_right | parameter * (-1, 0) / (1, 0) | distance, m, [0.3, 1] |
| goal_up / goal_down    | parameter * (0, 1) / (0, -1) | distance, m, [0.3, 1] |

Reset: position = U(-1, 1) along both axes, velocity 0. An episode never terminates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.appearance import Capsules, View
from envs.robot import EnvDefinition
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


class PointRobot:
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

    def __init__(self, num_threads: int = 1) -> None:
        pass

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate((rng.uniform(-START_RANGE, START_RANGE, 2), np.zeros(2)))

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        return np.concatenate((positions, velocities), axis=-1)

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.concatenate((state[:, :2] + ctrl, ctrl / CONTROL_DT), axis=1)

    def joint_positions(self, state: np.ndarray) -> np.ndarray:
        return state[:, :2]

    def joint_velocities(self, state: np.ndarray) -> np.ndarray:
        return state[:, 2:]

    def terminated(self, state: np.ndarray) -> np.ndarray:
        return np.zeros(len(state), dtype=bool)

    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"position": state[:, :2], "x_position": state[:, 0], "y_position": state[:, 1]}

    def capsules(self, positions: np.ndarray) -> Capsules:
        place = np.append(positions, 0.0)
        return Capsules(("point",), np.array([[place, place]]), np.array([DRAWN_RADIUS]))

    def close(self) -> None:
        pass


ENVIRONMENTS = {
    "tigr/PointRobot-v0": EnvDefinition(
        "point on a plane, goals anywhere in a square", PointRobot, BASE_TASKS, EPISODE_STEPS
    ),
    "tigr/PointRobotAxes-v0": EnvDefinition(
        "point on a plane, goals to the left, right, up or down", PointRobot, AXIS_BASE_TASKS, EPISODE_STEPS
    ),
}
