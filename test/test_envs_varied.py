# SPDX-License-Identifier: Apache-2.0
"""Walker and hopper: the task changes the body and not the reward; when an episode ends."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from envs import TaskSet, TaskVectorEnv, hopper, make_vector, walker
from envs.hopper import Hopper
from envs.mujoco_physics import load_model
from envs.varied_runner import VariedRunner, run_forward
from envs.walker import Walker

FILES = {Walker: walker, Hopper: hopper}
WALKER_NAMES = ("torso", "thigh", "leg", "foot", "thigh_left", "leg_left", "foot_left")


def test_what_changes_is_named_in_the_order_of_the_tables() -> None:
    names = Walker().dynamics
    assert names[:7] == tuple(f"mass/{name}" for name in WALKER_NAMES)
    assert names[7:14] == tuple(f"inertia/{name}" for name in WALKER_NAMES)
    assert names[14:20] == tuple(f"damping/{name}" for name in Walker().spec.joints[3:])
    assert names[20:] == ("friction/floor", *(f"friction/{name}_geom" for name in WALKER_NAMES))
    assert len(Hopper().dynamics) == hopper.BASE_TASKS[0].parameter_dim == 16


@pytest.mark.parametrize("kind", FILES)
def test_a_changed_body_moves_as_mujoco_says(kind: type[VariedRunner]) -> None:
    """Every factor is written into the model by hand, from the names."""
    robot, model = kind(1), load_model(FILES[kind].MODEL_PATH)  # type: ignore[call-arg, arg-type]
    exponents = np.random.default_rng(0).uniform(-3, 3, len(robot.dynamics))
    for name, exponent in zip(robot.dynamics, exponents.tolist(), strict=True):
        match name.split("/"):
            case ["mass", body]:
                model.body(body).mass *= 1.5**exponent
            case ["inertia", body]:
                model.body(body).inertia *= 1.5**exponent
            case ["damping", joint]:
                model.joint(joint).damping *= 1.3**exponent
            case ["friction", geom]:
                model.geom(geom).friction *= 1.5**exponent
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    env = TaskVectorEnv(robot, TaskSet(FILES[kind].BASE_TASKS), 2, episode_steps=200)
    env.reset(seed=0, options={"tasks": [("run", exponents), ("run", np.zeros_like(exponents))]})
    data.qpos[:], data.qvel[:] = env.joint_positions[0], env.joint_velocities[0]
    for action in np.random.default_rng(1).uniform(-1, 1, (20, robot.spec.action_dim)):
        env.step(np.stack([action, action]))
        data.ctrl[:] = action
        data.qacc_warmstart[:] = 0.0
        mujoco.mj_step(model, data, nstep=FILES[kind].FRAME_SKIP)
        np.testing.assert_allclose(env.joint_positions[0], data.qpos, atol=1e-10)
    assert np.abs(env.joint_positions[1] - data.qpos).max() > 0.01, "the other one has a body of its own"


def test_each_kind_of_change_changes_the_motion() -> None:
    names = Hopper().dynamics
    kinds = [
        next(i for i, name in enumerate(names) if name.startswith(kind)) for kind in ("mass", "inertia", "damping")
    ]
    floor = names.index("friction/floor")  # slippery feet on a slippery floor
    tasks = [("run", np.zeros(16)), *(("run", 3.0 * np.eye(16)[i]) for i in kinds)]
    tasks.append(("run", -3.0 * (np.arange(16) >= floor)))
    env = make_vector("tigr/HopperRandParams-v0", len(tasks))
    env.reset(seed=[0] * len(tasks), options={"tasks": tasks})
    for action in np.random.default_rng(0).uniform(-1, 1, (30, 3)):
        env.step(np.tile(action, (len(tasks), 1)))
    places = env.joint_positions
    assert all(np.abs(places[i] - places[0]).max() > 1e-3 for i in range(1, len(tasks)))


def test_a_body_changes_with_its_task_and_back() -> None:
    """The state stays: only what follows differs."""
    plain, heavy = ("run", [0.0] * 28), ("run", [2.0] * 28)
    env = make_vector("tigr/WalkerRandParams-v0", 1)
    after = []
    for tasks in ([plain, plain], [plain, heavy], [heavy, plain]):
        env.reset(seed=3, options={"tasks": tasks[:1]})
        before = env.joint_positions
        env.set_task(0, tasks[1])
        np.testing.assert_array_equal(env.joint_positions, before)
        env.step(np.full((1, 6), 0.5))
        after.append(env.joint_positions)
    np.testing.assert_array_equal(after[0], after[2])
    assert np.abs(after[0] - after[1]).max() > 1e-5


def test_rewards_by_hand_whatever_the_body() -> None:
    class Scripted(Walker):
        def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
            after = state.copy()
            after[:, 1] += 0.02  # rootx, in 0.01 s
            return after

    env = TaskVectorEnv(Scripted(), TaskSet(walker.BASE_TASKS), 2, episode_steps=200)
    env.reset(seed=0, options={"tasks": [("run", np.zeros(28)), ("run", np.full(28, -3.0))]})
    _, reward, terminated, _, info = env.step(np.tile([1.0, -2.0, 0.5, 0, 0, 0], (2, 1)))
    np.testing.assert_allclose(info["reward_terms"]["tracking"], 2.0)
    np.testing.assert_allclose(reward, 2.0 + 1.0 - 0.001 * 2.25)
    assert not terminated.any() and info["parameter"].shape == (2, 28)


@pytest.mark.parametrize(
    ("robot", "height", "pitch", "ends"),
    [
        (Walker(), 1.25, 0.0, False),
        (Walker(), 0.79, 0.0, True),
        (Walker(), 2.01, 0.0, True),
        (Walker(), 1.25, -1.01, True),
        (Hopper(), 0.71, 0.19, False),
        (Hopper(), 9.0, 0.0, False),
        (Hopper(), 0.69, 0.0, True),
        (Hopper(), 1.25, 0.21, True),
    ],
)
def test_an_episode_ends_when_the_robot_falls(robot: VariedRunner, height: float, pitch: float, ends: bool) -> None:
    joints = robot.spec.num_joints
    positions = np.array([[50.0, height, pitch, *[0.0] * (joints - 3)]])
    state = robot.state(positions, np.zeros((1, joints)))
    assert robot.terminated(state).tolist() == [ends]


def test_a_hopper_that_spins_out_of_control_ends() -> None:
    robot = Hopper()
    state = robot.state(np.array([[0.0, 1.25, 0, 0, 0, 0]]), np.array([[0.0, 0, 0, 0, 0, 101.0]]))
    assert robot.terminated(state).tolist() == [True]


def test_a_task_about_another_number_of_things_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'run' with 3 parameters about the dynamics, .* 28: mass/torso"):
        TaskVectorEnv(Walker(), TaskSet((run_forward(3),)), 1, episode_steps=200)
