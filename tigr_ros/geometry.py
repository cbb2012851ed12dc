# SPDX-License-Identifier: Apache-2.0
"""Places and rotations as messages. Quaternions are x, y, z, w, as ROS has them."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Quaternion, Vector3


def move(message: Point | Vector3, values: np.ndarray) -> None:
    """Set a point or a vector to `values` [3]."""
    message.x, message.y, message.z = values.tolist()


def turn(message: Quaternion, quaternion: np.ndarray) -> None:
    """Set an orientation to `quaternion` [4]."""
    message.x, message.y, message.z, message.w = quaternion.tolist()


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """Return the unit quaternions [..., 4] of rotation matrices [..., 3, 3] (Bar-Itzhack, J. Guidance 23 (6), 2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(rotations, (-2, -1), (0, 1))
    form = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    _, vectors = np.linalg.eigh(np.moveaxis(form, (0, 1), (-2, -1)))
    return vectors[..., -1]


def rotations_to(axes: np.ndarray) -> np.ndarray:
    """Return quaternions [..., 4] that take z to `axes` [..., 3], of unit length."""
    x, y, z = np.moveaxis(axes, -1, 0)
    down = z < -0.999999  # half a turn about x
    half = np.sqrt(2.0 * np.where(down, 1.0, 1.0 + z))
    found = np.stack([-y / half, x / half, np.zeros_like(x), half / 2.0], axis=-1)
    return np.where(down[..., None], [1.0, 0.0, 0.0, 0.0], found)


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the quaternions [..., 4] of `second` seen in the frame that `first` turns to."""
    x, y, z, w = np.moveaxis(first, -1, 0)
    a, b, c, d = np.moveaxis(second, -1, 0)
    return np.stack(
        [
            w * a + x * d + y * c - z * b,
            w * b - x * c + y * d + z * a,
            w * c + x * b - y * a + z * d,
            w * d - x * a - y * b - z * c,
        ],
        axis=-1,
    )
