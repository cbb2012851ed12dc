# SPDX-License-Identifier: Apache-2.0
"""Specialists that are told their tasks: who teaches what, and that one policy learns it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import tiny_bundle
from helpers import generator

import envs
from tigr_core import evaluation
from tigr_core.bundle import load_bundle
from tigr_core.collector import LocalCollector
from tigr_core.config import load_config
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.pearl import PearlBatch, PearlView
from tigr_core.progress import make_progress
from tigr_core.sac_learner import TransitionBatch
from tigr_core.task_code import TaskCode
from tigr_core.teachers import Teachers, teacher_bundles
from tigr_core.trainer import LAST, Trainer

AXES = "tigr/PointRobotAxes-v0"
TINY = ["training.tasks_per_epoch=8", "env.num_train_tasks=8", "env.num_test_tasks=4", "training.evaluate_every=1"]


def train(folder: Path, *overrides: str, epochs: int = 1) -> Trainer:
    config = load_config("point_robot", [*TINY, *overrides, f"training.epochs={epochs}"])
    collector = LocalCollector(config.env, num_threads=1)
    trainer = Trainer(config, folder, collector=collector, progress=make_progress(io.StringIO()))
    assert trainer.run()
    return trainer


@pytest.fixture(scope="module")
def specialist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the last two base tasks alone, whose labels are others there."""
    names = envs.task_set(AXES).names[2:]
    folder = tmp_path_factory.mktemp("specialist")
    train(folder, f"env.base_tasks=[{', '.join(names)}]", "sac.told_share=1", "sac.critic_sees_task=true")
    return folder / LAST


def test_each_base_task_is_taught_by_the_first_that_knows_it(tmp_path: Path, specialist: Path) -> None:
    tasks, everything = envs.task_set(AXES), tmp_path / "all.tigr"
    general = tiny_bundle(AXES, everything, latent_dim=4)
    teachers = Teachers([str(specialist), str(everything)], tasks, general.robot, "cpu")
    obs, label = torch.randn(6, general.robot.obs_dim, generator=generator()), torch.tensor([0, 3, 2, 1, 3, 0])
    parameter = torch.full((6, tasks.parameter_dim), 0.7)
    taught = teachers(obs, label, parameter)
    own = load_bundle(specialist)
    for bundle, shown in ((general, [0, 3, 5]), (own, [1, 2, 4])):
        known = envs.task_set(AXES, bundle.info.base_tasks)
        labels = torch.tensor([known.names.index(tasks.names[label[i]]) for i in shown])
        controller = Controller(bundle.model, 3)
        controller.tell(TaskCode(known, 4)(labels, parameter[shown]), torch.ones(3, dtype=torch.bool))
        np.testing.assert_allclose(taught[shown], controller.act(obs[shown].numpy()), atol=1e-6)


def test_bundles_that_cannot_teach_are_refused(tmp_path: Path, specialist: Path) -> None:
    tasks, robot = envs.task_set(AXES), tiny_bundle(AXES).robot
    other = tmp_path / "other.tigr"
    tiny_bundle("tigr/HalfCheetahDir-v0", other)
    with pytest.raises(UserError, match=f"no bundle in sac.teachers knows {tasks.names[0]}"):
        Teachers([str(specialist)], tasks, robot, "cpu")
    with pytest.raises(UserError, match=r"other\.tigr moves"):
        Teachers([str(other)], tasks, robot, "cpu")
    (tmp_path / "empty").mkdir()
    for path in ("nowhere.tigr", str(tmp_path / "empty")):
        with pytest.raises(UserError, match="no bundle at"):
            Teachers([path], tasks, robot, "cpu")


def test_a_folder_names_its_bundles(tmp_path: Path) -> None:
    for name in ("b.tigr", "a.tigr", "run/checkpoint.tigr", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    single = tmp_path / "run" / "checkpoint.tigr"
    assert teacher_bundles([str(tmp_path), str(single)]) == [tmp_path / "a.tigr", tmp_path / "b.tigr", single]


def imitation_error(folder: Path, weight: float, *overrides: str) -> float:
    """Return how far an actor is from the teacher of all tasks, after a short training that imitates so much."""
    teacher = folder / "teacher.tigr"
    tiny_bundle(AXES, teacher, latent_dim=4)
    trainer = train(folder / f"{weight}", f"sac.teachers=[{teacher}]", f"sac.teacher_weight={weight}", *overrides)
    episodes = torch.from_numpy(trainer.replay.draw_episodes(8, np.random.default_rng(0)))
    batch = trainer.learners._make_view(episodes, 1).sample(512, generator())
    told = batch
    if isinstance(batch, PearlBatch):
        told, posterior = batch.transitions, trainer.model.encoder.encode_sets(batch.context)
        told = replace(told, latent=posterior.latent.repeat_interleave(PearlView.PER_TASK, dim=0))
    assert isinstance(told, TransitionBatch) and told.taught is not None
    done = trainer.model.actor.act(told.obs, told.latent).detach()
    return float((done - told.taught).square().mean())


def test_the_actor_learns_to_do_what_it_is_shown(tmp_path: Path) -> None:
    errors = [imitation_error(tmp_path, weight, "sac.told_share=1") for weight in (0.0, 30.0)]
    assert errors[1] < 0.1 * errors[0]


def test_pearl_learns_to_do_what_it_is_shown(tmp_path: Path) -> None:
    pearl = [
        "inference.supervision_weight=0",
        "model.method=pearl",
        "model.num_components=1",
        "inference.steps_per_epoch=0",
        "inference.first_epoch_steps=0",
    ]
    errors = [imitation_error(tmp_path, weight, *pearl) for weight in (0.0, 30.0)]
    assert errors[1] < 0.3 * errors[0], errors


def test_a_run_of_some_base_tasks_has_the_tasks_that_one_of_all_has() -> None:
    whole = evaluation.split_tasks(load_config("point_robot"))
    some = ["env.base_tasks=[goal_right]", "env.split_with_all=true"]
    for part, of in zip(evaluation.split_tasks(load_config("point_robot", some)), whole, strict=True):
        assert [task.parameter for task in part] == [t.parameter for t in of if t.base_task == "goal_right"]
        assert part and all(task.index == 0 for task in part)
