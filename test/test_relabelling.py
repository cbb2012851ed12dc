# SPDX-License-Identifier: Apache-2.0
"""Episodes that pose as episodes of other tasks: rewards by hand, against the environment, and in the replay buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import episodes_of, tiny_model

from envs import make_vector, task_set
from envs.tasks import BaseTask, Task, TaskSet
from tigr_core.checks import check_relabelling
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import EnvConfig
from tigr_core.errors import UserError
from tigr_core.relabelling import Relabeller
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes

TASKS = TaskSet(
    (
        BaseTask("speed", "speed", "m/s", 1, 5, "relative", control_cost=0.1),
        BaseTask("place", "place", "m", -9, 9, "absolute", control_cost=0.0),
    )
)
DIMS = {"place": 1, "speed": 1}
SPEEDS = np.array([[[5.0, 1.0], [7.0, 3.0]], [[0.0, 2.0], [0.0, 0.0]]], np.float32)  # [E, T, (place, speed)]

NONE = np.zeros(200, int)  # the base tasks that episodes came with, where they do not matter


def relabeller(
    task: Task, task_set: TaskSet = TASKS, dims: Mapping[str, int] = DIMS, worst: float = -100.0, **settings: Any
) -> Relabeller:
    """A relabeller that always draws the one task."""
    subject = Relabeller(task_set, dims, worst_reward=worst, candidates=1, **settings)
    subject.task_set = OneTask(task_set.base_tasks, task)
    return subject


@dataclass(frozen=True)
class OneTask(TaskSet):
    only: Task

    def sample_parameter(self, index: int, rng: np.random.Generator) -> Task:
        return self.only


def test_rewards_by_hand() -> None:
    action, valid = np.full((2, 2, 1), 0.5), np.ones((2, 2), bool)
    rng = np.random.default_rng(0)
    reward, label, parameter, mean, _ = relabeller(TASKS.task("speed", 2.0))(SPEEDS, action, valid, NONE[:2], rng)
    # -|v - 2| / 2 - 0.1 * 0.25
    np.testing.assert_allclose(reward, [[-0.525, -0.525], [-0.025, -1.025]], rtol=1e-6)
    assert (label.tolist(), parameter.tolist()) == ([0, 0], [[2.0], [2.0]])
    np.testing.assert_allclose(mean, [-0.5, -0.5])
    reward, label, *_ = relabeller(TASKS.task("place", 6.0))(SPEEDS, action, valid, NONE[:2], rng)
    assert reward.tolist() == [[-1.0, -1.0], [-6.0, -6.0]] and label.tolist() == [1, 1]


def test_tasks_too_far_from_what_happened_are_not_given() -> None:
    action, subject = np.zeros((2, 2, 1)), relabeller(TASKS.task("place", 6.0), worst=-2.0)
    mean = subject(SPEEDS, action, np.ones((2, 2), bool), NONE[:2], np.random.default_rng(0)).fit
    assert mean.tolist() == [-1.0, -np.inf]
    mean = subject(SPEEDS, action, np.zeros((2, 2), bool), NONE[:2], np.random.default_rng(0)).fit
    assert np.isfinite(mean).all(), "padding does not count"


@pytest.mark.parametrize("best_task", [False, True])
def test_every_other_episode_is_given_what_it_is_good_at(best_task: bool) -> None:
    """The first moves at 3 m/s far from every place; the others are slow, the last one near a place."""
    place_speed = [(30.0, 3.0), (20.0, 0.0), (5.0, 0.5)]
    quantities = np.array([[at] * 2 for at in place_speed], np.float32)
    action, valid = np.zeros((3, 2, 1)), np.ones((3, 2), bool)
    subject = Relabeller(TASKS, DIMS, worst_reward=-100.0, candidates=100, best_task=best_task)
    draws = [subject(quantities, action, valid, NONE[:3], np.random.default_rng(seed)) for seed in range(200)]
    at_speed = np.mean([new.base_task[0] == 0 for new in draws])
    fits = np.mean([new.base_task[0] == 0 and abs(new.parameter[0, 0] - 3.0) < 0.3 for new in draws])
    # By chance speed is given in half of the cases; where it is chosen, always, with the best of 100 parameters.
    if best_task:
        assert 0.65 < at_speed < 0.85 and 0.4 < fits < 0.65
    else:
        assert 0.4 < at_speed < 0.6 and 0.2 < fits < 0.4


def test_a_share_keeps_its_base_task_with_any_parameter() -> None:
    own, count = np.arange(200) % 2, 200
    quantities, action = np.zeros((count, 1, 2)), np.zeros((count, 1, 1))
    for share, low, high in ((1.0, 1.0, 1.0), (0.5, 0.65, 0.85), (0.0, 0.4, 0.6)):  # of the others, half by chance
        subject = Relabeller(TASKS, DIMS, worst_reward=-100.0, candidates=2, same_share=share)
        new = subject(quantities, action, np.ones((count, 1), bool), own, np.random.default_rng(0))
        assert low <= (new.base_task == own).mean() <= high
        assert len(set(new.parameter[new.base_task == 0, 0].tolist())) > 40


@pytest.mark.parametrize("env_id", ["tigr/PointRobot-v0", "tigr/HalfCheetah-v0"])
def test_the_rewards_are_those_of_the_environment(env_id: str) -> None:
    with closing(make_vector(env_id, 1)) as env:
        tasks = [env.task_set.sample(np.random.default_rng(seed)) for seed in range(12)]
        dims, robot = env.quantity_dims, env.spec_robot
    with closing(LocalCollector(EnvConfig(id=env_id), num_threads=1)) as collector:
        request = Request(tasks, range(12), noise_seed=0, random_actions=True, episode_steps=10)
        model = tiny_model(robot.obs_dim, robot.action_dim)
        done = {task: collector.collect(model, replace(request, tasks=[task] * 12)) for task in tasks[:3]}
    first, *others = done
    for task in others:  # the same seeds and random actions under another task
        subject = relabeller(task, env.task_set, dims, worst=-np.inf)
        reward, label, parameter, *_ = subject(
            done[first].quantities, done[first].action, done[first].valid, NONE[:12], np.random.default_rng(0)
        )
        np.testing.assert_allclose(reward, done[task].reward, rtol=2e-5, atol=1e-5)
        assert np.array_equal(label, done[task].base_task[:, 0])
        np.testing.assert_allclose(parameter, done[task].parameter[:, 0], rtol=1e-6)


def stored(quantities: Sequence[np.ndarray]) -> ReplayBuffer:
    """Episodes that stand still, of base task 0 with parameter 1 and reward 7."""
    count, steps, _ = np.shape(quantities)
    still = np.zeros((count, steps + 1, 1)), np.zeros((count, steps, 1))
    episodes: Episodes = episodes_of(*still, np.full((count, steps), 7.0), [0] * count, 1.0)
    replay = ReplayBuffer(1000, steps, relabelled=True)
    replay.add(replace(episodes, quantities=np.array(quantities)), np.random.default_rng(0))
    return replay


def test_the_buffer_gives_another_task_and_the_own_one_back() -> None:
    replay, rng = stored([SPEEDS[0], SPEEDS[1]] * 10), np.random.default_rng(0)
    subject = relabeller(TASKS.task("place", 6.0), worst=-2.0)
    replay.relabel(subject, 100, 1.0, rng)
    changed = replay.base_task[:, 0] == 1
    assert changed.tolist() == [True, False] * 10
    assert (replay.reward[changed] == -1.0).all() and (replay.parameter[changed] == 6.0).all()
    assert (replay.reward[~changed] == 7.0).all() and (replay.parameter[~changed] == 1.0).all()
    restored = ReplayBuffer(1000, 2, relabelled=True)
    restored.load_state_dict(replay.state_dict())
    for buffer in (replay, restored):
        buffer.relabel(subject, 100, 0.0, rng)
        assert (buffer.reward == 7.0).all() and (buffer.base_task == 0).all() and (buffer.parameter == 1.0).all()


def test_an_episode_far_from_its_own_target_is_given_another_task() -> None:
    replay, rng = stored([SPEEDS[0]] * 40), np.random.default_rng(0)
    replay.own_reward[::4, 1] = -3.0
    replay.relabel(relabeller(TASKS.task("place", 6.0), worst=-2.0), 20, 0.0, rng)
    assert ((replay.base_task[:, 0] == 1) == (torch.arange(40) % 4 == 0)).all()


def test_the_new_task_of_a_share_begins_on_the_way() -> None:
    replay, rng = stored([np.repeat(SPEEDS[0], 5, axis=0)] * 100), np.random.default_rng(0)
    replay.own_reward[:20, 1] = -3.0  # too far from the target of the task that they came with
    subject = relabeller(TASKS.task("place", 6.0), worst=-2.0, change_share=0.5)
    replay.relabel(subject, 100, 1.0, rng)
    new = replay.base_task == 1
    assert torch.equal(new, new.sort(dim=1).values), "once begun, a task stays"
    assert torch.equal(replay.reward, torch.where(new, -1.0, 7.0))
    assert torch.equal(replay.parameter.squeeze(2), torch.where(new, 6.0, 1.0))
    begin = 10 - new.sum(dim=1)
    assert (begin[:20] == 0).all() and begin.unique().tolist() == list(range(11))
    assert 25 < int((begin[20:] > 0).sum()) < 55
    replay.own_reward[:], far = 7.0, relabeller(TASKS.task("place", 30.0), worst=-24.0, change_share=1.0)
    replay.relabel(far, 100, 1.0, rng)  # places of 5 and 7 m in turn: the first reward is -25
    assert (replay.base_task[:, 0] == 0).all() and not (replay.reward == -25.0).any(), "too far from then on"
    replay.own_reward[:, 1] = -30.0  # nothing may stay what it was: the whole of each episode counts
    replay.relabel(far, 100, 1.0, rng)
    assert (replay.base_task == 0).all()


def test_a_share_of_the_drawn_episodes_changes() -> None:
    replay, rng = stored([SPEEDS[0]] * 400), np.random.default_rng(0)
    replay.relabel(relabeller(TASKS.task("place", 6.0)), 200, 0.5, rng)
    assert 70 < int((replay.base_task[:, 0] == 1).sum()) < 130


def test_tasks_are_drawn_from_the_whole_set() -> None:
    subject, count = Relabeller(TASKS, DIMS, worst_reward=-100.0, candidates=1), 200
    _, label, parameter, *_ = subject(
        np.zeros((count, 1, 2)), np.zeros((count, 1, 1)), np.ones((count, 1), bool), NONE, np.random.default_rng(0)
    )
    assert 70 < label.sum() < 130
    assert parameter[label == 0].min() < 1.3 and parameter[label == 0].max() > 4.7


def test_tasks_that_change_the_robot_itself_cannot_be_given_to_old_episodes() -> None:
    check_relabelling(TASKS)
    with pytest.raises(UserError, match=r"training\.relabel_share is above 0 for run"):
        check_relabelling(task_set("tigr/HopperRandParams-v0"))
