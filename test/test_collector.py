# SPDX-License-Identifier: Apache-2.0
"""Collecting episodes on the point robot: the record is what happened."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model

from envs import make_vector, task_set
from envs.tasks import Task
from envs.vector_env import StepResult, TaskVectorEnv
from tigr_core.collector import LocalCollector, Request, split_request
from tigr_core.config import EnvConfig
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.rollout import Episodes
from tigr_core.stop import Interrupted, Stop

ENV = EnvConfig(id="tigr/PointRobotAxes-v0", episode_steps=8)
TASKS = task_set(ENV.id)
DIRECTION = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # of goal_left, right, up, down


def request(count: int = 5, **settings: Any) -> Request:
    tasks: list[Task] = TASKS.split(count, 0, np.random.default_rng(0))[0]
    return Request(tasks=tasks, seeds=list(range(10, 10 + count)), **settings)


def collect(wanted: Request) -> Episodes:
    return LocalCollector(ENV, num_threads=1).collect(tiny_model(), wanted)


def assert_equal(found: Episodes, expected: Episodes, atol: float = 0.0) -> None:
    for field in fields(Episodes):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype, field.name
        np.testing.assert_allclose(one, other, rtol=0.0, atol=atol, err_msg=field.name)


def test_record_equals_stepping_by_hand() -> None:
    wanted, model = request(noise_seed=3), tiny_model()
    record = LocalCollector(ENV, num_threads=1).collect(model, wanted)
    env = make_vector(ENV.id, 5, episode_steps=8)
    controller, noise = Controller(model, 5), generator(3)
    obs, _ = env.reset(seed=list(wanted.seeds), options={"tasks": wanted.tasks})

    def assert_recorded(step: int, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            recorded = getattr(record, name)[:, step]
            assert np.array_equal(recorded, value.astype(recorded.dtype)), (name, step)

    for t in range(9):
        estimate = controller.estimate
        assert_recorded(t, {"obs": obs, "latent": estimate.latent, "mixture_weights": estimate.mixture_weights})
        if t < 8:
            action = controller.act(obs, noise)
            obs, reward, terminated, _, info = env.step(action)
            controller.observe(action, reward, obs)
            told = ("base_task", "parameter", "tracked_value", "tracked_target", "tracking_error")
            assert_recorded(t, {"action": action, "reward": reward, "terminated": terminated})
            assert_recorded(t, {name: info[name] for name in told})
    assert record.length.tolist() == [8] * 5


def test_same_seeds_give_the_same_bits_and_others_do_not() -> None:
    first = collect(request(noise_seed=3))
    assert_equal(collect(request(noise_seed=3)), first)
    other_noise, other_start = collect(request(noise_seed=4)), collect(replace(request(noise_seed=3), seeds=range(5)))
    assert np.array_equal(other_noise.obs[:, 0], first.obs[:, 0])
    assert not np.array_equal(other_noise.action[:, 0], first.action[:, 0])
    assert not np.array_equal(other_start.obs[:, 0], first.obs[:, 0])
    assert_equal(collect(request()), collect(request()))  # without noise: the most likely actions


def test_a_share_is_collected_without_exploring() -> None:
    exploring, greedy = (collect(request(noise_seed=seed)) for seed in (3, None))
    mixed, explores = collect(request(noise_seed=3, greedy_share=0.4)), np.array([True, True, True, False, False])
    assert_equal(mixed.select(explores), exploring.select(explores))
    assert_equal(mixed.select(~explores), greedy.select(~explores), atol=1e-6)
    assert not np.allclose(mixed.action[~explores], exploring.action[~explores])


def test_random_actions_are_uniform() -> None:
    wanted = request(40, noise_seed=3, random_actions=True)
    action = collect(wanted).action
    assert np.array_equal(collect(wanted).action, action)
    # 640 draws from U(-1, 1): the mean has a std of 0.58 / 25, the std is 1 / sqrt(3)
    assert np.abs(action).max() <= 1.0
    assert abs(action.mean()) < 0.1
    assert action.std() == pytest.approx(3.0**-0.5, abs=0.05)


def test_task_change_is_recorded_with_the_reward_it_gave() -> None:
    record = collect(request(40, noise_seed=3, task_change={"every_steps": 3}))
    goal = DIRECTION[record.base_task] * record.parameter
    np.testing.assert_allclose(record.reward, -np.linalg.norm(record.obs[:, 1:] - goal, axis=2), atol=1e-5)
    changed = (np.diff(record.parameter[..., 0], axis=1) != 0.0).any(axis=0)
    assert changed.tolist() == [False, False, True, False, False, True, False]  # from step 3 and from step 6
    assert (np.diff(record.base_task, axis=1)[:, [2, 5]] != 0).any()
    assert not record.one_task.any() and collect(request()).one_task.all()


def test_episode_that_ends_early_is_recorded_up_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    step, ends = TaskVectorEnv.step, np.array([2, 6, 4, 99, 99])

    def ending_step(env: TaskVectorEnv, actions: np.ndarray) -> StepResult:
        obs, reward, _, truncated, info = step(env, actions)
        return obs, reward, env._steps == ends, truncated, info

    monkeypatch.setattr(TaskVectorEnv, "step", ending_step)
    record = collect(request(noise_seed=3))
    assert record.length.tolist() == [2, 6, 4, 8, 8]
    assert np.argwhere(record.terminated).tolist() == [[0, 1], [1, 5], [2, 3]]


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_non_finite_physics_names_environment_task_and_step(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    step = TaskVectorEnv.step

    def broken_step(env: TaskVectorEnv, actions: np.ndarray) -> StepResult:
        obs, reward, *rest = step(env, actions)
        if env._steps[0] == 3:
            (obs if what == "observation" else reward[:, None])[1, 0] = np.nan
        return obs, reward, *rest  # type: ignore[return-value]

    monkeypatch.setattr(TaskVectorEnv, "step", broken_step)
    wanted = request()
    with pytest.raises(UserError) as caught:
        collect(wanted)
    assert caught.value.found.startswith(ENV.id)
    assert f"at step 3 of task {wanted.tasks[1]}" in caught.value.found


def test_threads_collect_what_one_does_and_leave_torch_its_threads() -> None:
    wanted, threads = request(40), torch.get_num_threads()
    collector = LocalCollector(ENV, num_threads=2)
    # networks read shares of 20 rows instead of 40, which may round differently
    assert_equal(collector.collect(tiny_model(), wanted), collect(wanted), atol=1e-5)
    first, second = (collector.collect(tiny_model(), replace(wanted, noise_seed=3)) for _ in range(2))
    assert_equal(first, second)
    assert torch.get_num_threads() == threads


def test_mistake_found_in_one_thread_ends_the_others() -> None:
    collector = LocalCollector(ENV, num_threads=2)
    far = replace(request(40), tasks=[*request(40).tasks[:-1], TASKS.task("goal_up", 1e200)], episode_steps=10_000)
    with pytest.raises(UserError, match="at step 1 of task goal_up"):
        collector.collect(tiny_model(), far)
    assert_equal(collector.collect(tiny_model(), request(40)), collect(request(40)), atol=1e-5)


def test_request_is_split_into_nearly_equal_contiguous_shares() -> None:
    wanted = request(
        5, noise_seed=100, changes=[(3, TASKS.task("goal_up", 0.5)), None, None, None, (1, TASKS.task("goal_up", 1.0))]
    )
    shares = split_request(wanted, 2)
    assert [*shares[0].changes, *shares[1].changes] == wanted.changes
    assert [list(s.seeds) for s in shares] == [[10, 11], [12, 13, 14]]
    assert [s.noise_seed for s in shares] == [100, 101]
    assert [*shares[0].tasks, *shares[1].tasks] == wanted.tasks
    assert [len(s.tasks) for s in split_request(wanted, 8)] == [1] * 5
    assert [s.noise_seed for s in split_request(request(5), 2)] == [None, None]


@pytest.mark.parametrize("told", [Stop.NO, Stop.AT_STEP])
def test_an_episode_is_not_given_up_for_less_than_at_once(told: Stop) -> None:
    collector = LocalCollector(ENV, num_threads=1, stop=lambda: told)
    assert_equal(collector.collect(tiny_model(), request()), collect(request()))


def test_an_episode_is_given_up_at_once_and_the_next_one_is_whole() -> None:
    answers = iter([Stop.NO, Stop.NO, Stop.AT_ONCE])
    collector = LocalCollector(ENV, num_threads=1, stop=lambda: next(answers, Stop.NO))
    with pytest.raises(Interrupted):
        collector.collect(tiny_model(), request())
    assert_equal(collector.collect(tiny_model(), request()), collect(request()))


def test_what_was_begun_is_what_would_be_collected_and_does_not_mix_with_other_requests() -> None:
    collector, model = LocalCollector(ENV, num_threads=1), tiny_model()
    begun = [collector.begin(model, request(noise_seed=seed)) for seed in (3, 4)]
    assert_equal(collector.collect(model, request(noise_seed=5)), collect(request(noise_seed=5)))
    for seed, wait in zip((3, 4), begun, strict=True):
        assert_equal(wait(), collect(request(noise_seed=seed)))


def test_closing_gives_up_what_was_begun() -> None:
    collector = LocalCollector(ENV, num_threads=1)
    wait = collector.begin(tiny_model(), request(episode_steps=1_000_000))
    collector.close()
    with pytest.raises((Interrupted, CancelledError)):
        wait()
