# SPDX-License-Identifier: Apache-2.0
"""Targets as lines in the world: a goal line, an arrow for a speed, an arc for an angle. Pictures and rviz draw them.

| quantity                        | drawn as                                                                |
|---------------------------------|-------------------------------------------------------------------------|
| x_position                      | a line across the way; while it is far, also an arrow above the robot   |
| position                        | a cross on the ground; while it is far, also an arrow above the robot   |
| x_velocity, mean_x_velocity     | an arrow above the robot, 0.25 m for 1 m/s                              |
| velocity, mean_velocity,        | the same, in the plane                                                  |
| mean_centre_velocity            |                                                                         |
| abs_z_velocity                  | an upward arrow before the robot, 0.25 m for 1 m/s                      |
| pitch                           | an arc around the robot, from the horizontal to a spoke at the angle    |
| pitch_velocity                  | an arc with a head around the robot, as far as it turns in 0.25 s       |

Any other quantity is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from envs.tasks import BaseTask

Stroke = np.ndarray  # [n, 3], corners of a line in the world, m

ARROW_M_PER_M_S, SPIN_S = 0.25, 0.25
ABOVE, BEFORE, AROUND = 0.75, 1.0, 0.6  # m, from the middle of the robot to what is drawn
GOAL_HEIGHT, CROSS, HEAD, FAR, VERY_FAR = 1.5, 0.1, 0.12, 1.0, 3.0  # m
PLANAR = ("velocity", "mean_velocity", "mean_centre_velocity")
RATES = ("x_velocity", "mean_x_velocity", "abs_z_velocity", "pitch_velocity", *PLANAR)
X, Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


def target_strokes(base_task: BaseTask, parameter: tuple[float, ...], centre: np.ndarray) -> list[Stroke]:
    """Return what shows the target of a task to a robot whose middle is `centre` [3]."""
    draw = _DRAWN.get(base_task.quantity)
    return draw(base_task.target(parameter), centre) if draw else []


def value_strokes(base_task: BaseTask, parameter: tuple[float, ...], value: float, centre: np.ndarray) -> list[Stroke]:
    """Return what shows how fast the robot is, a little beside the target; nothing where the robot itself shows it.

    Of a vector, `value` is the part along the target.
    """
    if base_task.quantity not in RATES:
        return []
    if base_task.quantity in PLANAR:
        target = base_task.target(parameter)
        along = value * target / max(float(np.linalg.norm(target)), 1e-9)
        return [stroke - 0.15 * Z for stroke in _planar_speed(along, centre)]
    beside = 0.15 * X if base_task.quantity == "abs_z_velocity" else -0.15 * Z
    if base_task.quantity == "pitch_velocity":
        return [centre + 0.85 * (stroke - centre) for stroke in _spin(np.array([value]), centre)]
    return [stroke + beside for stroke in _DRAWN[base_task.quantity](np.array([value]), centre)]


def _goal_line(target: np.ndarray, centre: np.ndarray) -> list[Stroke]:
    foot = np.array([target[0], centre[1], 0.0])
    flag = foot + np.array([[0.0, 0, GOAL_HEIGHT], [0.3, 0, GOAL_HEIGHT - 0.1], [0.0, 0, GOAL_HEIGHT - 0.2]])
    post = np.stack([foot, foot + GOAL_HEIGHT * Z])
    distance = target[0] - centre[0]
    if abs(distance) < FAR:
        return [post, flag]
    return [post, flag, *_arrow(centre + ABOVE * Z + np.outer([0.0, 1.0], np.sign(distance) * FAR * X))]


def _cross(target: np.ndarray, centre: np.ndarray) -> list[Stroke]:
    place = np.array([*target, 0.0])
    cross = [place + CROSS * np.array([[-1.0, s, 0.0], [1.0, -s, 0.0]]) for s in (-1.0, 1.0)]
    way = (place - centre) * (1.0 - Z)
    distance = float(np.linalg.norm(way))
    if distance < VERY_FAR:
        return cross
    return [*cross, *_arrow(centre + ABOVE * Z + np.outer([0.0, 1.0], FAR * way / distance))]


def _speed(target: np.ndarray, centre: np.ndarray) -> list[Stroke]:
    return _planar_speed(np.array([target[0], 0.0]), centre)


def _planar_speed(target: np.ndarray, centre: np.ndarray) -> list[Stroke]:
    foot = centre + ABOVE * Z
    return _arrow(np.stack([foot, foot + ARROW_M_PER_M_S * np.array([*target, 0.0])]))


def _lift(target: np.ndarray, centre: np.ndarray) -> list[Stroke]:
    foot = np.array([centre[0] + BEFORE, centre[1], 0.1])
    return _arrow(np.stack([foot, foot + ARROW_M_PER_M_S * target[0] * Z]))


def _angle(target: np.ndarray, centre: np.ndarray) -> list[Stroke]:
    arc = _arc(target[0], centre)
    return [arc, np.stack([centre, arc[-1]])]


def _spin(target: np.ndarray, centre: np.ndarray) -> list[Stroke]:
    return _arrow(_arc(SPIN_S * target[0], centre))


def _arc(angle: float, centre: np.ndarray) -> Stroke:
    """An arc about the y axis from the x axis on; positive angles turn the nose down."""
    turn = np.linspace(0.0, angle, 33)[:, None]
    return centre + AROUND * (np.cos(turn) * X - np.sin(turn) * Z)


def _arrow(line: Stroke) -> list[Stroke]:
    """Add a head, upright where the line is not, to the end of a line; none where there is no room for it."""
    along = line[-1] - line[-2]
    whole = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    if whole < 1e-6:
        return [line]
    along = along / np.linalg.norm(along)
    upright = Z - along[2] * along
    size_up = float(np.linalg.norm(upright))
    across = upright / size_up if size_up > 1e-6 else X
    size = min(HEAD, whole)
    tip = line[-1]
    return [line, np.stack([tip + size * (0.6 * across - along), tip, tip - size * (0.6 * across + along)])]


_DRAWN: dict[str, Callable[[np.ndarray, np.ndarray], list[Stroke]]] = {
    "x_position": _goal_line,
    "position": _cross,
    "x_velocity": _speed,
    "mean_x_velocity": _speed,
    **dict.fromkeys(PLANAR, _planar_speed),
    "abs_z_velocity": _lift,
    "pitch": _angle,
    "pitch_velocity": _spin,
}
