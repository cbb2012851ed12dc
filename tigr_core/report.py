# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one HTML page that needs nothing beside it, for screen (light or dark) and paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from tigr_core import analysis, plots
from tigr_core.files import write_atomically
from tigr_core.rollout import Episodes

MARKS = (5, 10, 20, 50, 100, 200)  # transitions after which component accuracy is told
CONFUSION_STEP = 50
MISSING = "\N{EN DASH}"


def write_report(
    path: Path,
    *,
    progress: dict[str, list[float]],
    test: Episodes,
    changes: Episodes | None,
    base_tasks: Sequence[plots.NamedTask],
    component_to_task: np.ndarray,
    control_dt: float,
    summary: dict[str, str | float],
    config_text: str,
    postures: Figure | None = None,
    success: Mapping[str, float] | None = None,
) -> None:
    """Write the page.

    `progress`: columns of progress.csv, nan where empty. `test`: one evaluation of the test tasks. `changes`:
    episodes in which the task changes, if any were recorded. `component_to_task` [K]. `control_dt` [s].
    `summary`: what to show at the top (environment, run, version, ...). `postures`: pictures of the robot. `success`:
    test_success and test_success/<base task>, shares of the test episodes, where something tells of it.
    """
    names = [task.name for task in base_tasks]
    longest = int(test.length.max())
    marks = [mark for mark in MARKS if mark <= longest] or [longest]
    middle = min(CONFUSION_STEP, marks[-1])
    shares = analysis.confusion(test, middle, component_to_task, len(names))
    figures = {"learning": plots.learning_curves(progress, names)} if progress else {}
    figures |= {
        "tracking": plots.tracking(test, base_tasks, component_to_task, control_dt),
        "latent": plots.latent_plane(test, names),
        "accuracy": plots.accuracy_against_step(test, names, component_to_task, marks),
        "confusion": plots.confusion_matrix(shares, names),
    }
    if postures is not None:
        figures["postures"] = postures
    if changes is not None:
        figures["adaptation"] = plots.adaptation(changes, base_tasks, component_to_task, control_dt)
    rows = _rows(progress, test, component_to_task, names, marks)
    for row, name in zip(rows, [*names, ""], strict=True):
        row["success"] = _percent(success[f"test_success/{name}".rstrip("/")]) if success else ""
    templates = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        summary={name: _number(value) for name, value in summary.items()},
        headline=_headline(progress, test, changes, component_to_task, names, middle),
        marks=marks,
        middle=middle,
        rows=rows,
        tells_success=bool(success),
        figures={name: Markup(plots.to_svg(figure)) for name, figure in figures.items()},
        config_text=config_text,
    )
    write_atomically(path, lambda file: file.write(page.encode()))


def _headline(
    progress: dict[str, list[float]],
    test: Episodes,
    changes: Episodes | None,
    component_to_task: np.ndarray,
    names: Sequence[str],
    step: int,
) -> dict[str, str]:
    """The handful of numbers to read first, as text."""
    first, last = _first_and_last(progress.get("test_return", []))
    accuracy = analysis.component_accuracy(test, step, component_to_task)
    errors = list(analysis.tracking_error_per_base_task(test, names).values())
    numbers = {
        "test return, first evaluation": _decimal(first, 1),
        "test return, last evaluation": _decimal(last, 1),
        f"component accuracy at step {step}": _percent(accuracy),
        "tracking error, mean of base tasks": _decimal(_mean(errors), 3),
    }
    if changes is not None:
        recovery = analysis.recovery_steps(changes, component_to_task)
        median = analysis.median_steps(recovery)
        numbers["steps to recover after a change, median"] = "never" if math.isinf(median) else _decimal(median, 0)
        numbers["changes recovered from"] = f"{np.isfinite(recovery).sum()} of {len(recovery)}"
    return numbers


def _rows(
    progress: dict[str, list[float]],
    test: Episodes,
    component_to_task: np.ndarray,
    names: Sequence[str],
    marks: Sequence[int],
) -> list[dict[str, Any]]:
    """The table: a row per base task and one for all of them."""
    returns = analysis.return_per_base_task(test, names)
    errors = analysis.tracking_error_per_base_task(test, names)
    rows = []
    for index, name in enumerate(names):
        part = test.select(test.base_task[:, 0] == index)
        ends = _first_and_last(progress.get(f"test_return/{name}", []))
        rows.append(_row(name.replace("_", " "), (*ends, returns[name]), errors[name], part, component_to_task, marks))
        rows[-1]["colour"] = "#" + "".join(f"{round(255 * c):02x}" for c in plots.base_task_colour(index))
    ends = _first_and_last(progress.get("test_return", []))
    overall = (*ends, float(test.returns.mean()))
    return [*rows, _row("all", overall, _mean(list(errors.values())), test, component_to_task, marks)]


def _row(
    name: str,
    returns: tuple[float, float, float],
    error: float,
    episodes: Episodes,
    component_to_task: np.ndarray,
    marks: Sequence[int],
) -> dict[str, Any]:
    accuracy = [analysis.component_accuracy(episodes, mark, component_to_task) for mark in marks]
    return {
        "name": name,
        "colour": "",
        "episodes": len(episodes),
        "returns": [_decimal(value, 1) for value in returns],
        "error": _decimal(error, 3),
        "accuracy": [_percent(value) for value in accuracy],
    }


def _first_and_last(column: Sequence[float]) -> tuple[float, float]:
    """First and last cell that is not empty; nan where there is none."""
    present = [value for value in column if not math.isnan(value)]
    return (present[0], present[-1]) if present else (math.nan, math.nan)


def _mean(values: Sequence[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


def _decimal(value: float, digits: int) -> str:
    return MISSING if math.isnan(value) else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.0f} %"


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
