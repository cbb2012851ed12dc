# SPDX-License-Identifier: Apache-2.0
"""What robots look like: capsules where the model has them, and postures read back from observations."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import INSTALLED

import envs
from envs.appearance import View
from envs.half_cheetah import HalfCheetah
from envs.point_robot import PointRobot
from tigr_core.targets import target_strokes


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


@pytest.mark.parametrize("env_id", INSTALLED)
def test_observations_tell_the_posture(env_id: str) -> None:
    """All of it, or all but where along the ground a robot is whose task is to run."""
    env = envs.make_vector(env_id, 2)
    obs, _ = env.reset(seed=0)
    told = env.spec_robot.positions_in(obs)
    untold = env.spec_robot.name in ("walker", "hopper")
    np.testing.assert_allclose(told[:, untold:], env.joint_positions[:, untold:], atol=1e-12)
    assert not untold or not told[:, 0].any()
    env.close()


@pytest.mark.parametrize("env_id", INSTALLED)
def test_every_robot_and_every_target_is_in_its_picture(env_id: str) -> None:
    env, robot = envs.make_vector(env_id), envs.ENVIRONMENTS[env_id].make_robot(1)
    env.reset(seed=0)
    shown, view = robot.capsules(env.joint_positions[0]), robot.view
    right, up = view.axes
    assert abs(right @ up) < 1e-12 and np.linalg.norm([right, up], axis=1) == pytest.approx(1.0)
    foot = shown.centre * [1.0, 1.0, 0.0] @ up if view.follows and view.raised else 0.0
    height = shown.ends @ up - foot
    assert view.low <= height.min() and height.max() <= view.high
    for base_task in env.task_set.base_tasks:
        if base_task.form == "world":
            continue  # what its parameter means, Meta-World alone knows
        assert target_strokes(base_task, (base_task.high,) * base_task.parameter_dim, shown.centre)
    env.close()
    robot.close()


def test_a_camera_turned_and_raised_by_hand() -> None:
    view = View(across=0, up=2, low=0.0, high=1.0, follows=True, turned=np.pi / 2, raised=np.pi / 6)
    # It looks along -x now: y is to the right, and from 30 degrees above things further off are higher up.
    np.testing.assert_allclose(view.axes, [[0, 1, 0], [-0.5, 0, np.sqrt(0.75)]], atol=1e-12)
    assert View(across=0, up=1, low=0.0, high=1.0, follows=True).axes.tolist() == [[1, 0, 0], [0, 1, 0]]
