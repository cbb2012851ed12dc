# SPDX-License-Identifier: Apache-2.0
"""Figures of a run. Each function takes numbers and returns a matplotlib Figure; nothing is kept in pyplot.

Text and axes are drawn in INK; `to_svg` turns it into the colour of the surrounding page (light or dark).
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator, PercentFormatter

from tigr_core import analysis
from tigr_core.colours import base_task_colour as base_task_colour
from tigr_core.colours import component_colours
from tigr_core.rollout import Episodes

INK = "#1b1d22"
MAX_PANELS = 8
# viridis without its darkest part, which would vanish on a dark page
SHADES = LinearSegmentedColormap.from_list("shades", matplotlib.colormaps["viridis"](np.linspace(0.2, 1, 64)))
TARGET_LINE: dict[str, Any] = {"color": INK, "linestyle": (0, (4, 2)), "linewidth": 1.2}
STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 10,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "tigr",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_styled = matplotlib.rc_context(STYLE)


class NamedTask(Protocol):
    """What the figures need to know of a base task."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...


def to_svg(figure: Figure) -> str:
    """Return the figure as an <svg> element without outside references; INK is the page's text colour."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r' (xmlns(:\w+)?|version)="[^"]*"', "", svg[svg.index("<svg") :])
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)  # a hundredth of a point is fine enough, and half the size
    return svg.replace(INK, "currentColor")


@_styled
def learning_curves(progress: dict[str, list[float]], names: Sequence[str]) -> Figure:
    """Returns (mean; per base task) and component accuracy over env steps, from columns of progress.csv."""
    figure = Figure(figsize=(11, 3.5))
    mean, each, accuracy = figure.subplots(1, 3)
    steps = np.array(progress.get("env_steps", []))
    style: dict[str, Any] = {"color": INK, "alpha": 0.4, "linewidth": 0.9}
    _curve(mean, steps, progress.get("collect_return"), label="while collecting", **style)
    _curve(mean, steps, progress.get("train_return"), label="train tasks", **TARGET_LINE)
    _curve(mean, steps, progress.get("test_return"), color=INK, linewidth=2.2, label="test tasks")
    for index, name in enumerate(names):
        _curve(each, steps, progress.get(f"test_return/{name}"), color=base_task_colour(index))
    columns = [name for name in progress if name.startswith("component_accuracy/")]
    for column, alpha in zip(columns, np.linspace(0.35, 1.0, len(columns)), strict=True):
        label = f"step {column.rsplit('/', 1)[1]}"
        _curve(accuracy, steps, progress[column], color=base_task_colour(0), alpha=alpha, label=label)
    mean.set(title="Mean return", ylabel="return per episode")
    each.set(title="Test return per base task", ylabel="return per episode")
    accuracy.set(title="Component accuracy", ylabel="share of test episodes recognised", ylim=(0, 1.02))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (mean, each, accuracy):
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep="\N{THIN SPACE}"))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if not axes.lines:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "no evaluation yet", ha="center", va="center", transform=axes.transAxes)
        elif axes is not each:
            axes.legend(loc="lower right")
    _base_task_legend(figure, names, [Line2D([], [], color=base_task_colour(i)) for i in range(len(names))])
    return figure


@_styled
def tracking(
    episodes: Episodes, base_tasks: Sequence[NamedTask], component_to_task: np.ndarray, control_dt: float
) -> Figure:
    """Tracked value and target, below them the mixture weights, over time [s]: one task of each base task."""
    shown = example_episodes(episodes)
    num_columns = min(4, len(shown))
    num_rows = -(-len(shown) // num_columns)
    figure = Figure(figsize=(11, 3.1 * num_rows))
    grid = figure.add_gridspec(2 * num_rows, num_columns, height_ratios=[2.2, 1] * num_rows)
    for place, episode in enumerate(shown):
        row, column = divmod(place, num_columns)
        label, length = int(episodes.base_task[episode, 0]), int(episodes.length[episode])
        task, time = base_tasks[label], np.arange(length) * control_dt
        value = figure.add_subplot(grid[2 * row, column])
        value.plot(time, episodes.tracked_target[episode, :length], **TARGET_LINE)
        value.plot(time, episodes.tracked_value[episode, :length], color=base_task_colour(label))
        value.set_title(spoken(task.name))
        value.set_ylabel(f"value [{task.unit}]" if task.unit else "value")
        value.tick_params(labelbottom=False)
        weights = figure.add_subplot(grid[2 * row + 1, column], sharex=value)
        draw_weights(weights, episodes, episode, component_to_task, control_dt)
        weights.set(xlabel="time [s]", ylabel="weight" if column == 0 else "")
    lines = [Line2D([], [], label="target", **TARGET_LINE), Line2D([], [], color=INK, label="value")]
    _component_legend(figure, base_tasks, component_to_task, lines)
    return figure


@_styled
def latent_plane(episodes: Episodes, names: Sequence[str]) -> Figure:
    """Settled latents on their first two principal axes, coloured by true base task and by task parameter.

    A one-dimensional latent is drawn against the task parameter instead.
    """
    estimates, labels, parameter = _settled_estimates(episodes)
    plane, share = analysis.principal_plane(estimates)
    scaled = _scaled_within(labels, parameter)
    captions = [f"principal axis {i + 1} ({share[i]:.0%} of variance)" for i in range(2)]
    if estimates.shape[1] == 1:
        plane, captions = np.stack([estimates[:, 0], parameter], axis=1), ["latent z", "task parameter"]
    figure = Figure(figsize=(9.6, 4.2))
    kind, degree = figure.subplots(1, 2, sharex=True, sharey=True)
    colours = np.array([base_task_colour(i) for i in range(len(names))])
    kind.scatter(*plane.T, c=colours[labels], s=9, linewidths=0, alpha=0.7)
    degree.scatter(*plane.T, c=scaled, cmap=SHADES, s=9, linewidths=0, alpha=0.7)
    kind.set(title="Coloured by base task", xlabel=captions[0], ylabel=captions[1])
    degree.set(title="Coloured by task parameter", xlabel=captions[0])
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), SHADES), ax=degree, ticks=[0, 1], pad=0.02)
    bar.ax.set_yticklabels(["low", "high"])
    bar.set_label("magnitude within the base task", labelpad=-12)
    handles = [Line2D([], [], color=base_task_colour(i), marker="o", linestyle="") for i in range(len(names))]
    _base_task_legend(figure, names, handles)
    return figure


@_styled
def accuracy_against_step(
    episodes: Episodes, names: Sequence[str], component_to_task: np.ndarray, marks: Sequence[int]
) -> Figure:
    """Component accuracy after n transitions, all episodes and per base task, n on a logarithmic axis."""
    figure = Figure(figsize=(5.4, 3.4))
    axes = figure.subplots()
    steps = np.arange(1, episodes.reward.shape[1] + 1)
    for index in np.unique(episodes.base_task[:, 0]):
        part = episodes.select(episodes.base_task[:, 0] == index)
        axes.plot(
            steps,
            analysis.accuracy_curve(part, component_to_task)[1:],
            color=base_task_colour(index),
            linewidth=1.1,
        )
    axes.plot(steps, analysis.accuracy_curve(episodes, component_to_task)[1:], color=INK, linewidth=2.6)
    _chance_line(axes, len(names))
    axes.set_xscale("log")
    axes.set_xticks([1, *marks], [str(mark) for mark in [1, *marks]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="transitions seen", ylabel="share of episodes recognised", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    handles = [Line2D([], [], color=base_task_colour(i)) for i in range(len(names))]
    _base_task_legend(figure, ["all", *names], [Line2D([], [], color=INK, linewidth=2.6), *handles], columns=2)
    return figure


@_styled
def confusion_matrix(shares: np.ndarray, names: Sequence[str]) -> Figure:
    """`shares` [true, inferred] as a shaded table, in per cent; no numbers for more than 12 base tasks."""
    size = max(4.4, 0.32 * len(names) + 1.9)
    figure = Figure(figsize=(size + 1.0, size))
    axes = figure.subplots()
    blue = base_task_colour(0)
    shades = LinearSegmentedColormap.from_list("shades", [(*blue, 0.0), (*blue, 1.0)])
    axes.pcolormesh(np.ma.masked_invalid(shares), cmap=shades, vmin=0, vmax=1, edgecolors="#8888884d", linewidth=0.8)
    for (row, column), share in np.ndenumerate(shares):
        if len(names) <= 12 and share >= 0.005:
            colour = "white" if share > 0.5 else INK
            axes.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center", color=colour)
    places = np.arange(len(names)) + 0.5
    labels = [spoken(name) for name in names]
    axes.set_xticks(places, labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, labels)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set(xlabel="inferred base task", ylabel="true base task", aspect="equal")
    return figure


@_styled
def adaptation(
    episodes: Episodes, base_tasks: Sequence[NamedTask], component_to_task: np.ndarray, control_dt: float
) -> Figure:
    """When the task changes: accuracy around a change, and over time the episode with most changes."""
    figure = Figure(figsize=(11, 4.0))
    grid = figure.add_gridspec(3, 2, width_ratios=[1, 1.9], height_ratios=[1, 1, 5])
    curve = figure.add_subplot(grid[:, 0])
    segments = [end - start for _, start, end in analysis.base_task_changes(episodes)]
    offset, accuracy = analysis.accuracy_since_change(
        episodes, component_to_task, before=10, after=int(np.median(segments)) if segments else 10
    )
    curve.plot(offset, accuracy, color=INK, linewidth=2.2)
    curve.axvline(0, **TARGET_LINE)
    _chance_line(curve, len(base_tasks))
    curve.set(xlabel="transitions since the change", ylabel="share of estimates right", ylim=(0, 1.02))
    curve.set_title("Recognition after a change")
    curve.yaxis.set_major_formatter(PercentFormatter(1.0))

    changed = [episode for episode, _, _ in analysis.base_task_changes(episodes)]
    episode = int(np.bincount(changed).argmax()) if changed else 0
    length = int(episodes.length[episode])
    inferred = component_to_task[episodes.mixture_weights[episode, 1 : length + 1].argmax(axis=1)]
    truth, guess = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    weights = figure.add_subplot(grid[2, 1])
    draw_strip(truth, episodes.base_task[episode, :length], control_dt, "true")
    draw_strip(guess, inferred, control_dt, "inferred")
    truth.set_title("One episode")
    draw_weights(weights, episodes, episode, component_to_task, control_dt)
    weights.set(xlabel="time [s]", ylabel="mixture weight")
    _component_legend(figure, base_tasks, component_to_task, [])
    return figure


def example_episodes(episodes: Episodes) -> list[int]:
    """Return one stationary episode of each base task, up to MAX_PANELS: the one of middle return."""
    steady, label, returns = analysis.stationary(episodes), episodes.base_task[:, 0], episodes.returns
    shown = []
    for index in np.unique(label[steady])[:MAX_PANELS]:
        members = np.flatnonzero(steady & (label == index))
        shown.append(int(members[np.argsort(returns[members])[len(members) // 2]]))
    return shown or [0]


def _curve(axes: Axes, steps: np.ndarray, column: list[float] | None, **style: Any) -> None:
    """Draw the cells of a progress column that are not empty."""
    value = np.array(column or [], dtype=float)
    done = np.isfinite(value)
    if done.any():
        axes.plot(steps[done], value[done], marker="o" if done.sum() < 3 else "", markersize=4, **style)


def draw_weights(
    axes: Axes, episodes: Episodes, episode: int, component_to_task: np.ndarray, control_dt: float
) -> None:
    """Stack the mixture weights, in the order of base tasks so that components of one task lie together."""
    order = np.argsort(component_to_task, kind="stable")
    colours = component_colours(component_to_task)
    length = int(episodes.length[episode])
    time = np.arange(length + 1) * control_dt
    weights = episodes.mixture_weights[episode, : length + 1].T[order]
    axes.stackplot(time, weights, colors=[colours[component] for component in order], linewidth=0)
    axes.set(xlim=(0, time[-1]), ylim=(0, 1), yticks=[0, 1])
    axes.grid(False)


def draw_strip(axes: Axes, labels: np.ndarray, control_dt: float, name: str) -> None:
    """Colour the time axis by base task."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for start, end in pairwise(edges):
        axes.axvspan(start * control_dt, end * control_dt, color=base_task_colour(int(labels[start])), linewidth=0)
    axes.set(xlim=(0, len(labels) * control_dt), yticks=[], xticks=[])
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
    axes.spines[:].set_visible(False)


def _settled_estimates(episodes: Episodes, each: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pick estimates from the second half of each episode: latent [N, L], label [N], |parameter| [N]."""
    chosen = np.zeros_like(episodes.valid)
    for episode, length in enumerate(episodes.length.tolist()):
        chosen[episode, np.linspace(length // 2, length - 1, each).astype(int)] = True
    magnitude = np.linalg.norm(episodes.parameter, axis=2)
    return episodes.latent[:, 1:][chosen], episodes.base_task[chosen], magnitude[chosen]


def _scaled_within(labels: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Scale `value` to [0, 1] within each label; 0.5 where it does not vary."""
    scaled = np.full(len(value), 0.5)
    for label in np.unique(labels):
        mine = labels == label
        low, high = value[mine].min(), value[mine].max()
        if high > low:
            scaled[mine] = (value[mine] - low) / (high - low)
    return scaled


def _chance_line(axes: Axes, num_base_tasks: int) -> None:
    if num_base_tasks > 1:
        axes.axhline(1 / num_base_tasks, color=INK, linestyle=":", linewidth=1.2)
        place = axes.get_yaxis_transform()
        axes.text(1, 1 / num_base_tasks, "chance", transform=place, ha="right", va="bottom", fontsize=9)


def _base_task_legend(figure: Figure, names: Sequence[str], handles: list[Line2D], columns: int = 4) -> None:
    for name, handle in zip(names, handles, strict=True):
        handle.set_label(spoken(name))
    _legend_below(figure, handles, columns)


def _component_legend(
    figure: Figure, base_tasks: Sequence[NamedTask], component_to_task: np.ndarray, lines: list[Line2D]
) -> None:
    """Name the mixture components, in base-task order, after any `lines`."""
    colours = component_colours(component_to_task)
    patches = [
        Patch(color=colours[k], label=f"component {k}: {spoken(base_tasks[component_to_task[k]].name)}")
        for k in np.argsort(component_to_task, kind="stable").tolist()
    ]
    _legend_below(figure, [*lines, *patches], 4)


def _legend_below(figure: Figure, handles: Sequence[Line2D | Patch], columns: int) -> None:
    """Add the legend below the axes and the height that it takes."""
    columns = min(columns, len(handles))
    figure.set_figheight(figure.get_figheight() + 0.22 * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def spoken(name: str) -> str:
    """Return a name as it is written for readers."""
    return name.replace("_", " ")
