# SPDX-License-Identifier: Apache-2.0
"""The markers of one picture. Each message is made once and then filled anew: to make one costs ten times as much."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point
from visualization_msgs.msg import Marker, MarkerArray

from tigr_core.colours import Colour
from tigr_ros.geometry import move

LIFETIME = Duration(sec=3)
INK: Colour = (0.35, 0.35, 0.35)  # shows on light and on dark


class MarkerSet:
    """Markers by name and number, in one frame.

    Args:
        frame: in which all places are.
        lifetime: after which a marker goes that is not replaced by the next of its name and number; none: it stays.
    """

    def __init__(self, frame: str, lifetime: Duration = LIFETIME) -> None:
        self._frame, self._lifetime = frame, lifetime
        self._markers: dict[tuple[str, int], Marker] = {}

    def put(
        self, name: str, number: int, kind: int, place: np.ndarray, size: np.ndarray, colour: tuple[float, ...]
    ) -> Marker:
        """Return the marker of that name and number, of such a place [3], size [3] and colour [4]."""
        marker = self._markers.get((name, number))
        if marker is None:
            marker = Marker(ns=name, id=number, type=kind, lifetime=self._lifetime)
            marker.header.frame_id = self._frame
            self._markers[name, number] = marker
        marker.action = Marker.ADD
        move(marker.pose.position, place)
        move(marker.scale, size)
        shown = marker.color
        shown.r, shown.g, shown.b, shown.a = map(float, colour)
        return marker

    def message(self, stamp: Time) -> MarkerArray:
        """Return all of them; the message holds until the next `put`."""
        for marker in self._markers.values():
            marker.header.stamp = stamp
        return MarkerArray(markers=list(self._markers.values()))


def set_points(marker: Marker, places: np.ndarray) -> None:
    """Give a marker its points [n, 3], in its own frame."""
    points = marker.points[: len(places)]
    points += [Point() for _ in range(len(places) - len(points))]
    for point, place in zip(points, places, strict=True):
        move(point, place)
    marker.points = points
