# SPDX-License-Identifier: Apache-2.0
"""Ant and humanoid: rewards by hand, contacts and the centre of mass against mechanics, when an episode ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from envs import TaskSet, TaskVectorEnv, ant, humanoid, make_env, make_vector
from envs.ant import Ant
from envs.floating_robot import FloatingRobot
from envs.humanoid import Humanoid

ACTION = np.array([1.0, -0.5, *[0.0] * 15])  # sum of squares 1.25


def placed(robot: FloatingRobot, positions: list[float], velocities: list[float], rest: list[float]) -> np.ndarray:
    """A state [S] with the first coordinates as given and zeros else, but for its last three entries."""
    width = len(robot.spec.position_names), len(robot.spec.velocity_names)
    q, v = (
        np.pad(np.array(given), (0, n - len(given))) for given, n in zip((positions, velocities), width, strict=True)
    )
    return np.concatenate([[0.0], q, v, rest])


def scripted(robot: FloatingRobot, before: np.ndarray, after: np.ndarray) -> FloatingRobot:
    """Let a robot go from one state to the other whatever the control."""
    robot.initial_state = lambda rng: before.copy()  # type: ignore[method-assign]
    robot.step = lambda state, ctrl: np.tile(after, (len(state), 1))  # type: ignore[method-assign]
    return robot


# task, tracked value, target, error, terms of the reward; the displacement (0.1, -0.15) m in 0.05 s is (2, -3) m/s
ANT_BY_HAND: list[tuple[Any, float, float, float, tuple[float, ...]]] = [
    (("velocity_left", 2.0), -4.0, 2.0, math.sqrt(36 + 9) / 2, (-45 / 4, -0.0625, 0, 0)),
    (("velocity_right", 2.0), 4.0, 2.0, math.sqrt(4 + 9) / 2, (-13 / 4, -0.0625, 0, 0)),
    (("velocity_up", 3.0), -3.0, 3.0, math.sqrt(16 + 36) / 3, (-52 / 9, -0.0625, 0, 0)),
    (("velocity_down", 3.0), 3.0, 3.0, 4 / 3, (-16 / 9, -0.0625, 0, 0)),
    (("goal_right", 10.0), 3.0, 10.0, math.sqrt(49 + 1) / 10, (-0.5, -0.0625, 0, 0)),
    (("goal_down", 5.0), 1.0, 5.0, 1.0, (-1.0, -0.0625, 0, 0)),
    (("jump", 2.0), 1.5, 2.0, 0.25, (-0.25, -0.0625, 0, 0)),
    (("goal_2D", (0.0, 2.0)), -1.0, 2.0, math.sqrt(9 + 9), (-6.0, -0.125, 0, -0.002)),
    (("direction_forward", 0.0), 2.0, 1.0, math.sqrt(1 + 9), (2.0, -0.625, 1, -0.002)),
    (("direction_backward", math.pi), -2.0, 1.0, math.sqrt(9 + 9), (-2.0, -0.625, 1, -0.002)),
    (("direction", 1.5 * math.pi), 3.0, 1.0, math.sqrt(4 + 4), (3.0, -0.625, 1, -0.002)),
]


def test_rewards_of_the_ant_by_hand() -> None:
    robot = Ant()
    before = placed(robot, [2.9, -0.85, 0.5, 1.0], [], [0.0, 0.0, 0.0])
    after = placed(robot, [3.0, -1.0, 0.5, 1.0], [4.0, -3.0, -1.5], [0.0, 0.0, 4.0])
    env = TaskVectorEnv(scripted(robot, before, after), TaskSet(ant.BASE_TASKS), len(ANT_BY_HAND), episode_steps=9)
    env.reset(seed=0, options={"tasks": [row[0] for row in ANT_BY_HAND]})
    _, reward, terminated, _, info = env.step(np.tile(ACTION[:8], (len(ANT_BY_HAND), 1)))
    for name, column in (("tracked_value", 1), ("tracked_target", 2), ("tracking_error", 3)):
        np.testing.assert_allclose(info[name], [row[column] for row in ANT_BY_HAND], atol=1e-12)
    terms = np.array([row[4] for row in ANT_BY_HAND]).T
    for name, expected in zip(("tracking", "control", "alive", "impact"), terms, strict=True):
        np.testing.assert_allclose(info["reward_terms"][name], expected, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(reward, terms.sum(axis=0), rtol=1e-12)
    assert not terminated.any()


def test_rewards_of_the_humanoid_by_hand() -> None:
    robot = Humanoid()
    before = placed(robot, [0.0, 0.0, 1.4, 1.0], [], [1.0, 2.0, 0.0])
    after = placed(robot, [9.0, 9.0, 1.4, 1.0], [7.0, 7.0], [1.03, 1.985, 2e6])  # centre (0.03, -0.015) m further
    env = TaskVectorEnv(scripted(robot, before, after), TaskSet(humanoid.BASE_TASKS), 2, episode_steps=9)
    env.reset(seed=0, options={"tasks": [("direction", 0.0), ("direction", 0.5 * math.pi)]})
    _, reward, terminated, _, info = env.step(np.tile(ACTION, (2, 1)))
    # 0.25 * displacement / 0.003 s, 0.1 * 0.4^2 * 1.25 for control, 0.5e-6 * 2e6 for impact
    np.testing.assert_allclose(info["reward_terms"]["tracking"], [2.5, -1.25])
    np.testing.assert_allclose(info["tracked_value"], [2.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(reward, [2.5 + 5 - 0.02 - 1, -1.25 + 5 - 0.02 - 1])
    assert not terminated.any()


def test_contacts_carry_the_weight_of_an_ant_at_rest() -> None:
    robot = Ant()
    state = robot.initial_state(np.random.default_rng(0))[None]
    still = np.zeros((1, 8))
    for _ in range(200):
        state = robot.step(state, still)
    _, contact = robot._physics.forces(state[:, :-3], still)
    mass = robot._physics.model.body_mass.sum()
    assert contact[0, :, 5].sum() == pytest.approx(9.81 * mass, rel=1e-2)
    assert contact[0, 0].tolist() == [0.0] * 6, "the floor is no body of the robot"
    expected = np.square(np.clip(contact[0], -1, 1)).sum()
    assert 0.0 < expected <= 6 * 13
    assert robot.quantities(state, state)["impact"] == pytest.approx(expected)


@pytest.mark.parametrize("robot", [Ant(), Humanoid()])
def test_free_fall_by_hand(robot: FloatingRobot) -> None:
    """3 m up at (2, -1, 1) m/s without effort: the centre of mass knows nothing but gravity."""
    model = robot._physics.model
    velocities = np.zeros(model.nv)
    velocities[:3] = 2.0, -1.0, 1.0
    state = robot.state((model.qpos0 + np.eye(model.nq)[2] * 3.0)[None], velocities[None])
    after = robot.step(state, np.zeros((1, robot.spec.action_dim)))
    found, dt = robot.quantities(state, after), robot.spec.control_dt
    np.testing.assert_allclose(found["mean_centre_velocity"], [[2.0, -1.0]], atol=1e-3)
    centre, contact = robot._physics.forces(after[:, :-3], np.zeros((1, robot.spec.action_dim)))
    start, _ = robot._physics.forces(state[:, :-3], np.zeros((1, robot.spec.action_dim)))
    # Nearly: the inertia of motors, which MuJoCo adds to the joints, has no place that could fall.
    assert centre[0, 2] - start[0, 2] == pytest.approx(dt - 9.81 * dt**2 / 2, rel=1e-3)
    assert not contact.any() and found["impact"].tolist() == [0.0]


def test_the_impact_of_a_humanoid_is_bounded() -> None:
    robot = Humanoid()
    assert robot._impact(np.full((1, 14, 6), 10.0)).tolist() == [8400.0]
    assert 5e-7 * robot._impact(np.full((1, 14, 6), 1e6)) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("env_id", "heights", "ends"),
    [
        ("tigr/AntDir-v0", [0.19, 0.21, 0.99, 1.01], [True, False, False, True]),
        ("tigr/AntNine-v0", [0.19, 0.21, 0.99, 5.0], [False] * 4),
        ("tigr/HumanoidDir-v0", [0.99, 1.01, 1.99, 2.01], [True, False, False, True]),
    ],
)
def test_an_episode_ends_when_the_robot_falls_or_takes_off(env_id: str, heights: list[float], ends: list[bool]) -> None:
    robot = make_vector(env_id)._robot
    positions = np.zeros((4, len(robot.spec.position_names)))
    positions[:, 2], positions[:, 3] = heights, 1.0
    state = robot.state(positions, np.zeros((4, len(robot.spec.velocity_names))))
    assert robot.terminated(state).tolist() == ends


@pytest.mark.parametrize("env_id", ["tigr/AntNine-v0", "tigr/HumanoidDir-v0"])
def test_orientations_are_unit_quaternions_from_the_start(env_id: str) -> None:
    env = make_vector(env_id, 50)
    obs, _ = env.reset(seed=0)
    np.testing.assert_allclose(np.linalg.norm(obs[:, 3:7], axis=1), 1.0, atol=1e-12)
    assert np.unique(obs[:, 4]).size == 50


def test_a_humanoid_that_does_nothing_falls_within_an_episode() -> None:
    env = make_env("tigr/HumanoidDir-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(17))[2] for _ in range(200)]
    first = ends.index(True)
    assert 20 < first < 150 and not any(ends[:first])
