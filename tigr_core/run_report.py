# SPDX-License-Identifier: Apache-2.0
"""The last word on a run: its best bundle on the test tasks, with and without task changes, as tables and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.tasks import Task
from tigr_core import analysis, evaluation
from tigr_core.bundle import Bundle, load_bundle
from tigr_core.collector import Collector
from tigr_core.config import Config, make_config
from tigr_core.report import write_report
from tigr_core.rollout import Episodes
from tigr_core.run_log import PROGRESS_FILE, read_progress
from tigr_core.trainer import BEST
from tigr_core.video import stills

REPORT, EVALUATION = "report.html", "evaluation.npz"


@dataclass(frozen=True)
class Results:
    """A bundle's evaluation."""

    bundle: Bundle
    config: Config
    test: Episodes
    changes: Episodes | None

    @property
    def labels(self) -> np.ndarray:
        """Base task of each component, [K]."""
        return np.array(self.bundle.info.component_to_task)

    def headline(self) -> dict[str, float]:
        """Return the numbers that matter most, by name."""
        info = self.bundle.info
        numbers = evaluation.summarise(self.test, info.base_tasks, self.labels, info.env_id)
        errors = analysis.tracking_error_per_base_task(self.test, self.bundle.info.base_tasks)
        numbers |= {f"tracking_error/{name}": value for name, value in errors.items()}
        if self.changes is not None:
            steps = analysis.recovery_steps(self.changes, self.labels)
            numbers["task_changes"] = float(len(steps))
            if len(steps):
                numbers["recovered_within_20_steps"] = float((steps <= 20).mean())
                numbers["recovery_steps_median"] = analysis.median_steps(steps)
        return numbers


def evaluate_tasks(
    bundle: Bundle, collector: Collector, config: Config, tasks: Sequence[Task], *, changes: bool
) -> Results:
    """Evaluate a bundle on tasks; with `changes` also in episodes that begin with them and change."""
    test = evaluation.evaluate(collector, bundle.model, tasks, seed=config.seed)
    changing = None
    if changes and evaluation.tasks_of(config.env).has_alternatives:
        changing = evaluation.evaluate_changes(collector, bundle.model, tasks, config)
    return Results(bundle, config, test, changing)


def config_of(bundle: Bundle) -> Config:
    """Return the configuration that a bundle was trained with."""
    return make_config(dict(bundle.info.source.config), "the bundle's configuration")


def report_run(folder: Path, collector: Collector) -> Results:
    """Evaluate the best bundle of a run folder and write evaluation.npz and report.html there."""
    bundle = load_bundle(folder / BEST)
    config = config_of(bundle)
    results = evaluate_tasks(bundle, collector, config, evaluation.split_tasks(config)[1], changes=True)
    records = {"test": results.test} | ({"changes": results.changes} if results.changes is not None else {})
    evaluation.save_episodes(folder / EVALUATION, **records)
    write_page(folder / REPORT, results, read_progress(folder / PROGRESS_FILE))
    return results


def write_page(path: Path, results: Results, progress: dict[str, list[float]]) -> None:
    """Write the self-contained page."""
    info = results.bundle.info
    write_report(
        path,
        progress=progress,
        test=results.test,
        changes=results.changes,
        base_tasks=evaluation.tasks_of(results.config.env).base_tasks,
        component_to_task=results.labels,
        control_dt=results.bundle.robot.control_dt,
        summary={
            "configuration": results.config.name,
            "environment": info.env_id,
            "seed": results.config.seed,
            "environment steps": info.source.env_steps,
            "SAC steps": info.source.sac_steps,
            "version": info.source.version,
            "bundle": info.sha256[:12],
        },
        config_text=results.config.to_yaml(),
        postures=stills(results.test, info.env_id, evaluation.tasks_of(results.config.env)),
        success=evaluation.success_rates(results.test, info.base_tasks, info.env_id),
    )
