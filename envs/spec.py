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


@dataclass(frozen=True)
class ObservationTerm:
    """One entry of the observation: a joint's position or velocity plus `offset`, or `offset` alone."""

    name: str
    unit: str
    source: Source
    joint: str | None
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

    Sizes used below: N robots, J joints, D observation entries, A actuators.

    Raises:
        ValueError: an observation term or an actuator names a joint that `joints` lacks.
    """

    name: str
    joints: tuple[str, ...]
    observation: tuple[ObservationTerm, ...]
    actuators: tuple[Actuator, ...]
    control_dt: float  # [s]

    def __post_init__(self) -> None:
        named = [term.joint for term in self.observation if term.source != "constant"]
        for joint in (*named, *(actuator.joint for actuator in self.actuators)):
            if joint not in self.joints:
                raise ValueError(f"found joint {joint!r} in the spec of {self.name!r}, expected one of {self.joints}")

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
            positions: joint positions [..., J] in the order of `joints`, m or rad.
            velocities: joint velocities [..., J], m/s or rad/s.

        Returns:
            float64 [..., D] in the order of `observation`.
        """
        zero = np.zeros((*positions.shape[:-1], 1))
        return np.concatenate((positions, velocities, zero), axis=-1)[..., self._columns] + self._offsets

    def positions_in(self, obs: np.ndarray) -> np.ndarray:
        """Return the joint positions [..., J] that observations [..., D] tell.

        Raises:
            ValueError: they do not tell all of them.
        """
        told = {term.joint: i for i, term in enumerate(self.observation) if term.source == "position"}
        if missing := [joint for joint in self.joints if joint not in told]:
            raise ValueError(f"found no position of {', '.join(missing)} among the observations of {self.name!r}")
        columns = [told[joint] for joint in self.joints]
        return obs[..., columns] - self._offsets[columns]

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
        start = {"position": 0, "velocity": self.num_joints}
        return np.array(
            [
                2 * self.num_joints if term.joint is None else start[term.source] + self.joints.index(term.joint)
                for term in self.observation
            ],
            dtype=np.intp,
        )

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
