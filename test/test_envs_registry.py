# SPDX-License-Identifier: Apache-2.0
"""Registered environments: Gymnasium's checker, making by id, rebuilding elsewhere, ending cleanly."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from helpers import INSTALLED

from envs import ENVIRONMENTS, TaskEnv, TaskVectorEnv, env_ids, make_env, make_vector, task_set

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("env_id", INSTALLED)
def test_check_env_has_nothing_to_say(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Observations have no bounds; Gymnasium excuses its own MuJoCo environments from this remark too.
        warnings.filterwarnings("ignore", message=".*A Box observation space .* -?infinity")
        env = gymnasium.make(env_id)
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("env_id", INSTALLED)
def test_spaces_fit_the_robot(env_id: str) -> None:
    env = gymnasium.make_vec(env_id, num_envs=3, num_threads=2)
    assert isinstance(env, TaskVectorEnv)
    assert env.single_observation_space.dtype == np.float64
    assert env.single_action_space.dtype == np.float32
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    assert obs.shape == (3, env.spec_robot.obs_dim)
    obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert obs.shape == (3, env.spec_robot.obs_dim)
    assert [array.shape for array in (reward, terminated, truncated)] == [(3,)] * 3
    assert [array.dtype for array in (reward, terminated, truncated)] == [np.float64, np.bool_, np.bool_]


def test_ids_base_tasks_and_lengths() -> None:
    found = {env_id: (len(task_set(env_id)), ENVIRONMENTS[env_id].episode_steps) for env_id in env_ids()}
    assert found == {
        "tigr/HalfCheetahEight-v0": (8, 200),
        "tigr/HalfCheetahDir-v0": (2, 200),
        "tigr/HalfCheetahVel-v0": (1, 200),
        "tigr/HalfCheetah-v0": (11, 200),
        "tigr/PointRobot-v0": (1, 20),
        "tigr/PointRobotAxes-v0": (4, 20),
        "tigr/SparsePointRobot-v0": (1, 20),
        "tigr/AntNine-v0": (9, 200),
        "tigr/AntGoal-v0": (1, 200),
        "tigr/AntDir-v0": (1, 200),
        "tigr/Ant-v0": (13, 200),
        "tigr/HumanoidDir-v0": (1, 200),
        "tigr/WalkerRandParams-v0": (1, 200),
        "tigr/HopperRandParams-v0": (1, 200),
        "tigr/MetaWorldML1-v0": (50, 500),
        "tigr/MetaWorldML10-v0": (15, 500),
        "tigr/MetaWorldML45-v0": (50, 500),
    }
    assert task_set("tigr/HalfCheetah-v0", ["jump", "velocity"]).names == ("jump", "velocity")


def test_unknown_environment_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'tigr/HalfCheetahEight-v0'"):
        make_vector("HalfCheetahEight-v1")
    with pytest.raises(ValueError, match="did you mean 'tigr/PointRobot-v0'"):
        task_set("tigr/PointRobt-v0")


def test_keyword_arguments_reach_the_environment() -> None:
    env = gymnasium.make("tigr/HalfCheetah-v0", base_tasks=["jump", "velocity"], episode_steps=3).unwrapped
    assert isinstance(env, TaskEnv)
    assert env.task_set.names == ("jump", "velocity")
    env.reset(seed=0)
    assert [env.step(np.zeros(6))[3] for _ in range(3)] == [False, False, True]


def test_an_environment_is_rebuilt_from_its_spec() -> None:
    env = gymnasium.make("tigr/HalfCheetah-v0", base_tasks=["jump"], task_change={"every_steps": 2})
    assert env.spec is not None
    rebuilt = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    for _ in range(2):
        np.testing.assert_array_equal(env.reset(seed=3)[0], rebuilt.reset(seed=3)[0])
        for _ in range(5):
            one, other = env.step(np.full(6, 0.5)), rebuilt.step(np.full(6, 0.5))
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1] == other[1]


def test_a_recipe_travels_by_pickle() -> None:
    recipe = functools.partial(make_vector, "tigr/HalfCheetahEight-v0", 2, num_threads=2, episode_steps=7)
    env = pickle.loads(pickle.dumps(recipe))()
    assert (env.num_envs, env.episode_steps) == (2, 7)


def test_a_single_environment_wraps_one_member() -> None:
    with pytest.raises(ValueError, match="2 members"):
        TaskEnv(make_vector("tigr/PointRobot-v0", 2))
    env = make_env("tigr/PointRobot-v0")
    env.reset(seed=5)
    assert env.np_random_seed == 5
    env.set_task(("goal", (0.1, 0.2)))
    assert env.task.parameter == (0.1, 0.2)
    assert env.spec_robot.name == "point_robot"


@pytest.mark.parametrize("ending", ["env.close()", "del env", "pass", "raise SystemExit(0)"])
def test_the_interpreter_ends_with_a_thread_pool_running(ending: str) -> None:
    program = (
        "import numpy as np, envs\n"
        "env = envs.make_vector('tigr/HalfCheetahEight-v0', 4, num_threads=2)\n"
        "env.reset(seed=0)\n"
        "env.step(np.zeros((4, 6)))\n"
        f"{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
