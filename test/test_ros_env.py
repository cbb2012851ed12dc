# SPDX-License-Identifier: Apache-2.0
"""The Gymnasium environment over topics equals the one in the process, and says what is missing when nothing comes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from ros_graph import LIMIT_S, Graph

import envs
from tigr_ros.ros_env import RosEnv

CHEETAH, POINT = "tigr/HalfCheetahEight-v0", "tigr/PointRobotAxes-v0"


@contextmanager
def ros_env(graph: Graph, env_id: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[RosEnv]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(graph.domain))
    env = RosEnv(envs.make_env(env_id).spec_robot, **{"lock_step": True, "timeout_s": LIMIT_S, **options})
    try:
        yield env
    finally:
        env.close()
        env.close()


def test_a_trajectory_in_lock_step_equals_the_one_in_the_process(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.start("sim_node", env=CHEETAH, lock_step=True, task_change="every_steps:80")
    reference = envs.make_env(CHEETAH, task_change={"every_steps": 80}, episode_steps=10_000)
    rng = np.random.default_rng(0)
    with ros_env(graph, CHEETAH, monkeypatch) as env:
        for seed, task in ((1, ("velocity_forward", 3.0)), (2, None)):
            options = {"task": task} if task else None
            obs, info = env.reset(seed=seed, options=options)
            wanted_obs, wanted_info = reference.reset(seed=seed, options=options)
            assert np.array_equal(obs, wanted_obs) and same_info(info, wanted_info)
            tasks = set()
            for step in range(200):
                action = rng.uniform(-1.2, 1.2, 6).astype(np.float32)
                obs, reward, terminated, truncated, info = env.step(action)
                wanted_obs, wanted_reward, _, _, wanted_info = reference.step(action)
                assert np.array_equal(obs, wanted_obs) and reward == wanted_reward, f"step {step}"
                assert same_info(info, wanted_info) and not terminated and not truncated
                tasks.add((info["base_task"], *info["parameter"]))
            assert len(tasks) == 3, "two changes"


def same_info(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """All keys of the environment to the last bit, and the stamp."""
    found = dict(found)
    assert found.pop("stamp") > 0
    return found.keys() == wanted.keys() and all(np.array_equal(found[key], wanted[key]) for key in wanted)


def test_it_keeps_gymnasiums_rules(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.start("sim_node", env=POINT, lock_step=True)
    with ros_env(graph, POINT, monkeypatch) as env:
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(np.zeros(2))
        check_env(env, skip_render_check=True)
        with pytest.raises(ValueError, match="expected 2 finite numbers"):
            env.step(np.array([0.1, np.nan]))
        with pytest.raises(ValueError, match="did you mean 'goal_left'"):
            env.reset(options={"task": ("goal_lft", 1.0)})
        with pytest.raises(ValueError, match="expected 'task' only"):
            env.reset(options={"tasks": []})
        _, info = env.reset(options={"task": ("goal_left", 0.5)})
        assert envs.task_set(POINT).names[info["base_task"]] == "goal_left" and info["parameter"].tolist() == [0.5]


def test_in_real_time_a_step_takes_a_control_period(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.start("sim_node", env=POINT, publish_clock=True)
    with ros_env(graph, POINT, monkeypatch, lock_step=False) as env:
        _, before = env.reset(options={"task": ("goal_up", 1.0)})
        steps = [env.step(np.array([0.5, 0.0])) for _ in range(10)]
        stamps = [before["stamp"], *(info["stamp"] for *_, info in steps)]
        assert all(np.diff(stamps) > 0.09)
        positions = np.array([obs for obs, *_ in steps])
        assert np.all(np.diff(positions[:, 0]) > 0.0), "it moves as it is told"
        for obs, reward, *_ in steps:
            assert reward == pytest.approx(-np.hypot(obs[0], obs[1] - 1.0))


def test_a_robot_without_simulator_goes_on_as_it_is(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.start("sim_node", env=POINT)
    with ros_env(graph, POINT, monkeypatch, lock_step=False, simulator=None) as env:
        _, info = env.reset()
        assert set(info) == {"stamp"}
        assert env.step(np.zeros(2))[4]["stamp"] > info["stamp"]
        with pytest.raises(ValueError, match="a task to set on a robot"):
            env.reset(options={"task": ("goal_up", 1.0)})


def test_nobody_there_is_said_in_time(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        ros_env(graph, POINT, monkeypatch, timeout_s=0.5) as env,
        pytest.raises(TimeoutError, match=r"nobody publishes /joint_states.*ROS domain"),
    ):
        env.reset()


def test_a_simulator_that_dies_is_said_in_time(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    process = graph.start("sim_node", env=POINT, lock_step=True)
    with ros_env(graph, POINT, monkeypatch) as env:
        env.reset()
        env.step(np.zeros(2))
        graph.end(process, signal.SIGKILL)
        env.timeout_s = 0.5
        with pytest.raises(TimeoutError, match="found no joint_states with their reward within"):
            env.step(np.zeros(2))


def test_an_episode_that_the_simulator_ends_is_said_so(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.start("sim_node", env=POINT, lock_step=True, episode_steps=2)
    with ros_env(graph, POINT, monkeypatch) as env:
        env.reset()
        env.step(np.zeros(2))
        env.step(np.zeros(2))
        with pytest.raises(RuntimeError, match="episode_steps 0"):
            env.step(np.zeros(2))
