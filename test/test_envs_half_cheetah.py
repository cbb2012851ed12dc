# SPDX-License-Identifier: Apache-2.0
"""Half-cheetah: observation against MuJoCo, rewards and free fall against numbers computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import numpy as np
import pytest

from envs import TaskSet, TaskVectorEnv, make_env, make_vector
from envs.half_cheetah import BASE_TASKS, MODEL_PATH, HalfCheetah
from envs.mujoco_physics import load_model

JOINTS = ("rootx", "rootz", "rooty", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
DT = 0.05

BEFORE = np.zeros(19)  # time, positions, velocities
BEFORE[1] = 2.9
AFTER = np.array([DT, 3.0, -0.1, 0.5, *[0.0] * 6, 4.0, -2.0, 6.0, *[0.0] * 6])
ACTION = np.array([2.0, -0.5, 0.0, 0.0, 0.1, 0.0])  # 2.0 is clipped to 1: sum of squares 1.26
CONTROL = -0.05 * 1.26


class ScriptedCheetah(HalfCheetah):
    """Goes from BEFORE to AFTER whatever the control."""

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        return BEFORE.copy()

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.tile(AFTER, (len(state), 1))


# task, tracked value, target, error, tracking reward; displacement 0.1 m in 0.05 s is 2 m/s
HAND_COMPUTED = [
    (("velocity_forward", 5.0), 4.0, 5.0, 0.2, -0.2),
    (("velocity_backward", -2.0), 4.0, -2.0, 3.0, -3.0),
    (("goal_forward", 12.0), 3.0, 12.0, 0.75, -0.75),
    (("goal_backward", -6.0), 3.0, -6.0, 1.5, -1.5),
    (("flip_forward", 8.0), 6.0, 8.0, 0.25, -0.25),
    (("stand_front", 1.0), 0.5, 1.0, 0.5, -0.5),
    (("stand_back", -1.0), 0.5, -1.0, 1.5, -1.5),
    (("jump", 2.5), 2.0, 2.5, 0.2, -0.2),
    (("direction_forward", 1.0), 2.0, 1.0, 1.0, 2.0),
    (("direction_backward", -1.0), 2.0, -1.0, 3.0, -2.0),
    (("velocity", 0.5), 2.0, 0.5, 1.5, -1.5),
]


def test_rewards_of_every_base_task_by_hand() -> None:
    env = TaskVectorEnv(ScriptedCheetah(), TaskSet(BASE_TASKS), len(HAND_COMPUTED), episode_steps=200)
    env.reset(seed=0, options={"tasks": [row[0] for row in HAND_COMPUTED]})
    _, reward, _, _, info = env.step(np.tile(ACTION, (len(HAND_COMPUTED), 1)))
    value, target, error, tracking = np.array([row[1:] for row in HAND_COMPUTED]).T
    np.testing.assert_allclose(info["tracked_value"], value, rtol=1e-12)
    np.testing.assert_allclose(info["tracked_target"], target, rtol=1e-12)
    np.testing.assert_allclose(info["tracking_error"], error, rtol=1e-12)
    np.testing.assert_allclose(info["reward_terms"]["tracking"], tracking, rtol=1e-12)
    np.testing.assert_allclose(info["reward_terms"]["control"], CONTROL, rtol=1e-12)
    np.testing.assert_allclose(reward, tracking + CONTROL, rtol=1e-12)
    assert info["base_task"].tolist() == list(range(11))


def test_parameter_ranges() -> None:
    ranges = {base_task.name: (base_task.low, base_task.high) for base_task in BASE_TASKS}
    assert ranges["flip_forward"] == pytest.approx((6.283185, 12.566371))
    assert ranges["stand_back"] == pytest.approx((-1.570796, -0.523599))
    names = ("velocity_forward", "goal_backward", "jump", "velocity")
    assert [ranges[name] for name in names] == [(1, 5), (-25, -5), (1.5, 3), (0, 3)]


def test_observation_names_stand_where_their_values_are() -> None:
    spec = HalfCheetah().spec
    assert spec.joints == JOINTS
    assert [term.name for term in spec.observation] == [
        *(f"{joint}_position" for joint in JOINTS[1:]),
        *(f"{joint}_velocity" for joint in JOINTS),
        *("torso_x", "torso_y", "torso_z"),
    ]
    assert [term.unit for term in spec.observation] == [
        *("m", *["rad"] * 7),
        *("m/s", "m/s", *["rad/s"] * 7),
        *["m"] * 3,
    ]
    positions, velocities = np.arange(9.0)[None], 10 + np.arange(9.0)[None]
    expected = [*range(1, 9), *range(10, 19), 0.0, 0.0, 1.7]
    np.testing.assert_array_equal(spec.observe(positions, velocities)[0], expected)


def test_torso_position_is_what_kinematics_say() -> None:
    model = load_model(MODEL_PATH)
    data = mujoco.MjData(model)
    env = make_vector("tigr/HalfCheetah-v0", 5)
    obs, _ = env.reset(seed=3)
    obs, *_ = env.step(env.action_space.sample())
    for row, positions in zip(obs, env.joint_positions, strict=True):
        data.qpos[:] = positions
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(row[17:], data.body("torso").xpos, atol=1e-14)


def test_reset_noise() -> None:
    env = make_vector("tigr/HalfCheetah-v0", 500)
    env.reset(seed=0)
    assert np.abs(env.joint_positions).max() <= 0.1
    assert env.joint_positions.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert env.joint_velocities.std() == pytest.approx(0.1, rel=0.05)


def test_free_fall_by_hand() -> None:
    """5 m up at 3 m/s, legs at rest: five times, MuJoCo adds g * 0.01 s to the velocity, then moves."""
    robot = HalfCheetah()
    state = np.zeros((1, 19))
    state[0, 2], state[0, 10] = 5.0, 3.0
    after = robot.step(state, np.zeros((1, 6)))
    quantities = robot.quantities(state, after)
    assert quantities["x_velocity"][0] == pytest.approx(3.0)
    assert quantities["mean_x_velocity"][0] == pytest.approx(3.0)
    assert quantities["x_position"][0] == pytest.approx(0.15)
    assert quantities["abs_z_velocity"][0] == pytest.approx(9.81 * 0.05)
    assert robot.joint_positions(after)[0, 1] == pytest.approx(5.0 - 9.81 * 0.01**2 * (1 + 2 + 3 + 4 + 5))
    assert robot.joint_velocities(after)[0, 2:] == pytest.approx(np.zeros(7), abs=1e-9)


def test_an_episode_has_200_steps_and_never_terminates() -> None:
    env = make_env("tigr/HalfCheetahEight-v0")
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(False, True)]


def test_diverged_physics_shows_as_nan_and_stays_with_its_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log there

    class Unstable(HalfCheetah):
        def initial_state(self, rng: np.random.Generator) -> np.ndarray:
            state = super().initial_state(rng)
            state[12] = 1e12 if rng.integers(2) else 0.0  # pitch velocity
            return state

    env = TaskVectorEnv(Unstable(num_threads=2), TaskSet(BASE_TASKS), 8, episode_steps=200)
    env.reset(seed=0)
    diverged = np.abs(env.joint_velocities).max(axis=1) > 1e11
    assert 0 < diverged.sum() < 8
    obs, *_ = env.step(np.zeros((8, 6)))
    np.testing.assert_array_equal(np.isnan(obs[:, 0]), diverged)
    np.testing.assert_array_equal(np.isfinite(obs).all(axis=1), ~diverged)
