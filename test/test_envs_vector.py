# SPDX-License-Identifier: Apache-2.0
"""The vector environment: same bits alone and in a batch, seeding, resets, task changes, efforts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs import Task, TaskSet, TaskVectorEnv, make_env, make_vector, task_set
from envs.point_robot import PointRobot

ALL = task_set("tigr/HalfCheetah-v0")
ROBOTS = {  # an environment of each, and steps after which it is still upright
    "tigr/HalfCheetah-v0": 200,
    "tigr/Ant-v0": 12,
    "tigr/HumanoidDir-v0": 10,
    "tigr/WalkerRandParams-v0": 12,
    "tigr/HopperRandParams-v0": 12,
    "tigr/SparsePointRobot-v0": 12,
}
of_every_robot = pytest.mark.parametrize("env_id", ROBOTS)


def mixed_tasks(tasks: TaskSet) -> list[Task]:
    """One task of every kind and one more."""
    rng = np.random.default_rng(0)
    return [*(tasks.sample_parameter(label, rng) for label in range(len(tasks))), tasks.sample_parameter(0, rng)]


@pytest.mark.parametrize("num_threads", [1, 2])
@of_every_robot
def test_a_batch_equals_single_environments_to_the_last_bit(env_id: str, num_threads: int) -> None:
    tasks, steps, change = mixed_tasks(task_set(env_id)), ROBOTS[env_id], {"every_steps": ROBOTS[env_id] // 3}
    num = len(tasks)
    batch = make_vector(env_id, num, num_threads=num_threads, task_change=change)
    actions = np.random.default_rng(0).uniform(-1.5, 1.5, (steps, num, batch.spec_robot.action_dim))
    first, _ = batch.reset(seed=10, options={"tasks": tasks})
    batched = [batch.step(action) for action in actions]
    for member in sorted({0, num // 3, 2 * num // 3, num - 1}):
        single = make_env(env_id, task_change=change)
        obs, _ = single.reset(seed=10 + member, options={"task": tasks[member]})
        np.testing.assert_array_equal(obs, first[member])
        for (b_obs, b_reward, b_terminated, b_truncated, b_info), action in zip(
            batched, actions[:, member], strict=True
        ):
            obs, reward, terminated, truncated, info = single.step(action)
            np.testing.assert_array_equal(obs, b_obs[member])
            assert (reward, terminated, truncated) == (b_reward[member], b_terminated[member], b_truncated[member])
            assert info["next_base_task"] == b_info["next_base_task"][member]
            assert info["tracking_error"] == b_info["tracking_error"][member]
            assert info["reward_terms"] == {name: term[member] for name, term in b_info["reward_terms"].items()}
            assert sum(info["reward_terms"].values()) == pytest.approx(reward)


@of_every_robot
def test_efforts_over_topics_equal_actions_to_the_last_bit(env_id: str) -> None:
    by_action, by_effort = (make_vector(env_id, 3) for _ in range(2))
    by_action.reset(seed=0)
    by_effort.reset(seed=0)
    for action in np.random.default_rng(0).uniform(-2, 2, (10, 3, by_action.spec_robot.action_dim)).astype(np.float32):
        effort = by_effort.spec_robot.action_to_effort(action)
        for one, other in zip(by_action.step(action)[:2], by_effort.step_effort(effort)[:2], strict=True):
            np.testing.assert_array_equal(one, other)


def rollout(env: TaskVectorEnv, **reset: Any) -> np.ndarray:
    """Observations [10, N, D] under actions that are the same for every member."""
    env.reset(**reset)
    actions = np.random.default_rng(0).uniform(-1, 1, (10, env.spec_robot.action_dim))
    return np.stack([env.step(np.tile(action, (env.num_envs, 1)))[0] for action in actions])


@of_every_robot
def test_same_seed_same_bits_other_seed_other_bits(env_id: str) -> None:
    env = make_vector(env_id, 3)
    first = rollout(env, seed=4)
    tasks = env.tasks
    again = rollout(env, seed=4)
    np.testing.assert_array_equal(first, again)
    assert env.tasks == tasks
    starts_at_origin = env_id == "tigr/SparsePointRobot-v0"
    assert (rollout(env, seed=40) != first)[..., 0].all() != starts_at_origin
    assert env.tasks != tasks


def test_an_integer_seed_stands_for_consecutive_ones() -> None:
    env = make_vector("tigr/HalfCheetahEight-v0", 3)
    np.testing.assert_array_equal(rollout(env, seed=4), rollout(env, seed=[4, 5, 6]))
    members = rollout(env, seed=[4, 4, 5])
    np.testing.assert_array_equal(members[:, 0], members[:, 1])
    assert not np.array_equal(members[:, 0], members[:, 2])


def test_without_a_seed_generators_run_on() -> None:
    env = make_vector("tigr/HalfCheetahEight-v0", 2)
    first = env.reset(seed=0)[0]
    second = env.reset()[0]
    assert not np.array_equal(first, second)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.reset()[0], second)
    np.testing.assert_array_equal(env.reset(seed=[None, 1])[0][1], first[1])


def test_the_initial_state_does_not_depend_on_who_chose_the_task() -> None:
    env = make_env("tigr/HalfCheetahEight-v0")
    drawn, _ = env.reset(seed=3)
    given, info = env.reset(seed=3, options={"task": ("jump", 2.0)})
    np.testing.assert_array_equal(drawn, given)
    assert env.task == Task("jump", 7, (2.0,))
    assert (info["base_task"], info["next_base_task"], info["tracked_target"]) == (7, 7, 2.0)
    assert info["reward_terms"] == {"tracking": 0.0, "control": 0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"tasks": [("jump", 2.0)]}}, "1 tasks, expected one for each of 2"),
        ({"options": {"tasks": [("jump", 2.0), ("jmup", 2.0)]}}, "did you mean 'jump'"),
        ({"options": {"task": ("jump", 2.0)}}, r"\['task'\], expected 'tasks'"),
        ({"options": {"changes": [None]}}, "1 changes, expected one for each of 2"),
        ({"options": {"changes": [None, (0, ("jump", 2.0))]}}, "expected .steps, task. with a step of at least 1"),
        ({"options": {"changes": [None, (5, ("jmup", 2.0))]}}, "did you mean 'jump'"),
        ({"seed": [1, 2, 3]}, "3 seeds, expected one for each of 2"),
    ],
)
def test_bad_reset_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    env = make_vector("tigr/HalfCheetahEight-v0", 2)
    with pytest.raises(ValueError, match=message):
        env.reset(**arguments)


def test_bad_options_of_a_single_environment_are_refused() -> None:
    env = make_env("tigr/HalfCheetahEight-v0")
    with pytest.raises(ValueError, match=r"\['tasks'\], expected 'task'"):
        env.reset(options={"tasks": [("jump", 2.0)]})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_action_is_refused_before_anything_moves(bad: float) -> None:
    env = make_vector("tigr/HalfCheetahEight-v0", 3)
    env.reset(seed=0, options={"tasks": [("jump", 2.0), ("stand_front", 1.0), None]})
    before = env.joint_positions
    action = np.zeros((3, 6))
    action[1, 2] = bad
    for step in (env.step, env.step_effort):
        with pytest.raises(ValueError, match=r"member 1, task stand_front\(1\)"):
            step(action)
    np.testing.assert_array_equal(env.joint_positions, before)


def test_misuse_is_refused() -> None:
    env = make_vector("tigr/HalfCheetahEight-v0", 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, 6)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(6,\), expected \(2, 6\)"):
        env.step(np.zeros(6))
    env.close()
    env.close()
    with pytest.raises(RuntimeError):
        env.step(np.zeros((2, 6)))


def test_set_task_holds_from_the_next_step_on() -> None:
    env = make_vector("tigr/HalfCheetahEight-v0", 2)
    env.reset(seed=0, options={"tasks": [("jump", 2.0)] * 2})
    env.set_task(1, ("stand_front", 1.0))
    info = env.step(np.zeros((2, 6)))[-1]
    assert info["base_task"].tolist() == [7, 5]
    np.testing.assert_array_equal(info["parameter"], [[2.0], [1.0]])
    with pytest.raises(ValueError, match="did you mean"):
        env.set_task(0, ("stand_frnt", 1.0))


def test_returned_arrays_belong_to_the_caller() -> None:
    env = make_vector("tigr/HalfCheetahEight-v0", 2)
    obs, info = env.reset(seed=0)
    kept = obs.copy(), info["base_task"].copy(), env.joint_positions
    env.joint_positions[:] = 99.0
    env.set_task(0, ("jump", 2.0) if info["base_task"][0] != 7 else ("stand_front", 1.0))
    env.step(np.ones((2, 6)))
    np.testing.assert_array_equal(obs, kept[0])
    np.testing.assert_array_equal(info["base_task"], kept[1])
    assert np.abs(env.joint_positions - kept[2]).max() < 5.0


@of_every_robot
def test_task_changes_by_time(env_id: str) -> None:
    env, again = (make_vector(env_id, 4, task_change={"every_steps": 3}) for _ in range(2))
    still = np.zeros((4, env.spec_robot.action_dim))
    env.reset(seed=0)
    for step in range(1, 10):
        before = env.tasks
        info = env.step(still)[-1]
        changed = [old != new for old, new in zip(before, env.tasks, strict=True)]
        assert changed == [step % 3 == 0] * 4
        assert info["base_task"].tolist() == [task.index for task in before]  # rewarded under the old task
        np.testing.assert_array_equal(info["parameter"][:, 0], [task.parameter[0] for task in before])
        assert info["next_base_task"].tolist() == [task.index for task in env.tasks]
    again.reset(seed=0)
    for _ in range(9):
        again.step(still)
    assert again.tasks == env.tasks  # drawn by the members' own generators


@of_every_robot
def test_tasks_change_when_and_to_what_was_asked_for(env_id: str) -> None:
    first, second = mixed_tasks(task_set(env_id))[:2]
    env = make_vector(env_id, 3)
    still = np.zeros((3, env.spec_robot.action_dim))
    env.reset(seed=0, options={"tasks": [first] * 3, "changes": [(2, second), None, (1, second)]})
    labels = [env.step(still)[-1] for _ in range(3)]
    assert [info["base_task"].tolist() for info in labels] == [
        [first.index] * 3,
        [first.index, first.index, second.index],
        [second.index, first.index, second.index],
    ]
    assert labels[0]["next_base_task"].tolist() == labels[1]["base_task"].tolist()
    assert env.tasks == [second, first, second]
    env.reset(seed=0, options={"tasks": [first] * 3})
    for _ in range(3):
        env.step(still)
    assert env.tasks == [first] * 3  # changes are of one episode


@of_every_robot
def test_task_changes_by_place(env_id: str) -> None:
    """Wherever a robot goes, the task changes when it passes the line, and only then."""
    rng = np.random.default_rng(0)
    env = make_vector(env_id, 8)
    env.reset(seed=0)
    column = sum(list(env.quantity_dims.values())[: list(env.quantity_dims).index("x_position")])
    line = float(env.quantities[:, column].mean()) + 1e-3
    env = make_vector(env_id, 8, task_change={"crossing": {"quantity": "x_position", "place": line}})
    env.reset(seed=0)
    crossed = np.zeros(8, dtype=int)
    for _ in range(8):
        before, beyond = env.tasks, env.quantities[:, column] > line
        env.step(rng.uniform(-1, 1, env.action_space.shape))
        changed = np.array([old != new for old, new in zip(before, env.tasks, strict=True)])
        np.testing.assert_array_equal(changed, beyond != (env.quantities[:, column] > line))
        crossed += changed
    assert crossed.any()


def test_task_changes_by_place_once_for_each_side_in_both_directions() -> None:
    tasks = TaskSet(task_set("tigr/PointRobotAxes-v0").base_tasks)
    crossing = {"crossing": {"quantity": "x_position", "place": 0.15}}
    env = TaskVectorEnv(PointRobot(start_range=0.0), tasks, 2, episode_steps=20, task_change=crossing)
    env.reset(seed=0)
    changed = []
    for x in (1, 1, 1, 0, -1, -1, -1, 1):  # member 0 is at 0.1 .2 .3 .3 .2 .1 0 .1
        before = env.tasks
        env.step(np.array([[x, 0.0], [0.0, x]]))
        changed.append([old != new for old, new in zip(before, env.tasks, strict=True)])
    assert [c[0] for c in changed] == [False, True, False, False, False, True, False, False]
    assert not any(c[1] for c in changed)  # member 1 moves along y


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"task_change": {"crossing": {"quantity": "position", "place": 1.0}}},
            "crossing quantity 'position'",
        ),
        ({"task_change": {"crossing": {"quantity": "pitch", "place": 1.0}}}, "crossing quantity 'pitch'"),
        ({"num_envs": 0}, "num_envs 0"),
        ({"episode_steps": 0}, "episode_steps 0"),
        ({"base_tasks": ["goal_lft"]}, "did you mean 'goal_left'"),
    ],
)
def test_bad_construction_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_vector("tigr/PointRobotAxes-v0", **arguments)


def test_a_task_change_needs_another_task() -> None:
    with pytest.raises(ValueError, match="only task 'direction_forward'"):
        make_vector("tigr/HalfCheetahDir-v0", base_tasks=["direction_forward"], task_change={"every_steps": 5})


def test_a_base_task_needs_what_it_is_about_of_the_robot() -> None:
    with pytest.raises(ValueError, match="quantity 'x_velocity'"):
        TaskVectorEnv(PointRobot(), ALL, 1, episode_steps=20)
    goal = task_set("tigr/PointRobot-v0").base_tasks[0]
    with pytest.raises(ValueError, match="'goal' with an impact cost"):
        TaskVectorEnv(PointRobot(), TaskSet((replace(goal, impact_cost=0.1),)), 1, episode_steps=20)
    with pytest.raises(ValueError, match="2 parameters about the dynamics, expected one for each of the robot's 0"):
        TaskVectorEnv(PointRobot(), TaskSet((replace(goal, form="dynamics"),)), 1, episode_steps=20)


def test_base_tasks_of_different_width_share_a_batch() -> None:
    """A scalar quantity beside a vector one, as for a robot that can reach places and jump."""
    plane, axes = task_set("tigr/PointRobot-v0").base_tasks, task_set("tigr/PointRobotAxes-v0").base_tasks
    scalar = type(plane[0])("reach_y", "y_position", "m", -1, 1, "relative", control_cost=0.5)
    env = TaskVectorEnv(PointRobot(), TaskSet((*plane, *axes, scalar)), 3, episode_steps=20)
    env.reset(seed=0, options={"tasks": [("goal", (0.0, 0.0)), ("goal_up", 0.5), ("reach_y", -0.5)]})
    obs, reward, *_, info = env.step(np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    expected = [
        -np.linalg.norm(obs[0]),
        -np.linalg.norm(obs[1] - [0, 0.5]),
        -abs(obs[2, 1] + 0.5) / 0.5 - 0.5,
    ]
    np.testing.assert_allclose(reward, expected)
    np.testing.assert_array_equal(info["parameter"], [[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0]])
    np.testing.assert_allclose(info["tracked_value"], [0.0, obs[1, 1], obs[2, 1]])
    np.testing.assert_allclose(info["tracked_target"], [0.0, 0.5, -0.5])
