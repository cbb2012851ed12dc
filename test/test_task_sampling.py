# SPDX-License-Identifier: Apache-2.0
"""Which tasks are drawn: odds by hand, and what they are read off."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import episodes_of

from envs.tasks import BaseTask, Task, TaskSet
from tigr_core.replay import ReplayBuffer
from tigr_core.task_sampling import TaskSampler, learning_progress

TASKS = TaskSet(tuple(BaseTask(name, "speed", "m/s", 0.0, 9.0, "absolute") for name in ("slow", "fast")))
THREE = [TASKS.task("slow", 1.0), TASKS.task("slow", 2.0), TASKS.task("fast", 2.0)]


def replay_of(*episodes: tuple[Task, float], capacity: int = 100, **settings: Any) -> ReplayBuffer:
    """Episodes of two steps, each of half the return."""
    tasks, returns = zip(*episodes, strict=True)
    reward = np.repeat(np.array(returns)[:, None] / 2.0, 2, axis=1)
    shape = (len(returns), 2)
    labels, parameters = [t.index for t in tasks], [t.parameter[0] for t in tasks]
    record = episodes_of(np.zeros((len(returns), 3, 1)), np.zeros((*shape, 1)), reward, labels, parameters)
    replay = ReplayBuffer(capacity, 2, **settings)
    replay.add(record, np.random.default_rng(0))
    return replay


def drawn(sampler: TaskSampler, count: int = 4000) -> list[float]:
    tasks = sampler.draw(count, np.random.default_rng(0))
    return [tasks.count(task) / count for task in sampler.tasks]


def test_evenly_each_task_is_drawn_as_often() -> None:
    sampler = TaskSampler(THREE, 2, 0.0, "worst")
    sampler.update(replay_of(*[(task, float(n)) for n in range(9) for task in THREE]))
    assert drawn(sampler, 6) == [1 / 3] * 3
    assert sampler.base_task_shares.tolist() == [0.5, 0.5]


def test_base_tasks_by_how_far_they_lie_behind() -> None:
    sampler = TaskSampler(THREE, 2, 0.8, "behind")
    sampler.update(ReplayBuffer(100, 2))
    assert sampler.base_task_shares.tolist() == [0.5, 0.5], "before anything was tried"
    sampler.update(replay_of((THREE[0], -3.0), (THREE[1], -5.0), (THREE[2], -1.0)))
    np.testing.assert_allclose(sampler.base_task_shares, [0.1 + 0.8, 0.1])  # only slow is behind, by 3
    np.testing.assert_allclose(drawn(sampler), [0.45, 0.45, 0.1], atol=0.03)


def test_learning_progress_by_hand() -> None:
    # returns 0, 2, 4 have the standard deviation sqrt(8/3): both steps are 2 / sqrt(8/3), whatever their weights
    assert learning_progress(np.array([0.0, 2.0, 4.0])) == pytest.approx(2.0 / math.sqrt(8.0 / 3.0))
    # up by 3, down by 3: the standard deviation is sqrt(2), the weights are e^-0.1 and 1
    older = math.exp(-0.1)
    assert learning_progress(np.array([0.0, 3.0, 0.0])) == pytest.approx(
        3.0 / math.sqrt(2.0) * (older - 1) / (older + 1)
    )
    assert learning_progress(np.array([4.0, 4.0, 4.0])) == 0.0


@pytest.mark.parametrize(
    ("hard_tasks", "odds"),
    # progress: falling 0.05, growing 0.95, standing 0.5; the last has four episodes and so no bonus of 0.1
    [("best", [0.05 + 0.1, 0.95 + 0.1, 0.5]), ("worst", [0.95 + 0.1, 0.05 + 0.1, 0.5])],
)
def test_tasks_by_how_their_returns_grow(hard_tasks: Any, odds: list[float]) -> None:
    falling, growing, standing = zip(THREE, (-1.0, 2.0, 0.0), strict=True)
    in_turn = [(task, step * n) for task, step in (falling, growing, standing) for n in range(3)]
    replay = replay_of(*in_turn, (THREE[2], 0.0))
    sampler = TaskSampler(THREE, 2, 1.0, hard_tasks)
    sampler.update(replay)
    wanted = np.array(odds) / sum(odds)
    np.testing.assert_allclose(drawn(sampler), wanted, atol=0.03)
    np.testing.assert_allclose(sampler.base_task_shares, [wanted[:2].sum(), wanted[2]])
    sampler = TaskSampler(THREE, 2, 0.4, hard_tasks)
    sampler.update(replay)
    np.testing.assert_allclose(drawn(sampler), 0.4 * wanted + 0.6 / 3.0, atol=0.03)


def test_two_returns_of_a_task_say_nothing() -> None:
    sampler = TaskSampler(THREE, 2, 1.0, "best")
    sampler.update(replay_of(*[(task, float(n) * task.index) for n in range(2) for task in THREE]))
    assert drawn(sampler, 6) == [1 / 3] * 3


def test_returns_come_in_the_order_of_the_episodes_also_where_old_ones_were_overwritten() -> None:
    replay = replay_of((THREE[0], 1.0), (THREE[1], 2.0), (THREE[0], 3.0), capacity=6)
    replay.add(
        episodes_of(np.zeros((1, 3, 1)), np.zeros((1, 2, 1)), np.full((1, 2), 2.0), [0], [1.0]),
        np.random.default_rng(0),
    )
    assert [returns.tolist() for returns in replay.returns_of(THREE)] == [[3.0, 4.0], [2.0], []]
