# SPDX-License-Identifier: Apache-2.0
"""Walker: a planar robot on two legs whose body differs from task to task; 0.01 s per step, 200 steps.

Gymnasium's ``walker2d.xml``. Task, reset and what differs follow walker-rand-params of PEARL (arXiv 1903.08254), but
that inertias have one factor a body and friction one a form, not three, and that observed velocities are not clipped.

Action (6): effort of each actuator over its largest effort; the environment clips to the range.

| index | name                                              | joint       | unit    | range   |
|-------|---------------------------------------------------|-------------|---------|---------|
| 0-2   | thigh_joint, leg_joint, foot_joint                | of its name | 100 N m | [-1, 1] |
| 3-5   | thigh_left_joint, leg_left_joint, foot_left_joint | of its name | 100 N m | [-1, 1] |

Observation (17):

| index | name                                            | joint                              | unit  | range       |
|-------|-------------------------------------------------|------------------------------------|-------|-------------|
| 0     | rootz_position                                  | rootz (slide, height of the torso) | m     | (-inf, inf) |
| 1     | rooty_position                                  | rooty (hinge, the pitch)           | rad   | (-inf, inf) |
| 2-7   | thigh_joint_position - foot_left_joint_position | of its name (hinge)                | rad   | (-inf, inf) |
| 8     | rootx_velocity                                  | rootx (slide)                      | m/s   | (-inf, inf) |
| 9     | rootz_velocity                                  | rootz (slide)                      | m/s   | (-inf, inf) |
| 10    | rooty_velocity                                  | rooty (hinge)                      | rad/s | (-inf, inf) |
| 11-16 | thigh_joint_velocity - foot_left_joint_velocity | of its name (hinge)                | rad/s | (-inf, inf) |

Reward, the same in all tasks: tracking + alive + control, with tracking = rootx displacement / 0.01 s, m/s, alive = 1
and control = -0.001 * sum(action^2).

The one base task is `run`. Its parameter, each entry in [-3, 3], says how much of what the body has:

| index | changes                                           | times           |
|-------|---------------------------------------------------|-----------------|
| 0-6   | mass of torso, thigh, leg, foot and the left ones | 1.5 ^ parameter |
| 7-13  | inertia of the same                               | 1.5 ^ parameter |
| 14-19 | damping of the six actuated joints                | 1.3 ^ parameter |
| 20-27 | friction of the floor and of the seven bodies     | 1.5 ^ parameter |

Reset: positions and velocities = model's + U(-0.005, 0.005). An episode terminates when rootz leaves [0.8, 2] m or
rooty [-1, 1] rad.
"""

from __future__ import annotations

from envs.mujoco_robot import GYMNASIUM_MODELS
from envs.robot import EnvDefinition
from envs.varied_runner import VariedRunner, run_forward

MODEL_PATH = GYMNASIUM_MODELS / "walker2d.xml"
FRAME_SKIP = 5
EPISODE_STEPS = 200

BASE_TASKS = (run_forward(28),)


class Walker(VariedRunner):
    """The robot."""

    heights = (0.8, 2.0)
    largest_pitch = 1.0

    def __init__(self, num_threads: int = 1) -> None:
        super().__init__("walker", MODEL_PATH, FRAME_SKIP, num_threads)


ENVIRONMENTS = {
    "tigr/WalkerRandParams-v0": EnvDefinition(
        "walker, run forward with another body in each task, ends when it falls", Walker, BASE_TASKS, EPISODE_STEPS
    )
}
