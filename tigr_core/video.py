# SPDX-License-Identifier: Apache-2.0
"""Videos of recorded episodes: the robot and its target, and below them what the policy believed, growing with time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from PIL import Image  # matplotlib brings it

from envs import ENVIRONMENTS
from envs.appearance import Capsules, View
from envs.tasks import TaskSet
from tigr_core import analysis
from tigr_core.bundle import BundleInfo
from tigr_core.colours import Colour, base_task_colour
from tigr_core.errors import UserError
from tigr_core.plots import INK, STYLE, draw_strip, draw_weights, example_episodes, spoken
from tigr_core.rollout import Episodes
from tigr_core.scene import Scene
from tigr_core.targets import Stroke, target_strokes, value_strokes

WIDTH_IN, HEIGHT_IN, DPI = 7.2, 3.95, 100  # without the legend
MOST_COLUMNS = 6  # of the legend
WINDOW_S = 10.0  # of the chart below the robot
GIF_HZ, GIF_COLOURS = 10.0, 48
STILLS = 6  # of an episode in a report
SUFFIXES = (".mp4", ".gif")
SMALL = {
    **STYLE,
    "axes.labelsize": 9,
    "figure.constrained_layout.use": False,
    "figure.facecolor": "white",
    "font.size": 9,
}


def write_video(path: Path, episodes: Episodes, chosen: Sequence[int], info: BundleInfo, task_set: TaskSet) -> None:
    """Write the `chosen` episodes, one after the other, at the robot's own speed. The suffix is one of `SUFFIXES`.

    Raises:
        UserError: another suffix, a file that cannot be written, or no encoder for MP4.
    """
    check_suffix(path)
    rate_hz = 1.0 / info.robot["control_dt"]
    every = max(1, round(rate_hz / GIF_HZ)) if path.suffix == ".gif" else 1
    frames = draw_frames(episodes, chosen, info, task_set, every)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gif":
            _write_gif(path, frames, rate_hz / every, [base_task_colour(i) for i in range(len(task_set))])
        else:
            _write_mp4(path, frames, rate_hz)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}", expected="a writable place", fix="choose another") from None


def check_suffix(path: Path) -> None:
    """Raise a `UserError` for a file that is neither MP4 nor GIF."""
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"video {path}", expected=f"a name that ends in {' or '.join(SUFFIXES)}", fix=f"{path}.mp4, for example"
        )


def episodes_to_show(test: Episodes, changes: Episodes | None) -> tuple[Episodes, list[int]]:
    """Choose what is worth watching: the task changes of a middling episode, else an example of each base task."""
    if changes is None:
        return test, example_episodes(test)
    kinds = np.array([len(np.unique(labels[:n])) for labels, n in zip(changes.base_task, changes.length, strict=True)])
    most = np.flatnonzero(kinds == kinds.max())
    return changes, [int(most[np.argsort(changes.returns[most])[len(most) // 2]])]


def draw_frames(
    episodes: Episodes, chosen: Sequence[int], info: BundleInfo, task_set: TaskSet, every: int = 1
) -> Iterator[np.ndarray]:
    """Yield a picture [height, width, 3] uint8 for every `every`-th step of each chosen episode."""
    with closing(ENVIRONMENTS[info.env_id].make_robot(1)) as robot:
        for episode in chosen:
            film = _Film(episodes, episode, info, task_set, robot.view)
            positions = robot.spec.positions_in(episodes.obs[episode].astype(np.float64))
            for step in range(0, int(episodes.length[episode]), every):
                yield film.frame(step, robot.capsules(positions[step + 1]))


@rc_context(SMALL)
def stills(episodes: Episodes, env_id: str, task_set: TaskSet) -> Figure:
    """Return pictures of one episode of each base task at a few moments, a row each, for a report."""
    shown = example_episodes(episodes)
    figure = Figure(figsize=(11, 1.35 * len(shown) + 0.25), facecolor="none")
    grid = figure.subplots(len(shown), STILLS, squeeze=False)
    figure.subplots_adjust(0.11, 0.5 / figure.get_figheight(), 1.0, 1 - 0.25 / figure.get_figheight(), 0.06, 0.1)
    with closing(ENVIRONMENTS[env_id].make_robot(1)) as robot:
        for row, episode in zip(grid, shown, strict=True):
            label, length = int(episodes.base_task[episode, 0]), int(episodes.length[episode])
            positions = robot.spec.positions_in(episodes.obs[episode].astype(np.float64))
            for axes, step in zip(row, np.linspace(0, length - 1, STILLS).astype(int).tolist(), strict=True):
                scene = Scene(axes, robot.view)
                capsules = robot.capsules(positions[step + 1])
                scene.show(capsules, *_strokes(episodes, episode, step, task_set, capsules), base_task_colour(label))
                if episode == shown[0]:
                    axes.set_title(f"{(step + 1) * robot.spec.control_dt:.1f} s", fontsize=9)
                if episode != shown[-1]:
                    axes.set_xlabel("")
            place = row[0].get_position()
            name = spoken(task_set.names[label]).replace(" ", "\n")
            middle = (place.y0 + place.y1) / 2
            figure.text(0.0, middle, name, color=base_task_colour(label), va="center", fontweight="bold")
    return figure


def _strokes(
    episodes: Episodes, episode: int, step: int, task_set: TaskSet, capsules: Capsules
) -> tuple[list[Stroke], list[Stroke]]:
    """Return the lines of the target, and of what the robot does, after transition `step`."""
    base_task = task_set.base_tasks[int(episodes.base_task[episode, step])]
    parameter = tuple(episodes.parameter[episode, step, : base_task.parameter_dim].tolist())
    value = float(episodes.tracked_value[episode, step])
    centre = capsules.centre
    return target_strokes(base_task, parameter, centre), value_strokes(base_task, parameter, value, centre)


class _Film:
    """The picture of one episode, of which each frame changes what has moved."""

    def __init__(self, episodes: Episodes, episode: int, info: BundleInfo, task_set: TaskSet, view: View) -> None:
        self._episodes, self._episode, self._task_set = episodes, episode, task_set
        self._dt = float(info.robot["control_dt"])
        components = np.array(info.component_to_task)
        self._probability = analysis.base_task_weights(episodes.mixture_weights[episode], components, len(task_set))
        with rc_context(SMALL):
            labels = len(task_set) + 2
            rows = -(-labels // MOST_COLUMNS)
            foot = 0.25 * rows  # of the legend, in, as everything here
            width, height = WIDTH_IN, HEIGHT_IN + foot
            figure = Figure(figsize=(width, height), dpi=DPI)
            self._canvas = FigureCanvasAgg(figure)

            def place(left: float, bottom: float, top: float) -> Axes:
                return figure.add_axes(
                    (left / width, bottom / height, 1 - (left + 0.15) / width, (top - bottom) / height)
                )

            self._scene = Scene(place(0.15 if view.up == 2 else 0.5, foot + 1.8, foot + 3.6), view)
            strip, self._chart = place(0.95, foot + 1.1, foot + 1.27), place(0.95, foot + 0.42, foot + 1.05)
            draw_strip(strip, episodes.base_task[episode, : episodes.length[episode]], self._dt, "true task")
            draw_weights(self._chart, episodes, episode, components, self._dt)
            self._chart.set(xlabel="time [s]", ylabel="mixture\nweights")
            self._timed = [strip, self._chart]
            self._future = [Rectangle((0, 0), 0, 1, color="white", zorder=5) for _ in self._timed]
            for axes, cover in zip(self._timed, self._future, strict=True):
                axes.add_patch(cover)
            self._true = figure.text(0.02, 0.985, "", va="top", fontsize=12, fontweight="bold")
            self._inferred = figure.text(0.98, 0.985, "", va="top", ha="right", fontsize=12, fontweight="bold")
            widths = {"target": 4.0, "robot": 2.0}
            handles: list[Artist] = [Line2D([], [], color=INK, linewidth=w, label=text) for text, w in widths.items()]
            handles += [Patch(color=base_task_colour(i), label=spoken(name)) for i, name in enumerate(task_set.names)]
            figure.legend(handles=handles, loc="lower center", ncols=-(-labels // rows), fontsize=9)

    def frame(self, step: int, capsules: Capsules) -> np.ndarray:
        """Return the picture after transition `step`, [height, width, 3] uint8."""
        record, episode = self._episodes, self._episode
        label = int(record.base_task[episode, step])
        base_task = self._task_set.base_tasks[label]
        strokes = _strokes(record, episode, step, self._task_set, capsules)
        self._scene.show(capsules, *strokes, base_task_colour(label))
        parameter = record.parameter[episode, step, : base_task.parameter_dim].tolist()
        task = base_task.describe(parameter).replace("-", "\N{MINUS SIGN}")
        self._true.set(text=f"task: {task}", color=base_task_colour(label))
        likely = int(self._probability[step + 1].argmax())
        share = self._probability[step + 1, likely]
        self._inferred.set(
            text=f"inferred: {spoken(self._task_set.names[likely])} {share:.0%}", color=base_task_colour(likely)
        )
        self._move_time((step + 1) * self._dt)
        self._canvas.draw()
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def _move_time(self, now_s: float) -> None:
        """Show the last seconds up to now; what comes later stays covered."""
        end_s = max(now_s, WINDOW_S)
        for axes, cover in zip(self._timed, self._future, strict=True):
            axes.set_xlim(end_s - WINDOW_S, end_s)
            cover.set_bounds(now_s, 0.0, end_s, 1.0)


def _write_gif(path: Path, frames: Iterator[np.ndarray], rate_hz: float, colours: Sequence[Colour]) -> None:
    """A GIF has few colours: `colours` are among them, however little of them is seen."""
    shown = list(frames)
    few = np.concatenate(shown[:: -(-len(shown) // 8)])
    palette = Image.fromarray(few).quantize(GIF_COLOURS, dither=Image.Dither.NONE)
    found = [255 if value > 250 else value for value in palette.getpalette() or []]  # paper is white
    kept = [round(255 * channel) for colour in colours for channel in colour]
    palette.putpalette([*found[: 3 * GIF_COLOURS], *kept])
    first, *rest = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in shown]
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / rate_hz), loop=0, optimize=True)


def _write_mp4(path: Path, frames: Iterator[np.ndarray], rate_hz: float) -> None:
    try:
        from imageio_ffmpeg import write_frames  # an optional extra
    except ImportError:
        raise UserError(
            "MP4 needs the package imageio-ffmpeg, which is not installed",
            expected="the extra `video`",
            fix="pip install imageio-ffmpeg, or choose a name that ends in .gif",
        ) from None
    first = next(frames)
    height, width = first.shape[:2]
    with closing(write_frames(str(path), (width, height), fps=rate_hz, macro_block_size=2)) as encoder:
        encoder.send(None)
        for frame in (first, *frames):
            encoder.send(np.ascontiguousarray(frame))
