# SPDX-License-Identifier: Apache-2.0
"""Measuring a bundle on unseen tasks, by the most likely action: the tables of `results_data`."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import results_data
import torch

from envs.tasks import BaseTask, Task, TaskSet
from tigr_core import analysis, evaluation, run_report
from tigr_core.bundle import Bundle, load_bundle
from tigr_core.collector import LocalCollector
from tigr_core.config import Config
from tigr_core.errors import UserError
from tigr_core.rollout import Episodes
from tigr_core.run_log import PROGRESS_FILE, read_progress
from tigr_core.teachers import teacher_bundles

CONFUSION_STEP = 50
MIN_CHANGES = 40  # of each kind
HOLD = 10  # steps that an estimate has to stay right, and that a reward is averaged over
REWARD_MARGIN = 0.1  # below that of undisturbed episodes, where the new task counts as followed
IDLE_SHARE = 0.75  # of the reward for doing nothing: nothing worse counts as followed
BEYOND = (0.0, 0.1, 0.25, 0.5)  # how far outside the training range, as a share of its end
STARTS = 3  # episodes of each task outside the training range

Columns = Mapping[str, Iterable[object]]


def measure(bundle_file: Path, results: Path, name: str, run: Path | None, machine: str | None) -> Path:
    """Evaluate a bundle and write its tables; return their folder."""
    bundle = load_bundle(bundle_file)
    progress = None if run is None else _progress_of(bundle, run)
    measurement = Measurement(bundle)
    with closing(measurement.collector):
        tables = measurement.tables()
    facts = _facts(measurement, progress, machine or this_machine())
    tables["run"] = {"key": list(facts), "value": list(facts.values())}
    settings = results_data.flat(measurement.config.model_dump(mode="json"))
    tables["settings"] = {"key": list(settings), "value": list(settings.values())}
    if progress is not None:
        tables["curve"] = _curve(progress)
    folder = results / bundle.info.env_id.rpartition("/")[2] / name
    results_data.write_run(folder, tables)
    return folder


class Measurement:
    """A bundle with the tasks and the environments that it is measured with."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.config = bundle, run_report.config_of(bundle)
        self.task_set: TaskSet = evaluation.tasks_of(self.config.env)
        self.names = self.task_set.names
        self.labels = np.array(bundle.info.component_to_task)
        self.told = self.config.training.told_share == 1.0
        self.infers_base_task = not self.told and self.config.model.method == "tigr"
        self.collector = LocalCollector(self.config.env, num_threads=1)
        self.tests = evaluation.split_tasks(self.config)[1]

    def tables(self) -> dict[str, Columns]:
        """Measure everything that means something for this bundle."""
        test = self._evaluate(self.tests)
        tables = {
            "base_tasks": self._base_tasks(),
            "tests": self._tests(test),
            "generalisation": self._generalisation(),
        }
        if self.infers_base_task:
            tables |= {"accuracy": self._accuracy(test), "confusion": self._confusion(test)}
        if not self.told and self.task_set.has_alternatives:
            tables["changes"] = self._changes(test)
        return tables

    @property
    def confusion_step(self) -> int:
        """After how many transitions base tasks are confused."""
        return min(CONFUSION_STEP, self.config.env.episode_steps)

    def _evaluate(self, tasks: Sequence[Task]) -> Episodes:
        model, seed = self.bundle.model, self.config.seed
        return evaluation.evaluate(self.collector, model, tasks, seed=seed, told=self.told)

    def _base_tasks(self) -> Columns:
        fields = results_data.COLUMNS["base_tasks"]
        return {field: [getattr(task, field) for task in self.task_set.base_tasks] for field in fields}

    def _tests(self, test: Episodes) -> Columns:
        return {
            "base_task": [task.base_task for task in self.tests],
            "parameter": [_text(task.parameter) for task in self.tests],
            "return": test.returns,
            "error": analysis.settled_mean(test, test.tracking_error),
        }

    def _accuracy(self, test: Episodes) -> Columns:
        parts = {name: test.select(test.base_task[:, 0] == label) for label, name in enumerate(self.names)}
        parts[results_data.ALL] = test
        steps = [step for step in evaluation.ACCURACY_STEPS if step <= self.config.env.episode_steps]
        shares = {
            str(step): [analysis.component_accuracy(part, step, self.labels) for part in parts.values()]
            for step in steps
        }
        return {"base_task": list(parts), **shares}

    def _confusion(self, test: Episodes) -> Columns:
        shares = analysis.confusion(test, self.confusion_step, self.labels, len(self.names))
        return {"base_task": self.names, **dict(zip(self.names, shares.T, strict=True))}

    def _generalisation(self) -> Columns:
        places = [place for base_task in self.task_set.base_tasks for place in _outside(base_task)]
        tasks = [self.task_set.task(name, *parameter) for name, _, _, parameter in places]
        if not tasks:
            return {column: [] for column in results_data.COLUMNS["generalisation"]}
        episodes = self._evaluate([task for task in tasks for _ in range(STARTS)])
        returns, error = (
            value.reshape(-1, STARTS).mean(axis=1)
            for value in (episodes.returns, analysis.settled_mean(episodes, episodes.tracking_error))
        )
        names, ends, beyond, parameters = zip(*places, strict=True)
        cells = names, ends, beyond, map(_text, parameters), returns, error
        return dict(zip(results_data.COLUMNS["generalisation"], cells, strict=True))

    def _changes(self, test: Episodes) -> Columns:
        """Measure changes between base tasks (and some within) in one environment, changes within in one for each."""
        wanted = self._wanted_rewards(test)
        rows: list[tuple[str, str, float, float]] = []
        if len(self.names) > 1:
            episodes = self._changing(self.collector, self.tests, analysis.base_task_changes, MIN_CHANGES)
            rows += self._change_rows(episodes, wanted)
        kinds = [task.name for task in self.task_set.base_tasks if task.low < task.high]
        for name in kinds:
            tasks = [task for task in self.tests if task.base_task == name]
            alone = LocalCollector(self.config.env.model_copy(update={"base_tasks": [name]}), num_threads=1)
            with closing(alone):
                episodes = self._changing(alone, tasks, analysis.task_changes, math.ceil(MIN_CHANGES / len(kinds)))
            label = np.full_like(episodes.base_task, self.names.index(name))
            rows += self._change_rows(replace(episodes, base_task=label), wanted)
        return dict(zip(results_data.COLUMNS["changes"], zip(*rows, strict=True), strict=True))

    def _changing(
        self, collector: LocalCollector, tasks: Sequence[Task], changes_of: Callable[[Episodes], Sized], at_least: int
    ) -> Episodes:
        """Run episodes that begin with `tasks` and change, with new seeds until there are changes enough."""
        parts: list[Episodes] = []
        while sum(len(changes_of(part)) for part in parts) < at_least:
            config = self.config.model_copy(update={"seed": self.config.seed + len(parts)})
            parts.append(evaluation.evaluate_changes(collector, self.bundle.model, tasks, config))
        return Episodes.concatenate(parts)

    def _wanted_rewards(self, test: Episodes) -> np.ndarray:
        """Return the mean reward from which on each base task counts as followed, [B]."""
        settled = np.array(list(analysis.settled_reward_per_base_task(test, self.names).values()))
        wanted = settled - REWARD_MARGIN * np.maximum(1.0, np.abs(settled))
        relative = np.array([task.reward == "relative" for task in self.task_set.base_tasks])
        return np.where(relative, np.maximum(wanted, -IDLE_SHARE), wanted)  # a relative reward for doing nothing: -1

    def _change_rows(self, episodes: Episodes, wanted: np.ndarray) -> list[tuple[str, str, float, float]]:
        """Return kind, new base task, steps to recognise and to follow it for each change."""
        places = [(episode, start) for episode, start, _ in analysis.base_task_changes(episodes)]
        steps = [math.nan] * len(places)
        if self.infers_base_task and places:
            steps = analysis.recovery_steps(episodes, self.labels, HOLD).tolist()
        recognised = dict(zip(places, steps, strict=True))
        followed = analysis.following_steps(episodes, wanted, HOLD)
        return [
            (
                "between" if (episode, start) in recognised else "within",
                self.names[episodes.base_task[episode, start]],
                recognised.get((episode, start), math.nan),
                float(steps),
            )
            for (episode, start, _), steps in zip(analysis.task_changes(episodes), followed, strict=True)
        ]


def _outside(base_task: BaseTask) -> list[tuple[str, str, float, tuple[float, ...]]]:
    """Return base task, end, how far beyond it, and parameter: at and outside the ends of a range."""
    if base_task.low == base_task.high:
        return []
    ends = ("low", base_task.low, -1.0), ("high", base_task.high, 1.0)
    return [
        (base_task.name, end, beyond, (place + outwards * beyond * abs(place),) * base_task.parameter_dim)
        for end, place, outwards in ends
        for beyond in (BEYOND if place else (0.0,))
    ]


def _facts(measurement: Measurement, progress: dict[str, list[float]] | None, machine: str) -> dict[str, object]:
    """Return the rows of run.csv; steps and time up to the bundle."""
    config, info = measurement.config, measurement.bundle.info
    row = _row_of(measurement.bundle, progress) if progress is not None else {}
    values = (
        *(info.env_id, config.name, config.seed, config.model.method, int(measurement.told)),
        *(info.source.version, info.sha256, info.source.evaluation.get("train_return", math.nan)),
        *(info.source.env_steps, _teacher_env_steps(config), info.source.sac_steps),
        *(row.get("inference_steps", math.nan), row.get("wall_s", math.nan), machine),
        *(config.env.episode_steps, measurement.bundle.robot.control_dt, config.training.task_change_steps),
        measurement.confusion_step,
    )
    return dict(zip(results_data.FACTS, values, strict=True))


def _teacher_env_steps(config: Config) -> float:
    """Return the environment steps of the bundles that taught, 0 without any, nan where they are not at hand."""
    try:
        files = teacher_bundles(config.sac.teachers)
    except UserError:
        return math.nan
    return float(sum(load_bundle(file).info.source.env_steps for file in files))


def _progress_of(bundle: Bundle, run: Path) -> dict[str, list[float]]:
    """Read the progress of the run that a bundle came from; another run is a `UserError`."""
    progress = read_progress(run / PROGRESS_FILE)
    if not _row_of(bundle, progress):
        source = bundle.info.source
        raise UserError(
            f"{run / PROGRESS_FILE} has no epoch with {source.env_steps} env steps and {source.sac_steps} SAC steps",
            expected="the folder of the run that wrote the bundle",
            fix="name that folder with --run",
        )
    return progress


def _row_of(bundle: Bundle, progress: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the row of progress.csv at which a bundle was written; empty when there is none."""
    source = bundle.info.source
    for row in _rows(progress):
        if (row["env_steps"], row["sac_steps"]) == (source.env_steps, source.sac_steps):
            return row
    return {}


def _curve(progress: Mapping[str, Sequence[float]]) -> Columns:
    """Return what curve.csv keeps of the progress: evaluated epochs and the last."""
    wanted = results_data.COLUMNS["curve"]
    columns = [name for name in progress if name in wanted or name.startswith("component_accuracy/")]
    rows = list(_rows(progress))
    kept = [row for row in rows if not math.isnan(row["test_return"]) or row is rows[-1]]
    return {name: [row[name] for row in kept] for name in columns}


def _rows(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _text(parameter: Sequence[float]) -> str:
    return " ".join(f"{entry:.6g}" for entry in parameter)


def this_machine() -> str:
    """Describe the machine that this runs on."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} threads, torch {torch.__version__}"
