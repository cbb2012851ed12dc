# SPDX-License-Identifier: Apache-2.0
"""A small stand-in for rviz: keeps markers as rviz does, and draws them seen along y of the frame `view`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from geometry_msgs.msg import Quaternion
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, Polygon
from visualization_msgs.msg import Marker, MarkerArray

KINDS = {Marker.SPHERE, Marker.SPHERE_LIST, Marker.CYLINDER, Marker.LINE_LIST, Marker.LINE_STRIP}
# view.launch.py puts the frame `latent` there: its x and y become x and z of the view.
LATENT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([0.0, 0.0, 4.2])


class Picture:
    """What rviz would show after the messages it was given."""

    def __init__(self) -> None:
        self.shown: dict[tuple[str, int], Marker] = {}

    def take(self, message: MarkerArray) -> None:
        """Add, replace and delete markers; fails for what rviz would refuse."""
        keys = [(marker.ns, marker.id) for marker in message.markers]
        assert len(keys) == len(set(keys)), "rviz warns about a marker that comes twice"
        for key, marker in zip(keys, message.markers, strict=True):
            if marker.action == Marker.DELETE:
                self.shown.pop(key, None)
                continue
            assert marker.action == Marker.ADD and marker.header.frame_id in ("view", "latent")
            assert marker.lifetime.sec > 0, "it would stay when its node has gone"
            scale = xyz(marker.scale)
            assert np.isfinite([*scale, *xyz(marker.pose.position)]).all()
            if marker.type == Marker.TEXT_VIEW_FACING:
                assert marker.text and scale[2] > 0
            else:
                assert marker.type in KINDS
                lines = marker.type in (Marker.LINE_LIST, Marker.LINE_STRIP)
                assert scale[0] > 0 if lines else (scale > 0).all()
            assert marker.type != Marker.LINE_LIST or (marker.points and len(marker.points) % 2 == 0)
            q = marker.pose.orientation
            assert np.isclose(np.linalg.norm([q.x, q.y, q.z, q.w]), 1.0)
            self.shown[key] = marker

    def bodies(self, namespace: str) -> list[tuple[np.ndarray, float]]:
        """Ends [2, 2] and radius of the cylinders of a namespace, in the picture."""
        found = []
        for (name, _), marker in self.shown.items():
            if name == namespace:
                half = rotation(marker)[:, 2] * marker.scale.z / 2
                middle = xyz(marker.pose.position)
                found.append((np.stack([middle - half, middle + half])[:, [0, 2]], marker.scale.x / 2))
        return found

    def covers(self, places: np.ndarray, *namespaces: str) -> np.ndarray:
        """Return at which places [n, 2] of the picture a cylinder, ball or line of these namespaces is seen, [n]."""
        seen_at = np.zeros(len(places), dtype=bool)
        for (name, _), marker in self.shown.items():
            if name not in namespaces:
                continue
            points = np.array([seen(marker, xyz(p)) for p in marker.points])
            match marker.type:
                case Marker.CYLINDER:
                    half = np.array([0, 0, marker.scale.z / 2])
                    seen_at |= _beside(places, seen(marker, -half), seen(marker, half), marker.scale.x / 2)
                case Marker.SPHERE_LIST:
                    for middle in points:
                        seen_at |= np.linalg.norm(places - middle, axis=1) <= marker.scale.x / 2
                case Marker.LINE_LIST:
                    for start, end in points.reshape(-1, 2, 2):
                        seen_at |= _beside(places, start, end, marker.scale.x / 2)
        return seen_at

    def save(self, file: Path) -> None:
        """Draw everything, on the light ground of config/tigr.rviz."""
        figure = Figure(figsize=(9.6, 7.2), facecolor="#f5f5f7")
        axes = figure.add_axes((0, 0, 1, 1), aspect="equal", xlim=(-4.8, 4.8), ylim=(-0.7, 6.5), facecolor="#f5f5f7")
        axes.axis("off")
        for marker in self.shown.values():
            colour = (marker.color.r, marker.color.g, marker.color.b, marker.color.a)
            points = np.array([seen(marker, xyz(p)) for p in marker.points])
            place = seen(marker, np.zeros(3))
            match marker.type:
                case Marker.TEXT_VIEW_FACING:
                    size = marker.scale.z * 72  # an inch shows a metre
                    axes.text(place[0], place[1], marker.text, color=colour, size=size, ha="center", va="center")
                case Marker.SPHERE_LIST:
                    for end in points:
                        axes.add_patch(Circle(tuple(end), marker.scale.x / 2, color=colour))
                case Marker.CYLINDER:
                    half = np.array([0, 0, marker.scale.z / 2])
                    start, end = seen(marker, -half), seen(marker, half)
                    beside = marker.scale.x / 2 * np.array([start[1] - end[1], end[0] - start[0]]) / marker.scale.z
                    corners = [start + beside, end + beside, end - beside, start - beside]
                    axes.add_patch(Polygon(corners, color=colour))
                case Marker.SPHERE:
                    turn = np.stack([seen(marker, axis) - place for axis in np.eye(3)], axis=1)  # [2, 3]
                    form = (turn * xyz(marker.scale) / 2) @ (turn * xyz(marker.scale) / 2).T
                    variances, along = np.linalg.eigh(form)
                    angle = np.degrees(np.arctan2(along[1, 1], along[0, 1]))
                    wide, high = 2 * np.sqrt(variances[::-1].clip(0))
                    axes.add_patch(Ellipse(tuple(place), wide, high, angle=angle, color=colour))
                case Marker.LINE_LIST:
                    for pair in points.reshape(-1, 2, 2):
                        axes.plot(*pair.T, color=colour, linewidth=marker.scale.x * 72, solid_capstyle="butt")
                case Marker.LINE_STRIP if len(points):
                    axes.plot(*points.T, color=colour, linewidth=marker.scale.x * 72)
        figure.savefig(file, dpi=100)


def _beside(places: np.ndarray, start: np.ndarray, end: np.ndarray, distance: float) -> np.ndarray:
    """Return which places [n, 2] are so near to a line, neither before its start nor behind its end, [n]."""
    along = end - start
    length = float(np.linalg.norm(along))
    reached, off = (places - start) @ along / length, (places - start) @ np.array([-along[1], along[0]]) / length
    return (reached >= 0.0) & (reached <= length) & (np.abs(off) <= distance)


def seen(marker: Marker, place: np.ndarray) -> np.ndarray:
    """Return where a place [3] of a marker's own frame is seen, [2]."""
    there = rotation(marker) @ place + xyz(marker.pose.position)
    if marker.header.frame_id == "latent":
        turn, offset = LATENT
        there = turn @ there + offset
    return there[[0, 2]]


def rotation(marker: Marker) -> np.ndarray:
    """Return the orientation of a marker as a matrix [3, 3]."""
    return quaternion_matrix(marker.pose.orientation)


def quaternion_matrix(q: Quaternion) -> np.ndarray:
    """Return an orientation as a matrix [3, 3]."""
    x, y, z, w = q.x, q.y, q.z, q.w
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def xyz(message: object) -> np.ndarray:
    """Return a point or a vector as an array [3]."""
    return np.array([getattr(message, axis) for axis in "xyz"])
