# SPDX-License-Identifier: Apache-2.0
"""What the results page tells about stored runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from results_data import ALL, Run, flat, pairs
from results_text import number

from tigr_core.config import Config

NOT_COMPARED = ("seed", "name", "description", "schema_version", "training.epochs")


def band(runs: Sequence[Run], x: str, y: str) -> np.ndarray:
    """Return the columns x, smallest, median and largest y of the curves of runs that differ in their seed, [n, 4].

    Between the points of a curve y is interpolated; x ends where one of the curves does. No row without any curve.
    """
    curves = []
    for run in runs:
        if "curve" in run and y in run["curve"].columns:
            steps, value = run["curve"].numbers(x), run["curve"].numbers(y)
            curves.append((steps[~np.isnan(value)], value[~np.isnan(value)]))
    curves = [(steps, value) for steps, value in curves if len(steps)]
    if not curves:
        return np.zeros((0, 4))
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= max(s[0] for s, _ in curves)) & (grid <= min(s[-1] for s, _ in curves))]
    values = np.array([np.interp(grid, steps, value) for steps, value in curves])
    return np.stack([grid, values.min(axis=0), np.median(values, axis=0), values.max(axis=0)], axis=1)


def best(runs: Sequence[Run]) -> Run:
    """Return the run whose bundle has the highest return on training tasks."""
    return max(runs, key=lambda run: number(run.facts["train_return"], -math.inf))


def first_reaching(runs: Sequence[Run], x: str, level: float) -> float:
    """Return x of the first evaluation at which the median test return is at least `level`; nan if none is."""
    points = band(runs, x, "test_return")
    good = points[points[:, 2] >= level]
    return float(good[0, 0]) if len(good) else math.nan


def worst_base_task(run: Run) -> tuple[str, float]:
    """Return the base task with the lowest mean return, and that."""
    returns = {name: value for name, value in run.per_base_task("return").items() if not math.isnan(value)}
    return min(returns.items(), key=lambda item: item[1])


def median_error(run: Run) -> float:
    """Return the error of the median base task."""
    return float(np.nanmedian(list(run.per_base_task("error").values())))


def accuracy(run: Run, step: str, name: str = ALL) -> float:
    """Return the component accuracy after some steps; nan where it was not measured."""
    if "accuracy" not in run or step not in run["accuracy"].columns:
        return math.nan
    rows = run["accuracy"].text("base_task")
    return float(run["accuracy"].numbers(step)[rows.index(name)]) if name in rows else math.nan


def steps_after_changes(run: Run, kind: str, column: str) -> np.ndarray:
    """Return a column of the changes of a kind, nan for never; empty where it was not measured."""
    if "changes" not in run or (column == "recognised" and "accuracy" not in run):
        return np.zeros(0)
    return run["changes"].numbers(column)[np.array(run["changes"].text("kind")) == kind]


def value_at(runs: Sequence[Run], column: str, steps: float) -> float:
    """Return the median of a column of the curves after some environment steps; nan without one."""
    points = band(runs, "env_steps", column)
    return float(np.interp(steps, points[:, 0], points[:, 2])) if len(points) else math.nan


def difference(run: Run, main: Run) -> str:
    """Say in which settings a run differs from the main one; those that one of them is too old to have are defaults."""
    default = flat(Config().model_dump(mode="json"))
    mine, others = ({**default, **pairs(table["settings"])} for table in (run, main))
    changed = [key for key in mine if mine[key] != others.get(key) and key not in NOT_COMPARED]
    return ", ".join(f"`{key}` {mine[key] or 'none'} instead of {others.get(key) or 'none'}" for key in changed)
