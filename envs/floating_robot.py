# SPDX-License-Identifier: Apache-2.0
"""Robots whose base moves freely: what ant and humanoid have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from math import inf

import numpy as np

from envs.mujoco_robot import MujocoRobot


class FloatingRobot(MujocoRobot):
    """A robot with a floating base. A state is MuJoCo's, then x and y of the centre of mass, m, and the impact.

    The last three hold for the state and the control that led to it; at rest where there was none. A subclass adds
    `initial_state`, and says with `_impact` what contacts cost.
    """

    quantity_dims: Mapping[str, int] = {
        "position": 2,  # of the base, m
        "velocity": 2,  # m/s
        "mean_velocity": 2,  # m/s, displacement over the control period
        "mean_centre_velocity": 2,  # m/s, the same of the centre of mass
        "abs_z_velocity": 1,  # m/s
        "x_position": 1,  # m
        "y_position": 1,  # m
        "impact": 1,
    }
    heights = (-inf, inf)  # of the base, m; outside of them the episode ends

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        state = super().state(positions, velocities)
        flat = state.reshape(-1, state.shape[-1])
        return self._with_forces(flat, np.zeros((len(flat), self.spec.action_dim))).reshape(*state.shape[:-1], -1)

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return self._with_forces(super().step(np.ascontiguousarray(state[:, :-3]), ctrl), ctrl)

    def terminated(self, state: np.ndarray) -> np.ndarray:
        height = self.joint_positions(state)[:, 2]
        return (height < self.heights[0]) | (height > self.heights[1])

    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        positions, velocities = self.joint_positions(state), self.joint_velocities(state)
        displacement = positions[:, :2] - self.joint_positions(previous_state)[:, :2]
        return {
            "position": positions[:, :2],
            "velocity": velocities[:, :2],
            "mean_velocity": displacement / self.spec.control_dt,
            "mean_centre_velocity": (state[:, -3:-1] - previous_state[:, -3:-1]) / self.spec.control_dt,
            "abs_z_velocity": np.abs(velocities[:, 2]),
            "x_position": positions[:, 0],
            "y_position": positions[:, 1],
            "impact": state[:, -1],
        }

    @abstractmethod
    def _impact(self, contact: np.ndarray) -> np.ndarray:
        """Return the quantity ``impact`` [N] of torques and forces [N, bodies, 6] by contacts."""

    def _with_forces(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        centre, contact = self._physics.forces(state, ctrl)
        return np.concatenate([state, centre[:, :2], self._impact(contact)[:, None]], axis=1)


def unit_quaternion(positions: np.ndarray) -> np.ndarray:
    """Return positions [Q] of a floating base and joints with the orientation scaled to length one."""
    scaled = positions.copy()
    scaled[3:7] /= np.linalg.norm(scaled[3:7])
    return scaled
