# SPDX-License-Identifier: Apache-2.0
"""A robot and its target, drawn flat from the robot's own geometry; needs no graphics driver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.ticker import MultipleLocator

from envs.appearance import Capsules, View
from tigr_core.colours import Colour
from tigr_core.targets import Stroke

BODY, EDGE, GROUND = "#5c6370", "#1b1d22", "#d9dce2"
CORNERS = 13  # of each half circle of an outline


class Scene:
    """Axes in metres that show a robot; `show` changes what is seen and draws nothing anew but that.

    From the side the ground is a line, from above metres are on both axes, and from anywhere else on the ground.
    """

    def __init__(self, axes: Axes, view: View) -> None:
        self._axes, self._view = axes, view
        self._plane = view.axes.T  # [3, 2], world to picture
        self._towards = np.cross(*view.axes)  # the viewer, [3]
        self._bodies = PolyCollection([], facecolor=BODY, edgecolor=EDGE, linewidth=0.6, zorder=3)
        self._target = LineCollection([], linewidth=4.0, capstyle="round", joinstyle="round", zorder=2)
        self._value = LineCollection([], linewidth=2.0, colors=[EDGE], capstyle="round", joinstyle="round", zorder=4)
        self._metres = LineCollection([], linewidth=0.8, colors=[GROUND], zorder=0)
        for collection in (self._target, self._value, self._bodies, self._metres):
            axes.add_collection(collection, autolim=False)
        box = axes.get_window_extent()
        self._half_width = (view.high - view.low) * box.width / box.height / 2
        axes.set_ylim(view.low, view.high)
        if view.raised:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            return
        axes.set_xlabel(f"{'xyz'[view.across]} [m]")
        axes.grid(view.up != 2, axis="y")
        axes.xaxis.set_major_locator(MultipleLocator(1.0))
        axes.yaxis.set_major_locator(MultipleLocator(1.0))
        if view.up == 2:
            axes.axhspan(view.low, 0.0, color=GROUND, linewidth=0, zorder=0)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        else:
            axes.set_ylabel(f"{'xyz'[view.up]} [m]")

    def show(self, capsules: Capsules, target: Sequence[Stroke], value: Sequence[Stroke], colour: Colour) -> None:
        """Show a posture, the target's lines in the colour of its base task, and those of what the robot does."""
        below = capsules.centre * [1.0, 1.0, 0.0] if self._view.follows else np.zeros(3)
        middle, foot = below @ self._plane
        self._axes.set_xlim(middle - self._half_width, middle + self._half_width)
        if self._view.raised:
            self._axes.set_ylim(foot + self._view.low, foot + self._view.high)
            self._metres.set_segments([line @ self._plane for line in self._grid(below)])
        nearest_last = np.argsort(capsules.ends.mean(axis=1) @ self._towards, kind="stable")
        flat, radius = capsules.ends @ self._plane, capsules.radius
        self._bodies.set_verts([outline(flat[i], radius[i]) for i in nearest_last.tolist()])
        self._target.set_segments([stroke @ self._plane for stroke in target])
        self._target.set_color([colour])
        self._value.set_segments([stroke @ self._plane for stroke in value])

    def _grid(self, centre: np.ndarray) -> list[Stroke]:
        """Return lines on the ground at whole metres, as far as they are seen around `centre` [3]."""
        reach = np.ceil(2.0 * max(self._half_width, self._view.high - self._view.low))
        metres = np.round(centre[:2])[:, None] + np.arange(-reach, reach + 1)
        lines = []
        for along in (0, 1):
            ends = np.zeros((metres.shape[1], 2, 3))
            ends[:, :, 1 - along] = metres[1 - along][:, None]
            ends[:, :, along] = metres[along, [0, -1]]
            lines += list(ends)
        return lines


def outline(ends: np.ndarray, radius: float) -> np.ndarray:
    """Return the corners [n, 2] of a flat capsule between two `ends` [2, 2]."""
    (x, y), along = ends[0], ends[1] - ends[0]
    angle = np.arctan2(along[1], along[0])
    turn = angle + np.pi / 2 + np.linspace(0.0, np.pi, CORNERS)
    round_end = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.concatenate([np.array([x, y]) + round_end, ends[1] - round_end])
