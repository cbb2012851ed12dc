# SPDX-License-Identifier: Apache-2.0
"""Robots that are a MuJoCo model: what they have in common, so that a robot's file tells what is its own."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from envs.appearance import Capsules, Link
from envs.mujoco_links import read_links
from envs.mujoco_physics import MujocoPhysics
from envs.robot import Robot
from envs.spec import BASE_POSITION, BASE_VELOCITY, Actuator, ObservationTerm, RobotSpec

GYMNASIUM_MODELS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
JOINTS = mujoco.mjtJoint
UNITS = {int(JOINTS.mjJNT_SLIDE): "m", int(JOINTS.mjJNT_HINGE): "rad"}


class MujocoRobot(Robot):
    """A robot whose state is MuJoCo's: time, positions, velocities. Its joints are slides, hinges, and a free root.

    A subclass adds `quantity_dims`, `view`, `initial_state` and `quantities`, and whatever else is its own. Positions
    and velocities are observed, all of them unless `_observation` says otherwise.

    Args:
        name: of the robot.
        model_path: MJCF file; bodies are capsules and spheres.
        frame_skip: physics steps in one control period.
        num_threads: that step physics.

    Raises:
        ValueError: the model has a ball joint, or a free one that is not the first.
    """

    def __init__(self, name: str, model_path: Path, frame_skip: int, num_threads: int) -> None:
        self._physics = MujocoPhysics(model_path, frame_skip=frame_skip, num_threads=num_threads)
        model = self._physics.model
        floats = model.jnt_type[0] == JOINTS.mjJNT_FREE
        if not np.isin(model.jnt_type[int(floats) :], [JOINTS.mjJNT_SLIDE, JOINTS.mjJNT_HINGE]).all():
            raise ValueError(
                f"found a ball joint or a second floating base in {model_path}, expected slides and hinges"
            )
        names = tuple(model.joint(i).name for i in range(model.njnt))
        self.spec = RobotSpec(
            name,
            names[int(floats) :],
            self._observation(),
            tuple(self._actuator(i) for i in range(model.nu)),
            self._physics.control_dt,
            floating_base=names[0] if floats else None,
        )

    @cached_property
    def links(self) -> tuple[Link, ...]:
        return read_links(self._physics.model)

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        return self._physics.state(positions, velocities)

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return self._physics.step(state, ctrl)

    def joint_positions(self, state: np.ndarray) -> np.ndarray:
        return self._physics.positions(state)

    def joint_velocities(self, state: np.ndarray) -> np.ndarray:
        return self._physics.velocities(state)

    def capsules(self, positions: np.ndarray) -> Capsules:
        return self._physics.capsules(positions)

    def close(self) -> None:
        self._physics.close()

    def _observation(self) -> tuple[ObservationTerm, ...]:
        """Return what is observed: all positions, then all velocities."""
        model = self._physics.model
        joints = [(model.joint(i).name, int(model.jnt_type[i])) for i in range(model.njnt)]
        return (
            *(term for name, kind in joints for term in _position_terms(name, kind)),
            *(term for name, kind in joints for term in _velocity_terms(name, kind)),
        )

    def _actuator(self, i: int) -> Actuator:
        model = self._physics.model
        joint = model.joint(model.actuator_trnid[i, 0]).name
        low, high = (float(end) for end in model.actuator_ctrlrange[i])
        return Actuator(model.actuator(i).name or joint, joint, low, high, gear=float(model.actuator_gear[i, 0]))


def _position_terms(joint: str, kind: int) -> list[ObservationTerm]:
    """A free joint is observed as its place, m, and its orientation, a unit quaternion."""
    if kind == JOINTS.mjJNT_FREE:
        units = dict(zip(BASE_POSITION, ("m", "m", "m", "", "", "", ""), strict=True))
        return [ObservationTerm(f"{joint}_{c}_position", unit, "position", f"{joint}_{c}") for c, unit in units.items()]
    return [ObservationTerm(f"{joint}_position", UNITS[kind], "position", joint)]


def _velocity_terms(joint: str, kind: int) -> list[ObservationTerm]:
    if kind == JOINTS.mjJNT_FREE:
        units = dict(zip(BASE_VELOCITY, (*["m/s"] * 3, *["rad/s"] * 3), strict=True))
        return [ObservationTerm(f"{joint}_{c}_velocity", unit, "velocity", f"{joint}_{c}") for c, unit in units.items()]
    return [ObservationTerm(f"{joint}_velocity", f"{UNITS[kind]}/s", "velocity", joint)]
