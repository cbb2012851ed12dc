# SPDX-License-Identifier: Apache-2.0
"""Pictures of the results page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter
from results_data import Run, Table
from results_numbers import band

from tigr_core.colours import Colour, base_task_colour
from tigr_core.plots import INK, STYLE, TARGET_LINE, spoken

HIGHEST_ERROR = 1.2
_styled = matplotlib.rc_context({**STYLE, "font.size": 11, "axes.titlesize": 11})


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only, and how they are shown."""

    label: str
    runs: Sequence[Run]
    colour: Colour | str
    emphasis: bool = False
    dashed: bool = False


@_styled
def save(figure: Figure, file: Path) -> None:
    """Write a picture with the same bytes for the same numbers."""
    figure.savefig(file, dpi=110, facecolor="white", metadata={"Software": None})


@_styled
def curves(groups: Sequence[Group], target: float | None) -> Figure:
    """Test return over environment steps and over SAC steps; of several seeds each, the median and the range."""
    figure = Figure(figsize=(9, 4.4))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    for axes, column, name in (
        (left, "env_steps", "environment steps"),
        (right, "sac_steps", "gradient steps of the policy (SAC)"),
    ):
        for group in groups:
            _band(axes, group, column)
        axes.set_xlabel(name)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if target is not None:
            axes.axhline(target, **TARGET_LINE, label="target" if axes is left else None)
    left.set_ylabel("mean return of the test tasks")
    if len(groups) > 1 or target is not None:
        figure.legend(loc="outside lower center", ncols=4)
    return figure


@_styled
def specialists(progress: Mapping[str, Table], base_tasks: Sequence[str]) -> Figure:
    """Test return over environment steps, a curve for each base task."""
    figure = Figure(figsize=(9, 4.4))
    axes = figure.subplots()
    for name, table in progress.items():
        steps, value = table.numbers("env_steps"), table.numbers("test_return")
        known = ~np.isnan(value)
        colour = base_task_colour(base_tasks.index(name))
        axes.plot(steps[known], value[known], color=colour, linewidth=2.0, marker="o", markersize=4, label=spoken(name))
    axes.set(xlabel="environment steps", ylabel="mean return of the test tasks", xlim=(0, None))
    axes.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
    figure.legend(loc="outside right center")
    return figure


def _band(axes: Axes, group: Group, column: str) -> None:
    x, low, median, high = band(group.runs, column, "test_return").T
    style: dict[str, Any] = {"color": group.colour, "linestyle": (0, (1, 1)) if group.dashed else "-"}
    label = group.label if column == "env_steps" else None
    axes.plot(x, median, label=label, linewidth=2.6 if group.emphasis else 1.8, **style)
    if len(x) < 8:
        axes.plot(x, median, marker="o", markersize=4, linestyle="", color=group.colour)
    if len(group.runs) > 1:
        for run in group.runs:
            own = band([run], column, "test_return")
            axes.plot(own[:, 0], own[:, 2], linewidth=0.8, alpha=0.6, **style)
        axes.fill_between(x, low, high, color=group.colour, alpha=0.18, linewidth=0)


@_styled
def adaptation(
    lines: Mapping[str, np.ndarray], longest: int, control_dt: float, target: tuple[int, float] | None
) -> Figure:
    """Share of changes of the task that are over within n steps; `lines` hold those n, nan for never."""
    figure = Figure(figsize=(7, 4.4))
    axes = figure.subplots()
    for index, (label, steps) in enumerate(lines.items()):
        done = np.sort(steps[steps <= longest])
        x = np.concatenate([[0], done, [longest]])
        y = np.concatenate([[0], np.arange(1, len(done) + 1), [len(done)]]) / max(len(steps), 1)
        axes.step(x, y, where="post", color=base_task_colour(index), linewidth=2.2, label=f"{label} ({len(steps)})")
    if target is not None:
        axes.plot(*target, marker="*", markersize=13, color=INK, linestyle="", label="target for the right component")
    axes.set(xlabel="steps since the change", ylabel="share of changes", xlim=(0, longest), ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    seconds = axes.twiny()
    seconds.set(xlim=(0, longest * control_dt), xlabel="seconds")
    seconds.grid(False)
    seconds.spines.top.set_visible(True)
    figure.legend(loc="outside lower center", ncols=1)
    return figure


@_styled
def generalisation(run: Run) -> Figure:
    """Error of the tracked value against the parameter, a panel for each base task; the training range is shaded.

    A relative error above `HIGHEST_ERROR` is drawn there.
    """
    tasks, tests, outside = run["base_tasks"], run["tests"], run["generalisation"]
    shown = [i for i, name in enumerate(run.base_tasks) if name in outside.text("base_task")]
    num_columns = min(4, len(shown))
    num_rows = -(-len(shown) // num_columns)
    figure = Figure(figsize=(2.35 * num_columns + 0.6, 2.5 * num_rows + 0.4))
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True)
    relative = all(reward == "relative" for reward in tasks.text("reward"))
    for place, axes in enumerate(panels.flat):
        if place >= len(shown):
            axes.set_visible(False)
            continue
        label = shown[place]
        name, unit = run.base_tasks[label], tasks.text("unit")[label]
        low, high = tasks.numbers("low")[label], tasks.numbers("high")[label]
        axes.axvspan(low, high, color=INK, alpha=0.08, linewidth=0)
        points = [_points(table, name, HIGHEST_ERROR if relative else np.inf) for table in (tests, outside)]
        x, y = np.concatenate(points, axis=1)
        order = np.argsort(x, kind="stable")
        axes.plot(x[order], y[order], color=base_task_colour(label), linewidth=1.2, alpha=0.6)
        style: dict[str, Any] = {"marker": "o", "linestyle": "", "color": base_task_colour(label), "clip_on": False}
        axes.plot(*points[0], markersize=5, **style)
        axes.plot(*points[1], markersize=5, markerfacecolor="white", **style)
        axes.set(title=spoken(name), xlabel=f"parameter [{unit}]")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if relative:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0, 0].set_ylim(bottom=0)
    figure.supylabel("error of the tracked value" if relative else "error", fontsize=11)
    return figure


def _points(table: Table, name: str, highest: float) -> np.ndarray:
    mine = np.array(table.text("base_task")) == name
    return np.stack([table.numbers("parameter")[mine], np.minimum(table.numbers("error")[mine], highest)])
