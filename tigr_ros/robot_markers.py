# SPDX-License-Identifier: Apache-2.0
"""A robot, its ground and its target as rviz markers, in the frame `view`: the picture's plane is x and z of it.

The frame goes along with a robot that runs away; ground and numbers, in metres, pass by underneath. So the camera
stands still, and nobody has to publish a transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion
from visualization_msgs.msg import Marker, MarkerArray

from envs.appearance import Capsules, View
from envs.tasks import Task, TaskSet
from tigr_core.colours import Colour, base_task_colour
from tigr_core.targets import Stroke, target_strokes, value_strokes
from tigr_ros.markers import INK, make_marker, point

FRAME = "view"
BODY: Colour = (0.36, 0.39, 0.44)
REACH = 5  # m, of the ground to both sides
THICK, THIN, GROUND = 0.06, 0.03, 0.015  # m, of lines
LETTERS, TITLE_AT = 0.25, np.array([0.0, 0.0, 2.2])  # m


class RobotScene:
    """Draws one robot. Every picture has the same markers, so that each replaces what was seen before."""

    def __init__(self, view: View, task_set: TaskSet) -> None:
        self._view, self._task_set = view, task_set
        across, up = np.eye(3)[view.across], np.eye(3)[view.up]
        self._turn = np.stack([across, np.cross(up, across), up])  # [3, 3], world to view

    def draw(self, capsules: Capsules, task: Task | None, value: float | None, stamp: Time) -> MarkerArray:
        """Return the markers of a posture, with the target of a task and what is tracked, where they are known."""
        middle = capsules.centre[self._view.across] if self._view.follows else 0.0
        origin = middle * np.eye(3)[self._view.across]
        target: list[Stroke] = []
        tracked: list[Stroke] = []
        colour, title = INK, ""
        if task is not None:
            base_task = self._task_set.base_tasks[task.index]
            colour = base_task_colour(task.index)
            number = ", ".join(f"{entry:.1f}" for entry in task.parameter)
            title = f"task: {task.base_task.replace('_', ' ')} {number} {base_task.unit}"
            target = target_strokes(base_task, task.parameter, capsules.centre)
            tracked = value_strokes(base_task, value, capsules.centre) if value is not None else []
        letters = make_marker(
            "task", 0, Marker.TEXT_VIEW_FACING, TITLE_AT, np.full(3, LETTERS), (*colour, 1.0), frame=FRAME
        )
        letters.text = title or "no task known"
        markers = [
            *self._bodies(capsules, origin),
            *(self._ground(middle) if self._view.up == 2 else []),
            _lines("target", [self._place(stroke, origin) for stroke in target], THICK, colour),
            _lines("value", [self._place(stroke, origin) for stroke in tracked], THIN, INK),
            letters,
        ]
        for marker in markers:
            marker.header.stamp = stamp
        return MarkerArray(markers=markers)

    def _place(self, places: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Return places [..., 3] of the world in the view."""
        return (places - origin) @ self._turn.T

    def _bodies(self, capsules: Capsules, origin: np.ndarray) -> list[Marker]:
        """Cylinders, and balls at their ends."""
        ends = self._place(capsules.ends, origin)
        along = ends[:, 1] - ends[:, 0]
        length = np.linalg.norm(along, axis=1)
        markers = []
        for i, radius in enumerate(np.unique(capsules.radius)):
            size = np.full(3, 2.0 * radius)
            balls = make_marker("robot_ends", i, Marker.SPHERE_LIST, np.zeros(3), size, (*BODY, 1.0), frame=FRAME)
            balls.points = [point(end) for end in ends[capsules.radius == radius].reshape(-1, 3)]
            markers.append(balls)
        for i in np.flatnonzero(length > 0.0).tolist():
            size = np.array([2.0 * capsules.radius[i], 2.0 * capsules.radius[i], length[i]])
            tube = make_marker("robot", i, Marker.CYLINDER, ends[i].mean(axis=0), size, (*BODY, 1.0), frame=FRAME)
            tube.pose.orientation = _turn_to(along[i] / length[i])
            markers.append(tube)
        return markers

    def _ground(self, middle: float) -> list[Marker]:
        """The ground with a mark and a number at every metre; a metre keeps its number's id while it is in sight."""
        metres = np.arange(np.ceil(middle - REACH), np.floor(middle + REACH) + 1)
        edge = REACH * np.array([[-1.0, 0, 0], [1.0, 0, 0]])
        marks = [np.array([[m - middle, 0, -0.1], [m - middle, 0, 0]]) for m in metres]
        numbers = []
        for i in range(2 * REACH + 1):
            shown = [m for m in metres if m % (2 * REACH + 1) == i]
            place = np.array([shown[0] - middle if shown else 0.0, 0.0, -0.25])
            size, opacity = np.full(3, 0.7 * LETTERS), 1.0 if shown else 0.0
            number = make_marker("metres", i, Marker.TEXT_VIEW_FACING, place, size, (*INK, opacity), frame=FRAME)
            number.text = f"{shown[0]:.0f} m" if shown else "-"
            numbers.append(number)
        return [_lines("ground", [edge, *marks], GROUND, INK), *numbers]


def _lines(name: str, strokes: Sequence[Stroke], width: float, colour: Colour) -> Marker:
    """One marker for all lines, so that fewer of them leave nothing over; without any it is taken away."""
    marker = make_marker(
        name, 0, Marker.LINE_LIST, np.zeros(3), np.array([width, 0.0, 0.0]), (*colour, 1.0), frame=FRAME
    )
    marker.points = [point(place) for stroke in strokes for pair in pairwise(stroke) for place in pair]
    if not marker.points:
        marker.action = Marker.DELETE
    return marker


def _turn_to(axis: np.ndarray) -> Quaternion:
    """Return a rotation that takes z to `axis`, of unit length."""
    x, y, z = axis.tolist()
    if z < -0.999999:
        return Quaternion(x=1.0, y=0.0, z=0.0, w=0.0)
    norm = float(np.sqrt(2.0 * (1.0 + z)))
    return Quaternion(x=-y / norm, y=x / norm, z=0.0, w=(1.0 + z) / norm)
