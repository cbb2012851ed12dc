# SPDX-License-Identifier: Apache-2.0
"""Planar runners whose bodies differ from task to task: what walker and hopper have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from envs.appearance import View
from envs.mujoco_dynamics import Dynamics, Variants
from envs.mujoco_robot import MujocoRobot
from envs.spec import ObservationTerm
from envs.tasks import BaseTask

RESET_NOISE = 0.005
LARGEST_EXPONENT = 3.0


def run_forward(num_dynamics: int) -> BaseTask:
    """Return the one base task there is: run forward, as fast as possible, with whatever body."""
    return BaseTask(
        "run",
        "mean_x_velocity",
        "m/s",
        -LARGEST_EXPONENT,
        LARGEST_EXPONENT,
        "along",
        parameter_dim=num_dynamics,
        form="dynamics",
        control_cost=1e-3,
        alive=1.0,
    )


class VariedRunner(MujocoRobot):
    """A runner in the x-z plane. A state is MuJoCo's, then the exponents of its dynamics; zero is Gymnasium's model."""

    quantity_dims: Mapping[str, int] = {
        "x_position": 1,  # m
        "x_velocity": 1,  # m/s
        "mean_x_velocity": 1,  # m/s, displacement over the control period
    }
    view = View(across=0, up=2, low=-0.1, high=2.3, follows=True)
    heights: tuple[float, float]  # of the torso, m; outside of them the episode ends
    largest_pitch: float  # [rad]

    def __init__(self, name: str, model_path: Path, frame_skip: int, num_threads: int) -> None:
        super().__init__(name, model_path, frame_skip, num_threads)
        self._dynamics = Dynamics(self._physics.model)
        self.dynamics = self._dynamics.names
        self._variants = Variants(self._physics.model, self._dynamics, 0)

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        model = self._physics.model
        positions = model.qpos0 + rng.uniform(-RESET_NOISE, RESET_NOISE, model.nq)
        return self.state(positions, rng.uniform(-RESET_NOISE, RESET_NOISE, model.nv))

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        nominal = np.zeros((*positions.shape[:-1], len(self.dynamics)))
        return np.concatenate([super().state(positions, velocities), nominal], axis=-1)

    def with_dynamics(self, state: np.ndarray, dynamics: np.ndarray) -> np.ndarray:
        return np.concatenate([state[:, : -len(self.dynamics)], dynamics], axis=1)

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        physical, exponents = np.split(state, [-len(self.dynamics)], axis=1)
        if len(self._variants.models) != len(state):
            self._variants = Variants(self._physics.model, self._dynamics, len(state))
        self._variants.update(exponents)
        after = self._physics.step(np.ascontiguousarray(physical), ctrl, self._variants.models)
        return np.concatenate([after, exponents], axis=1)

    def terminated(self, state: np.ndarray) -> np.ndarray:
        height, pitch = self.joint_positions(state)[:, 1:3].T
        return (height < self.heights[0]) | (height > self.heights[1]) | (np.abs(pitch) > self.largest_pitch)

    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        place = self.joint_positions(state)[:, 0]
        displacement = place - self.joint_positions(previous_state)[:, 0]
        return {
            "x_position": place,
            "x_velocity": self.joint_velocities(state)[:, 0],
            "mean_x_velocity": displacement / self.spec.control_dt,
        }

    def _observation(self) -> tuple[ObservationTerm, ...]:
        return super()._observation()[1:]  # not where rootx is
