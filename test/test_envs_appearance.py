# SPDX-License-Identifier: Apache-2.0
"""What robots look like: capsules where the model has them, and postures read back from observations."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from envs.half_cheetah import HalfCheetah
from envs.point_robot import PointRobot


def test_the_half_cheetah_stands_where_its_model_puts_it() -> None:
    robot = HalfCheetah()
    shown = robot.capsules(np.zeros(9))
    assert shown.names == ("torso", "head", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    np.testing.assert_allclose(np.sort(shown.ends[0], axis=0), [[-0.5, 0, 0.7], [0.5, 0, 0.7]], atol=1e-12)
    assert shown.radius == pytest.approx(0.046)
    lowest = (shown.ends[:, :, 2] - shown.radius[:, None]).min()
    assert lowest == pytest.approx(0.0764, abs=1e-4), "it starts a little above the floor"
    robot.close()


def test_root_joints_move_and_turn_all_of_it() -> None:
    robot = HalfCheetah()
    moved = robot.capsules(np.array([3.0, 0.5, np.pi / 2, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(moved.centre, [3.0, 0.0, 1.2], atol=1e-12)
    # A quarter turn about y takes the nose, which points along x, straight down.
    front, back = moved.ends[0][np.argsort(moved.ends[0, :, 2])]
    np.testing.assert_allclose([back, front], [[3.0, 0, 1.7], [3.0, 0, 0.7]], atol=1e-12)
    head = moved.ends[1].mean(axis=0)
    assert head[2] < 0.7, "the head is at the front, and below now"
    robot.close()


def test_the_point_is_a_small_ball() -> None:
    shown = PointRobot().capsules(np.array([0.3, -0.2]))
    np.testing.assert_allclose(shown.ends[0], [[0.3, -0.2, 0.0]] * 2)


@pytest.mark.parametrize("env_id", ["tigr/HalfCheetahEight-v0", "tigr/PointRobotAxes-v0"])
def test_observations_tell_the_posture(env_id: str) -> None:
    env = envs.make_vector(env_id, 2)
    obs, _ = env.reset(seed=0)
    np.testing.assert_allclose(env.spec_robot.positions_in(obs), env.joint_positions, atol=1e-12)
    env.close()


def test_a_joint_that_is_not_observed_is_named() -> None:
    env = envs.make_vector("tigr/PointRobotAxes-v0")
    spec = env.spec_robot
    partly = type(spec)(spec.name, spec.joints, spec.observation[:1], spec.actuators, spec.control_dt)
    with pytest.raises(ValueError, match="no position of y"):
        partly.positions_in(np.zeros((1, 1)))
    env.close()
