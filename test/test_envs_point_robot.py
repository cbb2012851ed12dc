# SPDX-License-Identifier: Apache-2.0
"""Point robot: motion and rewards by hand, for a two-dimensional parameter and for one along an axis."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs import make_env, make_vector
from envs.point_robot import PointRobot


def test_motion_by_hand() -> None:
    env = make_vector("tigr/PointRobot-v0", 2)
    start, _ = env.reset(seed=0)
    obs, *_ = env.step(np.array([[1.0, -0.5], [7.0, 0.0]]))  # 7 is clipped to 1
    np.testing.assert_allclose(obs - start, [[0.1, -0.05], [0.1, 0.0]], atol=1e-15)
    np.testing.assert_allclose(env.joint_velocities, [[1.0, -0.5], [1.0, 0.0]])  # in 0.1 s
    np.testing.assert_array_equal(env.joint_positions, obs)


def test_reward_is_the_distance_to_a_goal_in_the_plane() -> None:
    env = make_env("tigr/PointRobot-v0")
    obs, info = env.reset(seed=0, options={"task": ("goal", (0.6, 0.8))})
    obs, reward, *_, info = env.step(np.zeros(2))
    assert reward == pytest.approx(-math.hypot(obs[0] - 0.6, obs[1] - 0.8))
    assert info["reward_terms"] == {"tracking": reward, "control": 0.0}
    assert info["tracked_value"] == pytest.approx(0.6 * obs[0] + 0.8 * obs[1])
    assert info["tracked_target"] == pytest.approx(1.0)
    assert info["tracking_error"] == pytest.approx(-reward)
    np.testing.assert_array_equal(info["parameter"], [0.6, 0.8])


def test_rewards_along_the_axes() -> None:
    goals = {"goal_left": (-0.5, 0), "goal_right": (0.5, 0), "goal_up": (0, 0.5), "goal_down": (0, -0.5)}
    env = make_vector("tigr/PointRobotAxes-v0", 4)
    env.reset(seed=0, options={"tasks": [(name, 0.5) for name in goals]})
    obs, reward, _, _, info = env.step(np.full((4, 2), 0.3))
    np.testing.assert_allclose(reward, -np.linalg.norm(obs - list(goals.values()), axis=1))
    np.testing.assert_allclose(info["tracked_target"], 0.5)
    np.testing.assert_allclose(info["tracked_value"], [-obs[0, 0], obs[1, 0], obs[2, 1], -obs[3, 1]])


def test_start_covers_the_square_and_an_episode_has_20_steps() -> None:
    robot = PointRobot()
    starts = np.stack([robot.initial_state(np.random.default_rng(seed)) for seed in range(500)])
    assert 0.95 < np.abs(starts[:, :2]).max() <= 1.0
    np.testing.assert_array_equal(starts[:, 2:], 0.0)
    env = make_env("tigr/PointRobot-v0")
    env.reset(seed=0)
    assert [env.step(np.zeros(2))[3] for _ in range(20)] == [False] * 19 + [True]


def test_rewards_near_a_goal_on_the_arc_and_nowhere_else() -> None:
    env = make_vector("tigr/SparsePointRobot-v0", 3)
    start, _ = env.reset(seed=0, options={"tasks": [("goal_on_arc", math.pi / 2)] * 3})
    np.testing.assert_array_equal(start, np.zeros((3, 2)))
    up = np.array([[0.0, 1.0], [0.5, 1.0], [0.0, 0.75]])
    for _ in range(10):
        obs, reward, *_, info = env.step(up)
    # At (0, 1), (0.5, 1) and (0, 0.75); the goal is at (0, 1).
    np.testing.assert_allclose(obs, [[0.0, 1.0], [0.5, 1.0], [0.0, 0.75]], atol=1e-12)
    np.testing.assert_allclose(reward, [1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(info["tracking_error"], [0.0, 0.5, 0.25], atol=1e-12)
    reward = env.step(np.array([[1.0, -1.0], [-1.0, 0.0], [0.0, 1.0]]))[1]
    np.testing.assert_allclose(reward, [1 - 0.1 * math.sqrt(2), 0.0, 0.85], atol=1e-12)
