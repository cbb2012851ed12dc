# SPDX-License-Identifier: Apache-2.0
"""The latent space as rviz markers: every component an ellipsoid, the present z a ball with a trail behind it.

The latent space is drawn along the fixed directions of the bundle, at a fixed scale, in a frame of its own.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from builtin_interfaces.msg import Duration, Time
from visualization_msgs.msg import Marker, MarkerArray

from tigr_core.bundle import BundleInfo
from tigr_core.colours import base_task_colour, component_colours
from tigr_core.controller import TaskEstimate
from tigr_core.rollout import Episodes
from tigr_ros.geometry import quaternions, turn
from tigr_ros.marker_set import INK, MarkerSet, set_points

FRAME = "latent"
TRAIL_LENGTH = 100
METRES = 0.6  # m, for one unit: components that say nothing about a task keep near their prior, N(0, 1)
STANDARD_DEVIATIONS = 1.0  # from the middle of an ellipsoid to its surface
SMALLEST = 0.02  # m, diameter: what has none is still to be seen
BALL, LINE, LETTERS = 0.12, 0.03, 0.25  # m
LIST_AT, LIST_STEP = 3.2, 0.3  # m, where names and weights are listed beside the components


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
        self._markers = MarkerSet(FRAME)

    def add(self, latent: np.ndarray) -> None:
        """Lengthen the trail by z [L]."""
        if self._start is not None and np.array_equal(latent, self._start):
            self._trail.clear()
        self._trail.append(latent)

    def draw(self, estimate: TaskEstimate, stamp: Time) -> MarkerArray:
        """Return the markers of an estimate for one robot; they hold until the next call."""
        weights, place = estimate.mixture_weights[0], self.place(estimate.latent[0])
        self._draw_components(estimate)
        likely = self._colours[int(weights.argmax())]
        self._markers.put("latent", 0, Marker.SPHERE, place, np.full(3, BALL), (*likely, 1.0))
        trail = self._markers.put("trail", 0, Marker.LINE_STRIP, np.zeros(3), np.array([LINE, 0.0, 0.0]), (*INK, 0.8))
        set_points(trail, self.place(np.array(tuple(self._trail)).reshape(-1, len(self._centre))))
        return self._markers.message(stamp)

    def place(self, latent: np.ndarray) -> np.ndarray:
        """Return where z [..., L] is drawn, [..., 3] in m."""
        return METRES * (latent - self._centre) @ self._basis.T

    def _draw_components(self, estimate: TaskEstimate) -> None:
        places = self.place(estimate.component_mean[0])
        diameters, turns = self._ellipsoids(estimate.component_std[0])
        for k, (colour, name) in enumerate(zip(self._colours, self._names, strict=True)):
            weight = float(estimate.mixture_weights[0, k])
            opacity = 0.08 + 0.72 * weight  # the unlikely ones stay visible
            body = self._markers.put("components", k, Marker.SPHERE, places[k], diameters[k], (*colour, opacity))
            turn(body.pose.orientation, turns[k])
            line = np.array([LIST_AT, LIST_STEP * ((len(self._names) - 1) / 2 - k), 0.0])
            size = np.full(3, LETTERS)
            self._markers.put(
                "names", k, Marker.TEXT_VIEW_FACING, line, size, (*colour, 1.0)
            ).text = f"{name} {weight:.2f}"

    def _ellipsoids(self, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return diameters [K, 3] and orientations [K, 4] of the projections of diagonal Gaussians, std [K, L]."""
        variances, axes = np.linalg.eigh((self._basis * np.square(std)[:, None]) @ self._basis.T)
        axes[np.linalg.det(axes) < 0.0, :, 0] *= -1.0  # rotations, no reflections
        diameters = 2.0 * METRES * STANDARD_DEVIATIONS * np.sqrt(np.maximum(variances, 0.0))
        return np.maximum(diameters, SMALLEST), quaternions(axes)


def latent_cloud(info: BundleInfo, test: Episodes, stamp: Time) -> MarkerArray:
    """Return where z settled in test episodes: a cloud for each base task, in its colour, its name in the middle."""
    space, settled = LatentSpace(info), test.latent[np.arange(len(test)), test.length]
    markers = MarkerSet(FRAME, lifetime=Duration())  # they stay until the next evaluation
    for task in np.unique(test.base_task[:, 0]).tolist():
        places = space.place(settled[test.base_task[:, 0] == task])
        colour = (*base_task_colour(task), 0.8)
        cloud = markers.put("settled", task, Marker.SPHERE_LIST, np.zeros(3), np.full(3, BALL / 2.0), colour)
        set_points(cloud, places)
        letters = markers.put(
            "settled_names", task, Marker.TEXT_VIEW_FACING, places.mean(axis=0), np.full(3, LETTERS), (*INK, 1.0)
        )
        letters.text = info.base_tasks[task]
    return markers.message(stamp)
