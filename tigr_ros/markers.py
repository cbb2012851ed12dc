# SPDX-License-Identifier: Apache-2.0
"""The latent space as rviz markers: every component an ellipsoid, the present z a ball with a trail behind it.

The latent space is drawn along the fixed directions of the bundle, one metre for one unit, in a frame of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Quaternion, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from tigr_core.bundle import BundleInfo
from tigr_core.colours import Colour, base_task_colour, component_colours
from tigr_core.controller import TaskEstimate
from tigr_core.rollout import Episodes

FRAME = "latent"
TRAIL_LENGTH = 100
STANDARD_DEVIATIONS = 1.0  # from the middle of an ellipsoid to its surface
SMALLEST = 0.02  # m, diameter: what has none is still to be seen
BALL, LINE, LETTERS = 0.12, 0.03, 0.25  # m
LIST_AT, LIST_STEP = 3.2, 0.3  # m, where names and weights are listed beside the components
LIFETIME = Duration(sec=3)
INK: Colour = (0.35, 0.35, 0.35)  # shows on light and on dark


class LatentSpace:
    """Draws task estimates of one bundle and keeps the trail of z.

    Args:
        info: of the bundle.
        start: z of an empty context [L]; where it comes the context has been emptied, and another trail begins.
    """

    def __init__(self, info: BundleInfo, start: np.ndarray | None = None) -> None:
        self._start = start
        directions = np.array(info.latent_basis).reshape(-1, info.model.latent_dim)[:3]
        self._basis = np.concatenate([directions, np.zeros((3 - len(directions), info.model.latent_dim))])  # [3, L]
        self._centre = np.array(info.latent_centre)
        self._colours = component_colours(np.array(info.component_to_task))
        self._names = [info.base_tasks[task] for task in info.component_to_task]
        self._trail: deque[np.ndarray] = deque(maxlen=TRAIL_LENGTH)

    def add(self, latent: np.ndarray) -> None:
        """Lengthen the trail by z [L]."""
        if self._start is not None and np.array_equal(latent, self._start):
            self._trail.clear()
        self._trail.append(self.place(latent))

    def draw(self, estimate: TaskEstimate, stamp: Time) -> MarkerArray:
        """Return the markers of an estimate for one robot."""
        weights, z = estimate.mixture_weights[0], self.place(estimate.latent[0])
        markers = []
        for k, (colour, name) in enumerate(zip(self._colours, self._names, strict=True)):
            place = self.place(estimate.component_mean[0, k])
            diameters, turn = self._ellipsoid(estimate.component_std[0, k])
            opacity = 0.15 + 0.7 * float(weights[k])  # the unlikely ones stay visible
            body = make_marker("components", k, Marker.SPHERE, place, diameters, (*colour, opacity))
            body.pose.orientation = turn
            line = np.array([LIST_AT, LIST_STEP * ((len(self._names) - 1) / 2 - k), 0.0])
            letters = make_marker("names", k, Marker.TEXT_VIEW_FACING, line, np.full(3, LETTERS), (*colour, 1.0))
            letters.text = f"{name} {weights[k]:.2f}"
            markers += [body, letters]
        likely = self._colours[int(weights.argmax())]
        markers.append(make_marker("latent", 0, Marker.SPHERE, z, np.full(3, BALL), (*likely, 1.0)))
        trail = make_marker("trail", 0, Marker.LINE_STRIP, np.zeros(3), np.array([LINE, 0.0, 0.0]), (*INK, 0.8))
        trail.points = [point(place) for place in tuple(self._trail)]  # another thread may be adding
        markers.append(trail)
        for marker in markers:
            marker.header.stamp = stamp
        return MarkerArray(markers=markers)

    def place(self, latent: np.ndarray) -> np.ndarray:
        """Return where z [L] is drawn, [3] in m."""
        return self._basis @ (latent - self._centre)

    def _ellipsoid(self, std: np.ndarray) -> tuple[np.ndarray, Quaternion]:
        """Return diameters [3] and orientation of the projection of a diagonal Gaussian, std [L]."""
        variances, axes = np.linalg.eigh((self._basis * np.square(std)) @ self._basis.T)
        if np.linalg.det(axes) < 0.0:
            axes[:, 0] *= -1.0  # a rotation, no reflection
        diameters = 2.0 * STANDARD_DEVIATIONS * np.sqrt(np.maximum(variances, 0.0))
        return np.maximum(diameters, SMALLEST), quaternion(axes)


def latent_cloud(info: BundleInfo, test: Episodes, stamp: Time) -> MarkerArray:
    """Return where z settled in test episodes: a cloud for each base task, in its colour, its name in the middle."""
    space, settled = LatentSpace(info), test.latent[np.arange(len(test)), test.length]
    markers = []
    for task in np.unique(test.base_task[:, 0]).tolist():
        places = [space.place(z) for z in settled[test.base_task[:, 0] == task]]
        colour = (*base_task_colour(task), 0.8)
        cloud = make_marker("settled", task, Marker.SPHERE_LIST, np.zeros(3), np.full(3, BALL / 2.0), colour)
        cloud.points = [point(place) for place in places]
        middle = np.mean(places, axis=0)
        letters = make_marker("settled_names", task, Marker.TEXT_VIEW_FACING, middle, np.full(3, LETTERS), (*INK, 1.0))
        letters.text = info.base_tasks[task]
        markers += [cloud, letters]
    for marker in markers:
        marker.header.stamp = stamp
        marker.lifetime = Duration()  # it stays until the next evaluation
    return MarkerArray(markers=markers)


def quaternion(rotation: np.ndarray) -> Quaternion:
    """Return the unit quaternion of a rotation matrix [3, 3] (Bar-Itzhack, J. Guidance 23 (6), 2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    form = [
        [xx - yy - zz, yx + xy, zx + xz, zy - yz],
        [yx + xy, yy - xx - zz, zy + yz, xz - zx],
        [zx + xz, zy + yz, zz - xx - yy, yx - xy],
        [zy - yz, xz - zx, yx - xy, xx + yy + zz],
    ]
    _, vectors = np.linalg.eigh(np.array(form))
    x, y, z, w = vectors[:, -1].tolist()
    return Quaternion(x=x, y=y, z=z, w=w)


def make_marker(
    namespace: str,
    number: int,
    kind: int,
    place: np.ndarray,
    size: np.ndarray,
    colour: tuple[float, ...],
    *,
    frame: str = FRAME,
) -> Marker:
    """Return a marker that is replaced by the next of the same name and number, and gone soon after the last one."""
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD, lifetime=LIFETIME)
    marker.header.frame_id = frame
    marker.pose.position = point(place)
    marker.scale = _xyz(Vector3, size)
    marker.color = ColorRGBA(**dict(zip("rgba", map(float, colour), strict=True)))
    return marker


def point(place: np.ndarray) -> Point:
    """Return a place [3], m."""
    return _xyz(Point, place)


def _xyz(kind: Callable[..., Point | Vector3], values: np.ndarray) -> Point | Vector3:
    return kind(**dict(zip("xyz", map(float, values), strict=True)))
