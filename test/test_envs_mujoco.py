# SPDX-License-Identifier: Apache-2.0
"""Robots that are MuJoCo models: their physics against MuJoCo and Gymnasium, their coordinates by name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from envs import ant, half_cheetah, hopper, humanoid, make_env, make_vector, walker
from envs.mujoco_physics import load_model
from envs.mujoco_robot import MujocoRobot

FILES: dict[str, Any] = {
    "tigr/HalfCheetah-v0": half_cheetah,
    "tigr/Ant-v0": ant,
    "tigr/HumanoidDir-v0": humanoid,
    "tigr/WalkerRandParams-v0": walker,
    "tigr/HopperRandParams-v0": hopper,
}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "tigr/HalfCheetah-v0": ("HalfCheetah-v5", {}),
    "tigr/Ant-v0": ("Ant-v5", {}),
    "tigr/HumanoidDir-v0": ("Humanoid-v5", {}),
    "tigr/WalkerRandParams-v0": ("Walker2d-v5", {"frame_skip": 5, "xml_file": str(walker.MODEL_PATH)}),
    "tigr/HopperRandParams-v0": ("Hopper-v5", {}),
}


def nominal_task(env_id: str) -> Any:
    """A task that leaves the robot as it is."""
    base_task = make_env(env_id).task_set.base_tasks[0]
    return base_task.name, (base_task.high if base_task.form != "dynamics" else 0.0,) * base_task.parameter_dim


def actions(env_id: str, steps: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (steps, make_vector(env_id).spec_robot.action_dim))


@pytest.mark.parametrize("env_id", FILES)
def test_physics_is_mujoco_stepped_a_few_times(env_id: str) -> None:
    model = load_model(FILES[env_id].MODEL_PATH)
    data = mujoco.MjData(model)
    env = make_vector(env_id)
    env.reset(seed=1, options={"tasks": [nominal_task(env_id)]})
    data.qpos[:], data.qvel[:] = env.joint_positions[0], env.joint_velocities[0]
    for action in actions(env_id, 30):
        env.step(action[None])
        data.ctrl[:] = action * model.actuator_ctrlrange[:, 1]
        data.qacc_warmstart[:] = 0.0
        mujoco.mj_step(model, data, nstep=FILES[env_id].FRAME_SKIP)
        np.testing.assert_allclose(env.joint_positions[0], data.qpos, atol=1e-10)
        np.testing.assert_allclose(env.joint_velocities[0], data.qvel, atol=1e-9)


@pytest.mark.parametrize("env_id", THEIRS)
def test_physics_agrees_with_gymnasium(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium keeps the solver's warm start between steps, we do not: equal up to its tolerance."""
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log there
    monkeypatch.setitem(sys.modules, "imageio", ModuleType("imageio"))  # Gymnasium imports it to save videos
    name, options = THEIRS[env_id]
    theirs: Any = gymnasium.make(name, **options).unwrapped
    theirs.reset(seed=0)
    env = make_vector(env_id)
    env.reset(seed=2, options={"tasks": [nominal_task(env_id)]})
    theirs.set_state(env.joint_positions[0], env.joint_velocities[0])
    assert env.spec_robot.control_dt == pytest.approx(theirs.dt)
    for action in actions(env_id, 20):
        before = env.joint_positions[0, 0]
        env.step(action[None])
        _, _, _, _, info = theirs.step(action * theirs.action_space.high)
        np.testing.assert_allclose(env.joint_positions[0], theirs.data.qpos, atol=1e-5)
        np.testing.assert_allclose(env.joint_velocities[0], theirs.data.qvel, atol=1e-3)
        if env.spec_robot.floating_base is None:
            speed = (env.joint_positions[0, 0] - before) / env.spec_robot.control_dt
            assert speed == pytest.approx(info["x_velocity"], abs=1e-5)


@pytest.mark.parametrize("env_id", FILES)
def test_coordinates_are_named_as_the_model_orders_them(env_id: str) -> None:
    model, spec = load_model(FILES[env_id].MODEL_PATH), make_vector(env_id).spec_robot
    assert (len(spec.position_names), len(spec.velocity_names)) == (model.nq, model.nv)
    for joint in spec.joints:
        assert spec.position_names.index(joint) == model.joint(joint).qposadr[0]
        assert spec.velocity_names.index(joint) == model.joint(joint).dofadr[0]
    for i, actuator in enumerate(spec.actuators):
        assert model.joint(actuator.joint).id == model.actuator_trnid[i, 0]
        assert actuator.gear == model.actuator_gear[i, 0]


@pytest.mark.parametrize("env_id", FILES)
def test_the_docstring_tells_every_observation_and_action(env_id: str) -> None:
    """By the first and last index of each table, and the widths of its headings."""
    text, spec = FILES[env_id].__doc__, make_vector(env_id).spec_robot
    assert f"Action ({spec.action_dim})" in text and f"Observation ({spec.obs_dim})" in text
    table = text.split("Observation (")[1].split("\n\n")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    names = [term.name for term in spec.observation]
    for index, name, *_ in rows:
        first, _, last = index.partition("-")
        starts, _, ends = name.partition(" - ")
        assert names[int(first)] == starts and names[int(last or first)] == (ends or starts)
    assert int(rows[-1][0].split("-")[-1]) == spec.obs_dim - 1


def test_a_free_joint_comes_first_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "ball.xml"
    path.write_text("<mujoco><worldbody><body><joint type='ball'/><geom size='1'/></body></worldbody></mujoco>")

    class Ball(MujocoRobot):
        def initial_state(self, rng: np.random.Generator) -> np.ndarray:
            raise NotImplementedError

        def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
            raise NotImplementedError

    with pytest.raises(ValueError, match="found a ball joint"):
        Ball("ball", path, 1, 1)
