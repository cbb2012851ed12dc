# SPDX-License-Identifier: Apache-2.0
"""Meta-World: its tasks as data, what is done with its numbers, and, where it is installed, the numbers themselves."""

from __future__ import annotations

import io
import json
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import episodes_of, tiny_model
from test_cli import TINY, tigr

import envs.robot
from envs import ENVIRONMENTS, Task, TaskSet, TaskVectorEnv, make_vector, task_set
from envs.meta_world import COORDINATES, MetaWorld
from envs.meta_world_tasks import ML1, ML10, ML45
from tigr_core import analysis, evaluation, run_report
from tigr_core.checks import check_fit, check_relabelling
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import load_config
from tigr_core.errors import UserError
from tigr_core.progress import make_progress
from tigr_core.reference_config import read_reference
from tigr_core.run_log import read_progress
from tigr_core.task_code import TaskCode
from tigr_core.trainer import Trainer

installed = pytest.mark.skipif(
    find_spec("metaworld") is None, reason="needs the package metaworld, which has an environment: make test-metaworld"
)
REACH = (0.0, 0.65, 0.02, 0.05, 0.85, 0.2)
FAR_REACH = (0.1, 0.6, 0.02, -0.1, 0.9, 0.3)


# ---- tasks as data ----


def test_the_test_tasks_are_of_kinds_that_no_train_task_is() -> None:
    for base_tasks, held_out in ((ML10, 5), (ML45, 5), (ML1, 0)):
        tasks = TaskSet(base_tasks)
        known, out = tasks.names[: tasks.num_known], tasks.names[tasks.num_known :]
        assert len(out) == held_out
        train, test = tasks.split(100, 50, np.random.default_rng(0))
        assert {task.base_task for task in train} == set(known)
        assert {task.base_task for task in test} == set(out or known)
        assert not {task.parameter for task in train} & {task.parameter for task in test}
        assert tasks.split(100, 50, np.random.default_rng(0)) == (train, test)
    assert task_set("tigr/MetaWorldML10-v0").names[10:] == (
        "drawer-open",
        "door-close",
        "shelf-place",
        "sweep-into",
        "lever-pull",
    )
    chosen = TaskSet(ML10).subset(["drawer-open", "door-close"])
    assert chosen.num_known == 2, "only kinds that are held out: learned and tested all the same"
    assert len(chosen.split(3, 2, np.random.default_rng(0))[0]) == 3


def test_goals_are_drawn_as_far_from_objects_as_meta_world_draws_them() -> None:
    rng = np.random.default_rng(0)
    reach = task_set("tigr/MetaWorldML1-v0", ["reach"])
    drawn = np.array([reach.sample(rng).parameter for _ in range(300)])
    lows, highs = reach.base_tasks[0].ranges
    assert ((lows <= drawn) & (drawn <= highs)).all() and (drawn[:, 2] == 0.02).all()
    apart = np.hypot(*(drawn[:, :2] - drawn[:, 3:5]).T)
    assert apart.min() >= 0.15
    anywhere = rng.uniform(lows, highs, (300, 6))
    assert np.hypot(*(anywhere[:, :2] - anywhere[:, 3:5]).T).min() < 0.15, "else nothing was tested"


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ((0.0, 0.7, 0.02, 0.0, 0.8, 0.1), r"two places of 'reach' 0.1 m apart, expected at least 0.15 m"),
        ((0.0, 0.7, 0.02), r"expected 6 finite number\(s\), fix: choose from \[-0.1, 0.1\] x \[0.6, 0.7\] x \[0.02, 0"),
    ],
)
def test_a_place_that_meta_world_would_never_take_is_refused(parameter: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        task_set("tigr/MetaWorldML1-v0").task("reach", *parameter)


def test_a_code_tells_each_place_by_its_own_range() -> None:
    code = TaskCode(TaskSet(ML1).subset(["reach", "button-press"]), 7)
    found = code(torch.tensor([0, 1]), torch.tensor([[-0.1, 0.65, 0.02, 0.1, 0.8, 0.175], [0.1, 0.85, 0.115, 0, 0, 0]]))
    # 1 + p / 2 at the label, with p in [-1, 1]; then the other entries, 0 where there is no range.
    wanted = [[0.5, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0], [0.0, 1.5, -1.0, 0.0, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# ---- what is done with a simulator, of which there is a made-up one here ----


class Counter:
    """In place of Meta-World: the first coordinate counts steps from 100 times the goal's x on; the reward is it."""

    made = 0

    def __init__(self, base_task: str) -> None:
        self.base_task, self.place = base_task, 0.0
        Counter.made += 1

    def begin(self, parameter: tuple[float, ...]) -> np.ndarray:
        self.place = round(100 * parameter[3])
        return self._state(0.0, 0.0)

    def step(self, ctrl: np.ndarray) -> np.ndarray:
        self.place += float(ctrl[0])
        return self._state(self.place, float(self.place >= 7.0))

    def scripted_ctrl(self, state: np.ndarray) -> np.ndarray:
        return np.array([1.0, 0.0, 0.0, -1.0])

    def close(self) -> None:
        pass

    def _state(self, reward: float, success: float) -> np.ndarray:
        return np.concatenate([[self.place], np.zeros(len(COORDINATES) - 1), [reward, success]])


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.meta_world_simulator.Simulator", Counter)
    monkeypatch.setattr(envs.robot, "find_spec", lambda name: name)
    monkeypatch.setattr(Counter, "made", 0)


def reaching(num_envs: int, **options: Any) -> TaskVectorEnv:
    return make_vector("tigr/MetaWorldML1-v0", num_envs, base_tasks=["reach", "push"], **options)


def test_rewards_and_success_are_meta_worlds(counting: None) -> None:
    env = reaching(2)
    tasks = [("reach", REACH), ("push", (0, 0.6, 0.02, 0.06, 0.85, 0.02))]
    obs, info = env.reset(seed=0, options={"tasks": tasks})
    assert obs.shape == (2, 36) and obs[:, 0].tolist() == [5.0, 6.0]
    assert env.quantities.tolist() == [[0, 0], [0, 0]] and info["base_task"].tolist() == [0, 1]
    obs, reward, terminated, _, info = env.step(np.array([[0.5, 0, 0, 0], [3.0, 0, 0, 0]]))
    assert obs[:, 0].tolist() == reward.tolist() == info["tracked_value"].tolist() == [5.5, 7.0], "actions are clipped"
    assert env.quantities.tolist() == [[5.5, 0.0], [7.0, 1.0]] and not terminated.any()
    np.testing.assert_array_equal(env.scripted_actions(), [[1, 0, 0, -1]] * 2)


def test_a_change_of_the_task_lays_one_table_anew(counting: None) -> None:
    env = reaching(2)
    env.reset(seed=0, options={"tasks": [("reach", REACH), ("reach", FAR_REACH)]})
    env.step(np.ones((2, 4)))
    env.set_task(0, ("push", (0, 0.6, 0.02, 0.06, 0.85, 0.02)))
    assert env.joint_positions[:, 0].tolist() == [6.0, -9.0]
    assert Counter.made == 3
    env.reset(seed=1, options={"tasks": [("reach", FAR_REACH), ("reach", REACH)]})
    assert env.joint_positions[:, 0].tolist() == [-10.0, 5.0] and Counter.made == 3, "simulators are used again"
    changing = reaching(1, task_change={"every_steps": 1})
    changing.reset(seed=0, options={"tasks": [("reach", REACH)]})
    obs, reward, *_ = changing.step(np.zeros((1, 4)))
    assert reward == 5.0, "of the step under the old task"
    assert obs[0, 0] == round(100 * changing.tasks[0].parameter[3]) != 5.0, "what is seen is the new table"


def test_success_rates_by_hand() -> None:
    obs, action, reward = np.zeros((4, 4, 1)), np.zeros((4, 3, 1)), np.zeros((4, 3))
    told = np.zeros((4, 3, 2), np.float32)
    told[0, 1, 1] = told[1, 2, 1] = told[3, 0, 0] = 1.0  # 1: after the end; 3: another quantity
    episodes = replace(episodes_of(obs, action, reward, [0, 0, 1, 0], length=[3, 2, 3, 3]), quantities=told)
    rates = analysis.success_per_base_task(episodes, 1, ["a", "b", "c"])
    assert rates["a"] == pytest.approx(1 / 3) and rates["b"] == 0.0 and np.isnan(rates["c"])
    assert evaluation.success_rates(episodes, ["a", "b"], "tigr/MetaWorldML1-v0")["test_success"] == 0.25
    assert evaluation.success_rates(episodes, ["a", "b"], "tigr/HalfCheetah-v0") == {}


def test_scripted_policies_act_in_their_share_of_the_episodes(counting: None) -> None:
    config = load_config("metaworld_ml1", ["env.episode_steps=5"])
    tasks = evaluation.split_tasks(config)[0][:4]
    request = Request(tasks, [0, 1, 2, 3], noise_seed=0, random_actions=True, scripted_share=0.5)
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        episodes = collector.collect(tiny_model(36, 4), request)
    assert (episodes.action[:2] == [1.0, 0.0, 0.0, -1.0]).all()
    assert (np.abs(episodes.action[2:]) < 1.0).all()


def trained(folder: Path, *overrides: str) -> run_report.Results:
    """A short training to its report; the environment is `metaworld_ml1`."""
    short = ["env.episode_steps=20", "training.task_change_steps=6", "training.fast=false"]
    short += ["inference.sequence_length=16", "training.evaluate_every=1"]
    config = load_config("metaworld_ml1", [*TINY, *short, *overrides])
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        assert Trainer(config, folder, collector=collector, progress=make_progress(io.StringIO())).run()
        return run_report.report_run(folder, collector)


def test_training_tells_success_beside_returns(counting: None, tmp_path: Path) -> None:
    results = trained(tmp_path, "training.scripted_share=1")
    progress = read_progress(tmp_path / "progress.csv")
    assert set(progress) >= {"test_success", "test_success/reach"}
    assert results.headline()["test_success"] == progress["test_success"][-1]
    page = (tmp_path / run_report.REPORT).read_text()
    assert "<th>success</th>" in page and results.changes is not None


# ---- what is refused ----


def test_the_missing_extra_is_named_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(envs.robot, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"no package 'metaworld' for tigr/MetaWorldML10-v0, .*'tigr_ros\[metaworld\]'"
    ):
        make_vector("tigr/MetaWorldML10-v0")
    assert tigr(monkeypatch, "train", "metaworld_ml1", "--output", tmp_path / "output") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "tigr/MetaWorldML1-v0 needs the package metaworld" in said and "pip install 'tigr_ros[metaworld]'" in said
    assert not (tmp_path / "output").exists()


def test_relabelling_and_scripts_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"relabel_share is above 0 for reach, whose parameter .* things around it"):
        check_relabelling(task_set("tigr/MetaWorldML1-v0", ["reach"]))
    config = load_config("quick", ["training.scripted_share=0.5"])
    environment = closing(make_vector(config.env.id, base_tasks=config.env.base_tasks))
    with environment as env, pytest.raises(UserError, match=r"nobody has written policies"):
        check_fit(config, env.task_set, env)


def test_files_of_the_reference_for_meta_world(tmp_path: Path) -> None:
    path = tmp_path / "ml10.json"
    content = {"env_name": "metaworld-ml10", "env_params": {"ml10or45": 10, "scripted_policy": True}}
    path.write_text(json.dumps({**content, "reconstruction_params": {"num_classes": 10}}))
    reference = read_reference(path)
    config = reference.config()
    assert (config.env.id, config.training.scripted_share) == ("tigr/MetaWorldML10-v0", 1.0)
    assert (config.model.num_components, config.inference.supervision_weight) == (10, 0.1), "held-out kinds need none"
    assert {note.key: note.kind for note in reference.notes()}["env_params.ml10or45"] == "ignored"
    path.write_text(json.dumps({**content, "reconstruction_params": {"num_classes": 9}}))
    assert read_reference(path).config().inference.supervision_weight == 0.0


# ---- with the package ----


@installed
@pytest.mark.slow
def test_ranges_and_splits_are_those_of_the_package() -> None:
    import metaworld.env_dict as theirs

    for env_id, split in (("tigr/MetaWorldML10-v0", theirs.ML10_V3), ("tigr/MetaWorldML45-v0", theirs.ML45_V3)):
        tasks = task_set(env_id)
        for names, kind in ((tasks.names[: tasks.num_known], "train"), (tasks.names[tasks.num_known :], "test")):
            assert {f"{name}-v3" for name in names} == set(split[kind])
    assert {f"{base_task.name}-v3" for base_task in ML1} == set(theirs.ALL_V3_ENVIRONMENTS)
    for base_task in ML1:
        env = theirs.ALL_V3_ENVIRONMENTS[f"{base_task.name}-v3"]()
        space = env._random_reset_space
        np.testing.assert_array_equal(base_task.ranges, [space.low, space.high], err_msg=base_task.name)
        assert env.dt == pytest.approx(MetaWorld.spec.control_dt)


@installed
@pytest.mark.parametrize("name", ["reach", "pick-place", "drawer-close"])
def test_numbers_are_those_of_the_package(name: str) -> None:
    """One of its own tasks, stepped by hand there and here."""
    import pickle

    import metaworld

    benchmark = metaworld.ML1(f"{name}-v3", seed=3)
    theirs: Any = benchmark.train_classes[f"{name}-v3"]()
    task = benchmark.train_tasks[7]
    theirs.set_task(task)
    wanted, _ = theirs.reset()
    env = make_vector("tigr/MetaWorldML1-v0", 2, base_tasks=[name])
    parameter = pickle.loads(task.data)["rand_vec"]
    obs, _ = env.reset(seed=0, options={"tasks": [env.task_set.sample(np.random.default_rng(0)), (name, parameter)]})
    np.testing.assert_array_equal(obs[1], wanted[:36])
    assert not wanted[36:].any(), "the goal is hidden"
    for action in np.random.default_rng(1).uniform(-1, 1, (40, 4)):
        wanted, reward, _, _, info = theirs.step(action)
        obs, rewards, *_ = env.step(np.stack([-action, action]))
        np.testing.assert_array_equal(obs[1], wanted[:36])
        assert (rewards[1], env.quantities[1, 1]) == (reward, info["success"])
    env.close()


@installed
@pytest.mark.parametrize("env_id", [env_id for env_id in ENVIRONMENTS if "MetaWorld" in env_id])
def test_an_episode_is_the_same_whatever_was_before(env_id: str) -> None:
    """A simulator that has done other tasks, and one that is new."""
    tasks: list[Task] = TaskSet(ENVIRONMENTS[env_id].base_tasks[:4]).split(8, 0, np.random.default_rng(0))[0]
    actions = np.random.default_rng(1).uniform(-1, 1, (10, 4, 4))
    used, fresh = make_vector(env_id, 4), make_vector(env_id, 4)
    for env, first in ((used, tasks[4:]), (used, tasks[:4]), (fresh, tasks[:4])):
        env.reset(seed=0, options={"tasks": first})
        seen = [env.step(action)[:2] for action in actions]
        if env is used:
            before = seen
    for (obs, reward), (other_obs, other_reward) in zip(before, seen, strict=True):
        np.testing.assert_array_equal(obs, other_obs)
        np.testing.assert_array_equal(reward, other_reward)


@installed
@pytest.mark.parametrize("name", ["reach", "drawer-close", "button-press"])
def test_scripted_policies_succeed(name: str) -> None:
    env = make_vector("tigr/MetaWorldML1-v0", 3, base_tasks=[name])
    env.reset(seed=5)
    succeeded = np.zeros(3, dtype=bool)
    for _ in range(200):
        env.step(env.scripted_actions())
        succeeded |= env.quantities[:, 1] > 0
    assert succeeded.all()


@installed
@pytest.mark.slow
def test_training_on_meta_world_runs_through(tmp_path: Path) -> None:
    results = trained(tmp_path, "training.scripted_share=0.5")
    assert np.isfinite(results.test.returns).all() and (results.test.returns > 0).all()
    assert (tmp_path / run_report.REPORT).stat().st_size > 10_000
