# SPDX-License-Identifier: Apache-2.0
"""Humanoid: two legs, two arms and a floating base, Gymnasium's ``humanoid.xml``, 0.015 s per step, 200 steps.

Task and reset follow PEARL (arXiv 1903.08254). It observes inertias and forces of all bodies as well; here is observed
what a robot can tell.

Action (17): effort of each actuator over its largest effort; the environment clips to the range.

| index | name                                          | joint       | unit            | range   |
|-------|-----------------------------------------------|-------------|-----------------|---------|
| 0-2   | abdomen_y, abdomen_z, abdomen_x               | of its name | 40 N m          | [-1, 1] |
| 3, 4  | right_hip_x, right_hip_z                      | of its name | 40 N m          | [-1, 1] |
| 5     | right_hip_y                                   | of its name | 120 N m         | [-1, 1] |
| 6     | right_knee                                    | of its name | 80 N m          | [-1, 1] |
| 7-10  | left_hip_x, left_hip_z, left_hip_y, left_knee | of its name | as on the right | [-1, 1] |
| 11-13 | right_shoulder1, right_shoulder2, right_elbow | of its name | 10 N m          | [-1, 1] |
| 14-16 | left_shoulder1, left_shoulder2, left_elbow    | of its name | 10 N m          | [-1, 1] |

Observation (47):

| index | name                                     | joint                          | unit  | range       |
|-------|------------------------------------------|--------------------------------|-------|-------------|
| 0-2   | root_x_position - root_z_position        | root (free)                    | m     | (-inf, inf) |
| 3-6   | root_qw_position - root_qz_position      | root, unit quaternion          | 1     | [-1, 1]     |
| 7-23  | abdomen_z_position - left_elbow_position | abdomen_z - left_elbow (hinge) | rad   | (-inf, inf) |
| 24-26 | root_x_velocity - root_z_velocity        | root, along the world's axes   | m/s   | (-inf, inf) |
| 27-29 | root_wx_velocity - root_wz_velocity      | root, about its own axes       | rad/s | (-inf, inf) |
| 30-46 | abdomen_z_velocity - left_elbow_velocity | abdomen_z - left_elbow (hinge) | rad/s | (-inf, inf) |

Reward: the sum of

| term     | value                                                                                              |
|----------|----------------------------------------------------------------------------------------------------|
| tracking | 1.25 * displacement of the centre of mass / 0.015 s along the direction, m/s                       |
| alive    | 5                                                                                                  |
| control  | -0.1 * sum(u^2) with u = 0.4 * action, which is -0.016 * sum(action^2)                             |
| impact   | -5e-7 * the sum of squares of all contact forces [N] and torques [N m] on its bodies, at least -10 |

The one base task is `direction`, its parameter an angle from the x axis on, [0, 2 pi] rad.

Reset: positions and velocities = model's + U(-0.01, 0.01). An episode terminates when the height of root leaves
[1, 2] m.
"""

from __future__ import annotations

from math import pi

import numpy as np

from envs.appearance import View
from envs.floating_robot import FloatingRobot, unit_quaternion
from envs.mujoco_robot import GYMNASIUM_MODELS
from envs.robot import EnvDefinition
from envs.tasks import BaseTask

MODEL_PATH = GYMNASIUM_MODELS / "humanoid.xml"
FRAME_SKIP = 5
EPISODE_STEPS = 200
RESET_NOISE = 0.01
IMPACT_COST, MOST_IMPACT = 5e-7, 10.0

BASE_TASKS = (
    BaseTask(
        "direction",
        "mean_centre_velocity",
        "m/s",
        0,
        2 * pi,
        "along",
        axis=(1.25, 1.25),
        form="direction",
        control_cost=0.016,
        alive=5.0,
        impact_cost=IMPACT_COST,
    ),
)


class Humanoid(FloatingRobot):
    """The robot."""

    view = View(across=0, up=2, low=-0.4, high=2.2, follows=True, turned=0.6, raised=0.3)
    heights = (1.0, 2.0)

    def __init__(self, num_threads: int = 1) -> None:
        super().__init__("humanoid", MODEL_PATH, FRAME_SKIP, num_threads)

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        model = self._physics.model
        positions = unit_quaternion(model.qpos0 + rng.uniform(-RESET_NOISE, RESET_NOISE, model.nq))
        return self.state(positions, rng.uniform(-RESET_NOISE, RESET_NOISE, model.nv))

    def _impact(self, contact: np.ndarray) -> np.ndarray:
        return np.minimum(np.square(contact).sum(axis=(1, 2)), MOST_IMPACT / IMPACT_COST)


ENVIRONMENTS = {
    "tigr/HumanoidDir-v0": EnvDefinition(
        "humanoid, run in any direction, ends when it falls", Humanoid, BASE_TASKS, EPISODE_STEPS
    )
}
