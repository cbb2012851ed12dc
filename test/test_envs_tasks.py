# SPDX-License-Identifier: Apache-2.0
"""Tasks as data: checks, the forms a task can be given in, sampling, the train/test split, task changes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from envs import BaseTask, EverySteps, OnCrossing, Task, TaskSet, env_ids, task_set
from envs.tasks import parse_task_change

EIGHT = task_set("tigr/HalfCheetahEight-v0")
GOAL = task_set("tigr/PointRobot-v0")


@pytest.mark.parametrize(
    "given",
    [
        ("jump", 2.0),
        ("jump", [2.0]),
        ("jump", np.array([2.0])),
        ("jump", np.float32(2.0)),
        ["jump", 2],
        {"base_task": "jump", "parameter": 2.0},
        {"base_task": "jump", "parameter": (2.0,)},
        Task("jump", 7, (2.0,)),
        Task("jump", 0, (2.0,)),  # labelled by another task set
    ],
)
def test_a_task_can_be_given_in_many_forms(given: Any) -> None:
    assert EIGHT.parse(given) == Task("jump", 7, (2.0,))


def test_a_task_is_hashable_and_reads_well() -> None:
    task = GOAL.parse(("goal", (0.25, -1.0)))
    assert {task: 1}[Task("goal", 0, (0.25, -1.0))] == 1
    assert str(task) == "goal(0.25, -1)"
    assert EIGHT.task("jump", 2.0).scalar == 2.0
    with pytest.raises(ValueError, match="2 parameters"):
        _ = task.scalar


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("jmp", 2.0), "did you mean 'jump'"),
        (("jump", (2.0, 3.0)), "expected 1 finite"),
        (("jump", ()), "expected 1 finite"),
        (("jump", math.nan), "expected 1 finite"),
        (("jump", math.inf), "expected 1 finite"),
        (("jump", "high"), "expected 1 finite"),
        (("jump", None), "expected 1 finite"),
        (("jump", 0.0), "divides by it"),
        (("jump", 2.0, 3.0), "expected a Task"),
        ({"base_task": "jump"}, "expected a Task"),
        ({"base_task": "jump", "parameter": 2.0, "speed": 1}, "expected a Task"),
        ("jump", "expected a Task"),
        (3, "expected a Task"),
    ],
)
def test_a_bad_task_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EIGHT.parse(given)


def test_parameters_outside_the_range_are_allowed() -> None:
    assert EIGHT.task("jump", 50.0).parameter == (50.0,)


@pytest.mark.parametrize("env_id", env_ids())
def test_samples_lie_in_the_ranges_and_follow_the_seed(env_id: str) -> None:
    tasks = task_set(env_id)
    draws = [tasks.sample(rng) for rng in [np.random.default_rng(0)] for _ in range(400)]
    for task in draws:
        base_task = tasks.base_tasks[task.index]
        assert base_task.name == task.base_task
        assert len(task.parameter) == base_task.parameter_dim
        low, high = base_task.ranges
        assert (low <= task.parameter).all() and (task.parameter <= high).all()
    assert set(Counter(task.index for task in draws)) == set(range(len(tasks)))
    assert tasks.sample(np.random.default_rng(0)) == draws[0]
    assert tasks.sample(np.random.default_rng(1)) != draws[0]


def test_split_covers_the_ranges_evenly_and_is_disjoint() -> None:
    train, test = EIGHT.split(80, 40, np.random.default_rng(0))
    assert len(set(train)) == 80
    assert len(set(test)) == 40
    assert not set(train) & set(test)
    for base_task in EIGHT.base_tasks:
        of_this_kind = [task.scalar for task in (*train, *test) if task.base_task == base_task.name]
        np.testing.assert_allclose(sorted(of_this_kind), np.linspace(base_task.low, base_task.high, 15))
        assert sum(task.base_task == base_task.name for task in train) == 10


def test_split_is_shuffled_by_the_generator() -> None:
    first, again, other = (EIGHT.split(80, 40, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_any_stretch_of_a_split_is_balanced() -> None:
    train, test = EIGHT.split(12, 9, np.random.default_rng(0))
    assert [task.index for task in train] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]
    assert [task.index for task in test] == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_split_of_two_parameters_spreads_both() -> None:
    train, test = GOAL.split(7, 4, np.random.default_rng(0))
    goals = np.array([task.parameter for task in train + test])
    for axis in goals.T:
        np.testing.assert_allclose(np.sort(axis), np.linspace(-1, 1, 11))
    assert not np.allclose(goals[:, 0], goals[:, 1])


def test_directions_are_spread_round_the_circle() -> None:
    """The first and the last are as far apart as all others, and not the same direction twice."""
    tasks = task_set("tigr/AntDir-v0")
    train, test = tasks.split(7, 3, np.random.default_rng(0))
    angles = np.sort([task.scalar for task in train + test])
    np.testing.assert_allclose(angles, 2 * math.pi * np.arange(10) / 10)
    half = task_set("tigr/SparsePointRobot-v0").split(5, 0, np.random.default_rng(0))[0]
    np.testing.assert_allclose(sorted(task.scalar for task in half), math.pi * np.arange(5) / 4)


def test_a_disc_is_covered_evenly_by_samples_and_by_a_split() -> None:
    tasks = task_set("tigr/AntGoal-v0")
    rng = np.random.default_rng(0)
    drawn = np.array([tasks.sample(rng).parameter for _ in range(2000)])
    spread = np.array([task.parameter for task in tasks.split(200, 0, rng)[0]])
    for goals in (drawn, spread):
        radius = np.linalg.norm(goals, axis=1)
        assert radius.max() <= 3.0
        # Equal areas hold equal shares: a quarter within half the radius, a half of them on either side.
        assert (radius < 1.5).mean() == pytest.approx(0.25, abs=0.03)
        assert (goals > 0).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.04)
    assert np.linalg.norm(spread[:, None] - spread, axis=2)[~np.eye(200, dtype=bool)].min() > 0.2
    assert not np.allclose(spread[0], np.linalg.norm(spread, axis=1).min()), "shuffled"


def test_targets_by_hand() -> None:
    ant = {base_task.name: base_task for base_task in task_set("tigr/Ant-v0").base_tasks}
    np.testing.assert_allclose(ant["goal_left"].target((7.0,)), [-7.0, 0.0])
    np.testing.assert_allclose(ant["goal_2D"].target((1.0, -2.0)), [1.0, -2.0])
    np.testing.assert_allclose(ant["direction"].target((math.pi / 2,)), [0.0, 1.0], atol=1e-15)
    run = task_set("tigr/HopperRandParams-v0").base_tasks[0]
    np.testing.assert_allclose(run.target((3.0,) * 16), [1.0])


def test_tasks_in_words() -> None:
    ant = {base_task.name: base_task for base_task in task_set("tigr/Ant-v0").base_tasks}
    assert ant["goal_2D"].describe((1.0, -2.0)) == "goal 2D 1.0, -2.0 m"
    assert ant["direction"].describe((1.5,)) == "direction 1.5 rad"
    assert task_set("tigr/HopperRandParams-v0").base_tasks[0].describe((1.0,) * 16) == "run"


def test_a_target_of_zero_is_refused_where_the_reward_divides_by_it() -> None:
    ant = task_set("tigr/AntNine-v0")
    with pytest.raises(ValueError, match=r"divides by it, fix: choose from \[5, 15\] m"):
        ant.task("goal_up", 0.0)
    task_set("tigr/AntGoal-v0").task("goal_2D", 0.0, 0.0)


def test_subset_labels_in_the_given_order() -> None:
    some = EIGHT.subset(["jump", "stand_front"])
    assert some.names == ("jump", "stand_front")
    assert some.task("stand_front", 1.0).index == 1
    with pytest.raises(ValueError, match="did you mean 'stand_back'"):
        EIGHT.subset(["stand_bck"])
    with pytest.raises(ValueError, match="every name once"):
        EIGHT.subset(["jump", "jump"])
    with pytest.raises(ValueError, match="at least one"):
        EIGHT.subset([])


def test_another_task_differs() -> None:
    two = task_set("tigr/HalfCheetahDir-v0")
    current = two.task("direction_forward", 1.0)
    assert {two.sample_other(current, np.random.default_rng(seed)).index for seed in range(10)} == {1}
    assert not two.subset(["direction_forward"]).has_alternatives
    assert EIGHT.subset(["jump"]).has_alternatives


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reward": "cubic"}, "found reward 'cubic'"),
        ({"low": 2.0, "high": 1.0}, "low <= high"),
        ({"high": math.inf}, "finite"),
        ({"parameter_dim": 2}, "2 parameters and 1 axis"),
        ({"form": "round"}, "found form 'round'"),
        ({"form": "direction"}, "1 parameters and 1 axis entries of the direction"),
        ({"in_disc": True}, "1 parameters of 'x' in a disc, expected two"),
    ],
)
def test_a_bad_base_task_is_refused(values: dict[str, Any], message: str) -> None:
    good = {"name": "x", "quantity": "x_position", "unit": "m", "low": 0.0, "high": 1.0, "reward": "absolute"}
    BaseTask(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        BaseTask(**{**good, **values})


def test_task_changes_from_plain_values() -> None:
    assert parse_task_change({"every_steps": 100}) == EverySteps(100)
    crossing = parse_task_change({"crossing": {"quantity": "x_position", "place": 5.0}})
    assert crossing == OnCrossing("x_position", 5.0)
    assert parse_task_change(crossing) is crossing


@pytest.mark.parametrize(
    "given",
    [
        {"every_steps": 0},
        {"every_steps": 2.5},
        {"every_steps": True},
        {"every_step": 100},
        {"every_steps": 100, "crossing": {"quantity": "x_position", "place": 5.0}},
        {"crossing": {"quantity": "x_position"}},
        {"crossing": {"quantity": "x_position", "place": "far"}},
        {"crossing": {"quantity": "x_position", "place": math.nan}},
        100,
        {},
    ],
)
def test_a_bad_task_change_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_task_change(given)


def test_a_task_set_needs_distinct_names() -> None:
    with pytest.raises(ValueError, match="every name once"):
        TaskSet((EIGHT.base_tasks[0], EIGHT.base_tasks[0]))


@pytest.mark.parametrize("task", [("jump", 2.5), ("velocity_backward", -3.0)])
def test_a_task_is_read_back_from_its_text(task: tuple[str, float]) -> None:
    tasks = task_set("tigr/HalfCheetahEight-v0")
    assert tasks.from_text(str(tasks.parse(task))) == tasks.parse(task)


@pytest.mark.parametrize("text", ["jump", "jump(high)", "jmp(2)", ""])
def test_a_text_that_is_no_task_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="found"):
        task_set("tigr/HalfCheetahEight-v0").from_text(text)
