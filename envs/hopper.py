# SPDX-License-Identifier: Apache-2.0
"""Hopper: a planar robot on one leg whose body differs from task to task; 0.008 s per step, 200 steps.

Gymnasium's ``hopper.xml``. Task, reset and what differs follow hopper-rand-params of PEARL (arXiv 1903.08254), but that
inertias have one factor a body and friction one a form, not three, and that observed velocities are not clipped.

Action (3): effort of each actuator over its largest effort; the environment clips to the range.

| index | name                               | joint       | unit    | range   |
|-------|------------------------------------|-------------|---------|---------|
| 0-2   | thigh_joint, leg_joint, foot_joint | of its name | 200 N m | [-1, 1] |

Observation (11):

| index | name                                       | joint                              | unit  | range       |
|-------|--------------------------------------------|------------------------------------|-------|-------------|
| 0     | rootz_position                             | rootz (slide, height of the torso) | m     | (-inf, inf) |
| 1     | rooty_position                             | rooty (hinge, the pitch)           | rad   | (-inf, inf) |
| 2-4   | thigh_joint_position - foot_joint_position | thigh_joint - foot_joint (hinge)   | rad   | (-inf, inf) |
| 5     | rootx_velocity                             | rootx (slide)                      | m/s   | (-inf, inf) |
| 6     | rootz_velocity                             | rootz (slide)                      | m/s   | (-inf, inf) |
| 7     | rooty_velocity                             | rooty (hinge)                      | rad/s | (-inf, inf) |
| 8-10  | thigh_joint_velocity - foot_joint_velocity | thigh_joint - foot_joint (hinge)   | rad/s | (-inf, inf) |

Reward, the same in all tasks: tracking + alive + control, with tracking = rootx displacement / 0.008 s, m/s, alive = 1
and control = -0.001 * sum(action^2).

The one base task is `run`. Its parameter, each entry in [-3, 3], says how much of what the body has:

| index | changes                                      | times           |
|-------|----------------------------------------------|-----------------|
| 0-3   | mass of torso, thigh, leg and foot           | 1.5 ^ parameter |
| 4-7   | inertia of the same                          | 1.5 ^ parameter |
| 8-10  | damping of the three actuated joints         | 1.3 ^ parameter |
| 11-15 | friction of the floor and of the four bodies | 1.5 ^ parameter |

Reset: positions and velocities = model's + U(-0.005, 0.005). An episode terminates when rootz falls below 0.7 m, rooty
leaves [-0.2, 0.2] rad, or any other position or velocity [-100, 100].
"""

from __future__ import annotations

from math import inf

import numpy as np

from envs.mujoco_robot import GYMNASIUM_MODELS
from envs.robot import EnvDefinition
from envs.varied_runner import VariedRunner, run_forward

MODEL_PATH = GYMNASIUM_MODELS / "hopper.xml"
FRAME_SKIP = 4
EPISODE_STEPS = 200
LARGEST = 100.0  # [m, rad, m/s, rad/s]

BASE_TASKS = (run_forward(16),)


class Hopper(VariedRunner):
    """The robot."""

    heights = (0.7, inf)
    largest_pitch = 0.2

    def __init__(self, num_threads: int = 1) -> None:
        super().__init__("hopper", MODEL_PATH, FRAME_SKIP, num_threads)

    def terminated(self, state: np.ndarray) -> np.ndarray:
        others = np.concatenate([self.joint_positions(state)[:, 2:], self.joint_velocities(state)], axis=1)
        return super().terminated(state) | (np.abs(others) > LARGEST).any(axis=1)


ENVIRONMENTS = {
    "tigr/HopperRandParams-v0": EnvDefinition(
        "hopper, run forward with another body in each task, ends when it falls", Hopper, BASE_TASKS, EPISODE_STEPS
    )
}
