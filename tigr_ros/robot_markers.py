# SPDX-License-Identifier: Apache-2.0
"""A robot, its ground and its target as rviz markers, in the frame `view`: the picture's plane is x and z of it.

The frame goes along with a robot that runs away; ground and numbers, in metres, pass by underneath. So the camera
stands still, and nobody has to publish a transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from visualization_msgs.msg import Marker, MarkerArray

from envs.appearance import WORLD, Capsules, View
from envs.tasks import Task, TaskSet
from tigr_core.colours import Colour, base_task_colour
from tigr_core.targets import Stroke, target_strokes, value_strokes
from tigr_ros.geometry import move, quaternions, rotations_to, turn
from tigr_ros.marker_set import INK, MarkerSet, set_points

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
        self._markers = MarkerSet(FRAME)

    def transform(self, capsules: Capsules, stamp: Time) -> TransformStamped:
        """Return where the view is in the world."""
        message = TransformStamped(child_frame_id=FRAME)
        message.header.frame_id, message.header.stamp = WORLD, stamp
        move(message.transform.translation, self._origin(capsules))
        turn(message.transform.rotation, quaternions(self._turn.T))
        return message

    def draw(self, capsules: Capsules, task: Task | None, value: float | None, stamp: Time) -> MarkerArray:
        """Return the markers of a posture, with the target of a task and what is tracked, where they are known.

        They hold until the next call.
        """
        origin = self._origin(capsules)
        self._draw_bodies(self._place(capsules.ends, origin), capsules.radius)
        if self._view.up == 2:
            self._draw_ground(float(origin[self._view.across]))
        self._draw_task(capsules.centre, origin, task, value)
        return self._markers.message(stamp)

    def _origin(self, capsules: Capsules) -> np.ndarray:
        middle = capsules.centre[self._view.across] if self._view.follows else 0.0
        return middle * np.eye(3)[self._view.across]

    def _place(self, places: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Return places [..., 3] of the world in the view."""
        return (places - origin) @ self._turn.T

    def _draw_bodies(self, ends: np.ndarray, radius: np.ndarray) -> None:
        """Cylinders, and balls at their ends [G, 2, 3]."""
        colour = (*BODY, 1.0)
        for i, thickness in enumerate(np.unique(radius)):
            size = np.full(3, 2.0 * thickness)
            balls = self._markers.put("robot_ends", i, Marker.SPHERE_LIST, np.zeros(3), size, colour)
            set_points(balls, ends[radius == thickness].reshape(-1, 3))
        along, middle = ends[:, 1] - ends[:, 0], ends.mean(axis=1)
        length = np.linalg.norm(along, axis=1)
        turns = rotations_to(along / np.maximum(length, 1e-12)[:, None])
        for i in np.flatnonzero(length > 0.0).tolist():
            size = np.array([2.0 * radius[i], 2.0 * radius[i], length[i]])
            turn(self._markers.put("robot", i, Marker.CYLINDER, middle[i], size, colour).pose.orientation, turns[i])

    def _draw_ground(self, middle: float) -> None:
        """The ground with a mark and a number at every metre; a metre keeps its number's id while it is in sight."""
        first = math.ceil(middle - REACH)
        metres = range(first, math.floor(middle + REACH) + 1)
        edge = REACH * np.array([[-1.0, 0, 0], [1.0, 0, 0]])
        marks = np.zeros((len(metres), 2, 3))
        marks[:, :, 0], marks[:, 0, 2] = (np.array(metres) - middle)[:, None], -0.1
        self._draw_lines("ground", [edge, *marks], GROUND, INK)
        size = np.full(3, 0.7 * LETTERS)
        for metre in range(first, first + 2 * REACH + 1):
            shown = metre in metres
            place = np.array([metre - middle, 0.0, -0.25])
            number = self._markers.put(
                "metres", metre % (2 * REACH + 1), Marker.TEXT_VIEW_FACING, place, size, (*INK, float(shown))
            )
            number.text = f"{metre} m" if shown else "-"

    def _draw_task(self, centre: np.ndarray, origin: np.ndarray, task: Task | None, value: float | None) -> None:
        target: list[Stroke] = []
        tracked: list[Stroke] = []
        colour, title = INK, "no task known"
        if task is not None:
            base_task = self._task_set.base_tasks[task.index]
            colour = base_task_colour(task.index)
            title = f"task: {base_task.describe(task.parameter)}"
            target = target_strokes(base_task, task.parameter, centre)
            tracked = value_strokes(base_task, task.parameter, value, centre) if value is not None else []
        self._draw_lines("target", [self._place(stroke, origin) for stroke in target], THICK, colour)
        self._draw_lines("value", [self._place(stroke, origin) for stroke in tracked], THIN, INK)
        size = np.full(3, LETTERS)
        self._markers.put("task", 0, Marker.TEXT_VIEW_FACING, TITLE_AT, size, (*colour, 1.0)).text = title

    def _draw_lines(self, name: str, strokes: Sequence[Stroke], width: float, colour: Colour) -> None:
        """One marker for all lines, so that fewer of them leave nothing over; without any it is taken away."""
        size = np.array([width, 0.0, 0.0])
        marker = self._markers.put(name, 0, Marker.LINE_LIST, np.zeros(3), size, (*colour, 1.0))
        pairs = [np.repeat(stroke, 2, axis=0)[1:-1] for stroke in strokes]
        set_points(marker, np.concatenate(pairs) if pairs else np.zeros((0, 3)))
        if not pairs:
            marker.action = Marker.DELETE
