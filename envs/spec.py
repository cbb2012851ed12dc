# SPDX-License-Identifier: Apache-2.0
"""What a robot looks like from outside: joints, observation layout and actuators, as plain data.

The same `RobotSpec` assembles observations and turns actions into efforts in training and on the robot, so
neither layout nor scaling is ever written a second time. It travels inside the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

Source = Literal["position", "velocity", "constant"]
BASE_POSITION = ("x", "y", "z", "qw", "qx", "qy", "qz")  # in the world, m; orientation as a unit quaternion
BASE_VELOCITY = ("x", "y", "z", "wx", "wy", "wz")  # along the world's axes, m/s; about the base's own, rad/s


@dataclass(frozen=True)
class ObservationTerm:
    """One entry of the observation: a coordinate's position or velocity plus `offset`, or `offset` alone."""

    name: str
    unit: str
    source: Source
    joint: str | None  # or a coordinate of the floating base
    offset: float = 0.0


@dataclass(frozen=True)
class Actuator:
    """One actuator. `low` and `high` bound the control; effort = control * gear, in `effort_unit`."""

    name: str
    joint: str
    low: float
    high: float
    gear: float
    effort_unit: str = "N m"


@dataclass(frozen=True)
class RobotSpec:
    """Immutable description of a robot.

    Its coordinates are those of the floating base, if it has one (``root_x`` and so on), and then one for each joint.
    Sizes used below: N robots, J joints, D observation entries, A actuators, Q position and V velocity coordinates;
    Q = V = J without a floating base.

    Raises:
        ValueError: an observation term or an actuator names a joint that the robot lacks.
    """

    name: str
    joints: tuple[str, ...]
    observation: tuple[ObservationTerm, ...]
    actuators: tuple[Actuator, ...]
    control_dt: float  # [s]
    floating_base: str | None = None  # name of its joint
    only_simulated: bool = False  # its coordinates are no joints, or its actions no efforts, of a robot that could be

    def __post_init__(self) -> None:
        known = {"position": self.position_names, "velocity": self.velocity_names}
        named = [(term.joint, known[term.source]) for term in self.observation if term.source != "constant"]
        for joint, names in (*named, *((actuator.joint, self.joints) for actuator in self.actuators)):
            if joint not in names:
                raise ValueError(f"found joint {joint!r} in the spec of {self.name!r}, expected one of {names}")

    @property
    def position_names(self) -> tuple[str, ...]:
        """Names of the position coordinates, [Q]."""
        return (*self._base_names(BASE_POSITION), *self.joints)

    @property
    def velocity_names(self) -> tuple[str, ...]:
        """Names of the velocity coordinates, [V]."""
        return (*self._base_names(BASE_VELOCITY), *self.joints)

    def _base_names(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{self.floating_base}_{part}" for part in parts) if self.floating_base else ()

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def obs_dim(self) -> int:
        return len(self.observation)

    @property
    def action_dim(self) -> int:
        return len(self.actuators)

    def observe(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Assemble observations.

        Args:
            positions: [..., Q] in the order of `position_names`, m or rad.
            velocities: [..., V] in the order of `velocity_names`, m/s or rad/s.

        Returns:
            float64 [..., D] in the order of `observation`.
        """
        zero = np.zeros((*positions.shape[:-1], 1))
        return np.concatenate((positions, velocities, zero), axis=-1).take(self._columns, axis=-1) + self._offsets

    def positions_in(self, obs: np.ndarray) -> np.ndarray:
        """Return the positions [..., Q] that observations [..., D] tell, and zero for what they do not tell.

        Untold is where along the ground a robot is whose tasks are not about it.
        """
        told = {term.joint: i for i, term in enumerate(self.observation) if term.source == "position"}
        positions = np.zeros((*obs.shape[:-1], len(self.position_names)))
        for i, name in enumerate(self.position_names):
            if name in told:
                positions[..., i] = obs[..., told[name]] - self._offsets[told[name]]
        return positions

    def action_to_effort(self, action: np.ndarray) -> np.ndarray:
        """Clip `action` [..., A] to [-1, 1], rescale to the control range and return efforts [..., A]."""
        return (self._middle + self._half_range * np.clip(action, -1.0, 1.0)) * self._gear

    def effort_to_ctrl(self, effort: np.ndarray) -> np.ndarray:
        """Return the controls [..., A] that exert `effort` [..., A], clipped to the control range."""
        return np.clip(effort / self._gear, self._low, self._high)

    def ctrl_to_action(self, ctrl: np.ndarray) -> np.ndarray:
        """Return the actions in [-1, 1], [..., A], that `ctrl` [..., A] stands for."""
        return (ctrl - self._middle) / self._half_range

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that survive JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RobotSpec:
        """Rebuild a spec from `to_dict()`; unknown keys raise TypeError."""
        nested = {
            "joints": tuple(values["joints"]),
            "observation": tuple(ObservationTerm(**term) for term in values["observation"]),
            "actuators": tuple(Actuator(**actuator) for actuator in values["actuators"]),
        }
        return cls(**{**values, **nested})

    @cached_property
    def _columns(self) -> np.ndarray:
        """Column of [positions, velocities, 0] that each observation entry reads, [D]."""
        coordinates = [
            *(("position", name) for name in self.position_names),
            *(("velocity", name) for name in self.velocity_names),
            ("constant", None),
        ]
        return np.array([coordinates.index((term.source, term.joint)) for term in self.observation], dtype=np.intp)

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.array([term.offset for term in self.observation])

    @cached_property
    def _low(self) -> np.ndarray:
        return np.array([actuator.low for actuator in self.actuators])

    @cached_property
    def _high(self) -> np.ndarray:
        return np.array([actuator.high for actuator in self.actuators])

    @cached_property
    def _middle(self) -> np.ndarray:
        return (self._high + self._low) / 2

    @cached_property
    def _half_range(self) -> np.ndarray:
        return (self._high - self._low) / 2

    @cached_property
    def _gear(self) -> np.ndarray:
        return np.array([actuator.gear for actuator in self.actuators])
