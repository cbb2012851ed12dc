# SPDX-License-Identifier: Apache-2.0
"""Ant: four legs and a floating base, Gymnasium's ``ant.xml``, 0.05 s per step, 200 steps.

The nine base tasks of `tigr/AntNine-v0` follow Bing et al. (arXiv 2108.03718), `goal_2D` and `direction` PEARL (arXiv
1903.08254). Forces are not observed, as they are there: a robot does not tell them.

Action (8): effort of each actuator over its largest effort; the environment clips to the range.

| index | name                          | joint       | unit    | range   |
|-------|-------------------------------|-------------|---------|---------|
| 0, 1  | hip_4, ankle_4 (leg at +x -y) | of its name | 150 N m | [-1, 1] |
| 2, 3  | hip_1, ankle_1 (leg at +x +y) | of its name | 150 N m | [-1, 1] |
| 4, 5  | hip_2, ankle_2 (leg at -x +y) | of its name | 150 N m | [-1, 1] |
| 6, 7  | hip_3, ankle_3 (leg at -x -y) | of its name | 150 N m | [-1, 1] |

Observation (29):

| index | name                                | joint                        | unit  | range       |
|-------|-------------------------------------|------------------------------|-------|-------------|
| 0-2   | root_x_position - root_z_position   | root (free)                  | m     | (-inf, inf) |
| 3-6   | root_qw_position - root_qz_position | root, unit quaternion        | 1     | [-1, 1]     |
| 7-14  | hip_1_position - ankle_4_position   | hip_1 - ankle_4 (hinge)      | rad   | (-inf, inf) |
| 15-17 | root_x_velocity - root_z_velocity   | root, along the world's axes | m/s   | (-inf, inf) |
| 18-20 | root_wx_velocity - root_wz_velocity | root, about its own axes     | rad/s | (-inf, inf) |
| 21-28 | hip_1_velocity - ankle_4_velocity   | hip_1 - ankle_4 (hinge)      | rad/s | (-inf, inf) |

Reward: the sum of tracking; control = -cost * sum(action^2); alive; and impact = -0.0005 * the sum of squares of all
contact forces [N] and torques [N m] on its bodies, each clipped to [-1, 1].

| base task                     | value                      | reward          | parameter   | cost | alive, impact |
|-------------------------------|----------------------------|-----------------|-------------|------|---------------|
| velocity_left / _right        | root velocity, (x, y), m/s | relative_square | [1, 3]      | 0.05 | no            |
| velocity_up / _down           | the same                   | relative_square | [1, 3]      | 0.05 | no            |
| goal_left / _right            | root position, (x, y), m   | relative_square | [5, 15]     | 0.05 | no            |
| goal_up / _down               | the same                   | relative_square | [5, 15]     | 0.05 | no            |
| jump                          | speed of root along z, m/s | relative        | [0.5, 2]    | 0.05 | no            |
| goal_2D                       | root position, (x, y), m   | absolute_sum    | disc of 3 m | 0.1  | impact        |
| direction_forward / _backward | root displacement / 0.05 s | along           | 0 / pi rad  | 0.5  | 1, impact     |
| direction                     | root displacement / 0.05 s | along           | [0, 2 pi]   | 0.5  | 1, impact     |

Left is along -x, right +x, up +y, down -y; the parameter is the length of the target.

Reset: positions = model's + U(-0.1, 0.1), velocities = 0.1 * N(0, 1). An episode never terminates, but for
`tigr/AntDir-v0`, where it does when the height of root leaves [0.2, 1] m.
"""

from __future__ import annotations

from functools import partial
from math import inf, pi

import numpy as np

from envs.appearance import View
from envs.floating_robot import FloatingRobot, unit_quaternion
from envs.mujoco_robot import GYMNASIUM_MODELS
from envs.robot import EnvDefinition
from envs.tasks import BaseTask

MODEL_PATH = GYMNASIUM_MODELS / "ant.xml"
FRAME_SKIP = 5
EPISODE_STEPS = 200
RESET_NOISE = 0.1
GOAL_RADIUS = 3.0  # [m]
UPRIGHT = (0.2, 1.0)  # [m]
WAYS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, 1.0), "down": (0.0, -1.0)}

IMPACT_COST = 5e-4


def _direction(name: str, low: float, high: float) -> BaseTask:
    return BaseTask(
        name,
        "mean_velocity",
        "m/s",
        low,
        high,
        "along",
        axis=(1.0, 1.0),
        form="direction",
        control_cost=0.5,
        alive=1.0,
        impact_cost=IMPACT_COST,
    )


BASE_TASKS = (
    *(BaseTask(f"velocity_{way}", "velocity", "m/s", 1, 3, "relative_square", axis) for way, axis in WAYS.items()),
    *(BaseTask(f"goal_{way}", "position", "m", 5, 15, "relative_square", axis) for way, axis in WAYS.items()),
    BaseTask("jump", "abs_z_velocity", "m/s", 0.5, 2, "relative"),
    BaseTask(
        "goal_2D",
        "position",
        "m",
        -GOAL_RADIUS,
        GOAL_RADIUS,
        "absolute_sum",
        axis=(1.0, 1.0),
        parameter_dim=2,
        in_disc=True,
        control_cost=0.1,
        impact_cost=IMPACT_COST,
    ),
    _direction("direction_forward", 0, 0),
    _direction("direction_backward", pi, pi),
    _direction("direction", 0, 2 * pi),
)


class Ant(FloatingRobot):
    """The robot.

    Args:
        num_threads: that step physics.
        heights: of the base, m; outside of them the episode ends.
    """

    view = View(across=0, up=2, low=-0.8, high=1.8, follows=True, turned=0.4, raised=0.5)

    def __init__(self, num_threads: int = 1, *, heights: tuple[float, float] = (-inf, inf)) -> None:
        super().__init__("ant", MODEL_PATH, FRAME_SKIP, num_threads)
        self.heights = heights

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        model = self._physics.model
        positions = unit_quaternion(model.qpos0 + rng.uniform(-RESET_NOISE, RESET_NOISE, model.nq))
        return self.state(positions, RESET_NOISE * rng.standard_normal(model.nv))

    def _impact(self, contact: np.ndarray) -> np.ndarray:
        return np.square(np.clip(contact, -1.0, 1.0)).sum(axis=(1, 2))


ENVIRONMENTS = {
    "tigr/AntNine-v0": EnvDefinition(
        "ant, nine base tasks: run and reach in four directions, jump", Ant, BASE_TASKS[:9], EPISODE_STEPS
    ),
    "tigr/AntGoal-v0": EnvDefinition("ant, goals within 3 m", Ant, BASE_TASKS[9:10], EPISODE_STEPS),
    "tigr/AntDir-v0": EnvDefinition(
        "ant, run in any direction, ends when it falls or turns over",
        partial(Ant, heights=UPRIGHT),
        BASE_TASKS[12:13],
        EPISODE_STEPS,
    ),
    "tigr/Ant-v0": EnvDefinition(
        "ant, all its base tasks, to choose from with base_tasks=[...]", Ant, BASE_TASKS, EPISODE_STEPS
    ),
}
