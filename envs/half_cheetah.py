# SPDX-License-Identifier: Apache-2.0
"""Half-cheetah: a planar two-legged runner, Gymnasium's ``half_cheetah.xml``, 0.05 s per step, 200 steps.

Tasks, reset and observation follow Bing et al. (arXiv 2108.03718); the direction and velocity sets PEARL
(arXiv 1903.08254).

Action (6): effort of each actuator over its largest effort; the environment clips to the range.

| index | name   | joint  | unit    | range   |
|-------|--------|--------|---------|---------|
| 0     | bthigh | bthigh | 120 N m | [-1, 1] |
| 1     | bshin  | bshin  | 90 N m  | [-1, 1] |
| 2     | bfoot  | bfoot  | 60 N m  | [-1, 1] |
| 3     | fthigh | fthigh | 120 N m | [-1, 1] |
| 4     | fshin  | fshin  | 60 N m  | [-1, 1] |
| 5     | ffoot  | ffoot  | 30 N m  | [-1, 1] |

Observation (20):

| index | name                              | joint                    | unit  | range       |
|-------|-----------------------------------|--------------------------|-------|-------------|
| 0     | rootz_position                    | rootz (slide)            | m     | (-inf, inf) |
| 1     | rooty_position                    | rooty (hinge, the pitch) | rad   | (-inf, inf) |
| 2-7   | bthigh_position - ffoot_position  | bthigh - ffoot (hinge)   | rad   | (-inf, inf) |
| 8     | rootx_velocity                    | rootx (slide)            | m/s   | (-inf, inf) |
| 9     | rootz_velocity                    | rootz (slide)            | m/s   | (-inf, inf) |
| 10    | rooty_velocity                    | rooty (hinge)            | rad/s | (-inf, inf) |
| 11-16 | bthigh_velocity - ffoot_velocity  | bthigh - ffoot (hinge)   | rad/s | (-inf, inf) |
| 17    | torso_x                           | rootx (slide)            | m     | (-inf, inf) |
| 18    | torso_y                           | none                     | m     | 0           |
| 19    | torso_z                           | rootz (slide) + 0.7      | m     | (-inf, inf) |

Reward: tracking + control, with control = -0.05 * sum(action^2) and tracking

| base task                     | value                            | reward   | parameter           |
|-------------------------------|----------------------------------|----------|---------------------|
| velocity_forward / _backward  | rootx velocity, m/s              | relative | [1, 5] / [-5, -1]   |
| goal_forward / _backward      | rootx position, m                | relative | [5, 25] / [-25, -5] |
| flip_forward                  | rooty velocity, rad/s            | relative | [2 pi, 4 pi]        |
| stand_front / stand_back      | rooty position, rad              | relative | +-[pi/6, pi/2]      |
| jump                          | speed of rootz, m/s              | relative | [1.5, 3]            |
| direction_forward / _backward | rootx displacement / 0.05 s, m/s | along    | 1 / -1              |
| velocity                      | rootx displacement / 0.05 s, m/s | absolute | [0, 3]              |

Reset: positions = model's + U(-0.1, 0.1), velocities = 0.1 * N(0, 1). An episode never terminates.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi

import numpy as np

from envs.appearance import View
from envs.mujoco_robot import GYMNASIUM_MODELS, MujocoRobot
from envs.robot import EnvDefinition
from envs.spec import ObservationTerm
from envs.tasks import BaseTask

MODEL_PATH = GYMNASIUM_MODELS / "half_cheetah.xml"
FRAME_SKIP = 5
EPISODE_STEPS = 200
RESET_NOISE = 0.1

BASE_TASKS = (
    BaseTask("velocity_forward", "x_velocity", "m/s", 1, 5, "relative"),
    BaseTask("velocity_backward", "x_velocity", "m/s", -5, -1, "relative"),
    BaseTask("goal_forward", "x_position", "m", 5, 25, "relative"),
    BaseTask("goal_backward", "x_position", "m", -25, -5, "relative"),
    BaseTask("flip_forward", "pitch_velocity", "rad/s", 2 * pi, 4 * pi, "relative"),
    BaseTask("stand_front", "pitch", "rad", pi / 6, pi / 2, "relative"),
    BaseTask("stand_back", "pitch", "rad", -pi / 2, -pi / 6, "relative"),
    BaseTask("jump", "abs_z_velocity", "m/s", 1.5, 3, "relative"),
    BaseTask("direction_forward", "mean_x_velocity", "m/s", 1, 1, "along"),
    BaseTask("direction_backward", "mean_x_velocity", "m/s", -1, -1, "along"),
    BaseTask("velocity", "mean_x_velocity", "m/s", 0, 3, "absolute"),
)


class HalfCheetah(MujocoRobot):
    """The robot; a state is MuJoCo's full physics state (time, 9 joint positions, 9 joint velocities)."""

    quantity_dims: Mapping[str, int] = {
        "x_position": 1,  # m
        "x_velocity": 1,  # m/s
        "mean_x_velocity": 1,  # m/s, displacement over the control period
        "abs_z_velocity": 1,  # m/s
        "pitch": 1,  # rad
        "pitch_velocity": 1,  # rad/s
    }
    view = View(across=0, up=2, low=-0.1, high=1.9, follows=True)

    def __init__(self, num_threads: int = 1) -> None:
        super().__init__("half_cheetah", MODEL_PATH, FRAME_SKIP, num_threads)

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        model = self._physics.model
        positions = model.qpos0 + rng.uniform(-RESET_NOISE, RESET_NOISE, model.nq)
        return self.state(positions, RESET_NOISE * rng.standard_normal(model.nv))

    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        positions, velocities = self.joint_positions(state), self.joint_velocities(state)
        displacement = positions[:, 0] - self.joint_positions(previous_state)[:, 0]
        return {
            "x_position": positions[:, 0],
            "x_velocity": velocities[:, 0],
            "mean_x_velocity": displacement / self.spec.control_dt,
            "abs_z_velocity": np.abs(velocities[:, 1]),
            "pitch": positions[:, 2],
            "pitch_velocity": velocities[:, 2],
        }

    def _observation(self) -> tuple[ObservationTerm, ...]:
        _, torso_y, torso_z = (float(offset) for offset in self._physics.model.body("torso").pos)
        return (
            *super()._observation()[1:],  # not where rootx is
            # The root joints slide along the world axes, from where the model puts the torso.
            ObservationTerm("torso_x", "m", "position", "rootx"),
            ObservationTerm("torso_y", "m", "constant", None, offset=torso_y),
            ObservationTerm("torso_z", "m", "position", "rootz", offset=torso_z),
        )


ENVIRONMENTS = {
    "tigr/HalfCheetahEight-v0": EnvDefinition(
        "half-cheetah, eight base tasks: run, reach, flip, stand, jump",
        HalfCheetah,
        BASE_TASKS[:8],
        EPISODE_STEPS,
    ),
    "tigr/HalfCheetahDir-v0": EnvDefinition(
        "half-cheetah, run forward or backward", HalfCheetah, BASE_TASKS[8:10], EPISODE_STEPS
    ),
    "tigr/HalfCheetahVel-v0": EnvDefinition(
        "half-cheetah, run at 0 to 3 m/s", HalfCheetah, BASE_TASKS[10:11], EPISODE_STEPS
    ),
    "tigr/HalfCheetah-v0": EnvDefinition(
        "half-cheetah, all its base tasks, to choose from with base_tasks=[...]",
        HalfCheetah,
        BASE_TASKS,
        EPISODE_STEPS,
    ),
}
