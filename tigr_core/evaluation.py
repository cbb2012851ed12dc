# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a model on held-out tasks, with and without changes of the task, by the most likely action."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from envs import ENVIRONMENTS, task_set
from envs.spec import RobotSpec
from envs.tasks import Task, TaskSet
from tigr_core import analysis
from tigr_core.bundle import BundleInfo, Source
from tigr_core.collector import Collector, Request
from tigr_core.config import Config, EnvConfig
from tigr_core.errors import UserError
from tigr_core.files import write_atomically
from tigr_core.model import TaskInferenceModel
from tigr_core.rollout import Episodes

SUCCESS = "success"  # the quantity that tells of it, where a robot has one
ACCURACY_STEPS = (5, 10, 20, 50, 100, 200)


def tasks_of(env: EnvConfig) -> TaskSet:
    """Return the base tasks of a configuration; an unknown environment or task is a `UserError`."""
    try:
        return task_set(env.id, base_tasks=env.base_tasks)
    except ValueError as error:
        raise UserError(
            str(error), expected="a registered environment and its base tasks", fix="run `tigr envs`"
        ) from None


@cache
def success_column(env_id: str) -> int | None:
    """Return where among the quantities of a registered environment success is told; None where nothing tells."""
    with closing(ENVIRONMENTS[env_id].make_robot(1)) as robot:
        columns = [name for name, dim in robot.quantity_dims.items() for _ in range(dim)]
    return columns.index(SUCCESS) if SUCCESS in columns else None


def split_tasks(config: Config) -> tuple[list[Task], list[Task]]:
    """Return the training and test tasks of a configuration, the same for the same seed.

    With `EnvConfig.split_with_all`, a run of some base tasks has exactly those tasks that one of all of them has.
    """
    rng, known, env = np.random.default_rng([config.seed, 1]), tasks_of(config.env), config.env
    whole = task_set(env.id) if env.split_with_all else known
    train, test = (
        [known.task(task.base_task, *task.parameter) for task in part if task.base_task in known.names]
        for part in whole.split(env.num_train_tasks, env.num_test_tasks, rng)
    )
    return train, test


def evaluate(
    collector: Collector,
    model: TaskInferenceModel,
    tasks: Sequence[Task],
    *,
    seed: int,
    task_change: dict[str, Any] | None = None,
    episode_steps: int | None = None,
    told: bool = False,
    explore: bool = False,
) -> Episodes:
    """Run one episode of each task; environment seeds follow from `seed` and the place in `tasks`.

    Actions are the most likely ones, or with `explore` drawn from the policy.
    """
    seeds = np.random.SeedSequence([seed, 2]).generate_state(len(tasks)).tolist()
    request = Request(
        tasks,
        seeds,
        noise_seed=seed if explore else None,
        task_change=task_change,
        episode_steps=episode_steps,
        told_share=float(told),
    )
    return collector.collect(model, request)


def evaluate_changes(
    collector: Collector, model: TaskInferenceModel, tasks: Sequence[Task], config: Config
) -> Episodes:
    """Run non-stationary episodes: the task changes every `training.task_change_steps`, two changes an episode."""
    every = config.training.task_change_steps
    return evaluate(
        collector, model, tasks, seed=config.seed, task_change={"every_steps": every}, episode_steps=3 * every
    )


def component_labels(train: Episodes, config: Config, num_base_tasks: int) -> np.ndarray:
    """Return the base task that each component stands for, [K]: by its number when supervised, else by what it does."""
    assigned = analysis.assign_components(train, num_base_tasks)
    if config.inference.supervision_weight > 0.0:
        known = min(num_base_tasks, len(assigned))  # base tasks that are held out need no component
        assigned[:known] = np.arange(known)
    return assigned


def summarise(test: Episodes, names: Sequence[str], labels: np.ndarray, env_id: str) -> dict[str, float]:
    """Return the test columns of progress.csv: mean return and success, by base task too, and component accuracies."""
    by_task = analysis.return_per_base_task(test, names)
    steps = [s for s in ACCURACY_STEPS if s <= test.reward.shape[1]]
    return {
        "test_return": float(test.returns.mean()),
        **{f"test_return/{name}": value for name, value in by_task.items()},
        **success_rates(test, names, env_id),
        **{f"component_accuracy/{s}": analysis.component_accuracy(test, s, labels) for s in steps},
    }


def success_rates(test: Episodes, names: Sequence[str], env_id: str) -> dict[str, float]:
    """Return the share of episodes that succeed, of all and by base task; nothing where no quantity tells."""
    column = success_column(env_id)
    if column is None:
        return {}
    by_task = analysis.success_per_base_task(test, column, names)
    mean = float(analysis.successful(test, column).mean())
    return {"test_success": mean, **{f"test_success/{name}": value for name, value in by_task.items()}}


def summary_columns(names: Sequence[str], episode_steps: int, env_id: str) -> list[str]:
    """Return the keys of `summarise`."""
    steps = [s for s in ACCURACY_STEPS if s <= episode_steps]
    measures = ["test_return"] if success_column(env_id) is None else ["test_return", "test_success"]
    by_task = [column for measure in measures for column in (measure, *(f"{measure}/{name}" for name in names))]
    return [*by_task, *(f"component_accuracy/{s}" for s in steps)]


def bundle_info(config: Config, robot: RobotSpec, train: Episodes, labels: np.ndarray, source: Source) -> BundleInfo:
    """Describe a bundle of a model by what it did on the training tasks; `labels` are those of its components."""
    centre, basis = latent_axes(train)
    tasks = tasks_of(config.env)
    return BundleInfo(
        env_id=config.env.id,
        robot=robot.to_dict(),
        base_tasks=list(tasks.names),
        task_units=[task.unit for task in tasks.base_tasks],
        component_to_task=labels.tolist(),
        model=config.model,
        latent_centre=centre.tolist(),
        latent_basis=basis.tolist(),
        source=source,
    )


def latent_axes(episodes: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """Return centre [L] and up to three principal directions [<=3, L] of the settled latents, for drawing."""
    points = episodes.latent[:, 1:][analysis.second_half(episodes)]
    centre = points.mean(axis=0)
    _, _, directions = np.linalg.svd(points - centre, full_matrices=False)
    return centre, directions[:3]


def mixture_per_base_task(episodes: Episodes, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the mean settled mixture weights [K] under each base task that the episodes have."""
    settled = analysis.second_half(episodes)
    weights, labels = episodes.mixture_weights[:, 1:][settled], episodes.base_task[settled]
    return {names[label]: weights[labels == label].mean(axis=0) for label in np.unique(labels)}


def save_episodes(path: Path, **records: Episodes) -> None:
    """Write episode records as one .npz, names joined by a dot: ``test.obs`` and so on."""
    arrays = {f"{name}.{field}": value for name, record in records.items() for field, value in vars(record).items()}
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
