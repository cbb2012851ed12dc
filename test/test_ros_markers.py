# SPDX-License-Identifier: Apache-2.0
"""The latent space in rviz: places, ellipsoids and names, reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2's Python packages: pip install .[ros], or source a ROS installation")

from builtin_interfaces.msg import Time
from bundles import tiny_bundle
from visualization_msgs.msg import Marker

from tigr_core.colours import base_task_colour
from tigr_core.controller import TaskEstimate
from tigr_ros.geometry import quaternions
from tigr_ros.markers import METRES, STANDARD_DEVIATIONS, TRAIL_LENGTH, LatentSpace

STAMP = Time(sec=3)


def space(basis: list[list[float]], centre: list[float]) -> LatentSpace:
    info = tiny_bundle("tigr/PointRobotAxes-v0", latent_dim=len(centre)).info
    return LatentSpace(info.model_copy(update={"latent_basis": basis, "latent_centre": centre}))


def estimate(mean: list[float], std: list[float], latent: list[float]) -> TaskEstimate:
    """Four components at the same place."""
    return TaskEstimate(
        mixture_weights=np.array([[0.1, 0.6, 0.2, 0.1]], dtype=np.float32),
        latent=np.array([latent], dtype=np.float32),
        component_mean=np.tile(np.array(mean, dtype=np.float32), (1, 4, 1)),
        component_std=np.tile(np.array(std, dtype=np.float32), (1, 4, 1)),
        entropy=np.zeros(1, dtype=np.float32),
    )


def draw(space: LatentSpace, shown: TaskEstimate) -> dict[str, list[Marker]]:
    found: dict[str, list[Marker]] = {}
    for marker in space.draw(shown, STAMP).markers:
        found.setdefault(marker.ns, []).append(marker)
    return found


def xyz(message: object) -> list[float]:
    """In units of the latent space."""
    return [getattr(message, axis) / METRES for axis in "xyz"]


def test_components_are_ellipsoids_where_the_bundles_directions_put_them() -> None:
    two = space([[0.0, 1.0], [1.0, 0.0]], centre=[1.0, 1.0])
    found = draw(two, estimate(mean=[2.0, 5.0], std=[0.1, 0.3], latent=[1.0, 0.0]))
    assert [marker.id for marker in found["components"]] == [0, 1, 2, 3]
    body = found["components"][1]
    assert xyz(body.pose.position) == pytest.approx([4.0, 1.0, 0.0])
    diameters = sorted(xyz(body.scale))
    assert diameters[1:] == pytest.approx([2 * STANDARD_DEVIATIONS * 0.1, 2 * STANDARD_DEVIATIONS * 0.3])
    assert diameters[0] > 0.0, "flat, and still to be seen"
    red, green, blue = base_task_colour(1)
    assert [body.color.r, body.color.g, body.color.b] == pytest.approx([red, green, blue])
    assert body.color.a == max(marker.color.a for marker in found["components"])
    assert found["names"][1].text == "goal_right 0.60"
    assert xyz(found["latent"][0].pose.position) == pytest.approx([-1.0, 0.0, 0.0])
    assert all(marker.header.stamp == STAMP for markers in found.values() for marker in markers)


def test_an_oblique_ellipsoid_is_turned() -> None:
    half = np.sqrt(0.5)
    tilted = space([[half, half, 0.0], [-half, half, 0.0], [0.0, 0.0, 1.0]], centre=[0.0, 0.0, 0.0])
    body = draw(tilted, estimate([0.0] * 3, std=[3.0, 1.0, 2.0], latent=[0.0] * 3))["components"][0]
    q = body.pose.orientation
    x, y, z, w = q.x, q.y, q.z, q.w
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    spread = np.array(xyz(body.scale)) / (2 * STANDARD_DEVIATIONS)
    # The covariance diag(9, 1, 4) seen in a frame turned by 45 degrees about z.
    np.testing.assert_allclose(turn @ np.diag(spread**2) @ turn.T, [[5, -4, 0], [-4, 5, 0], [0, 0, 4]], atol=1e-6)


def test_a_quarter_turn_about_z_is_the_quaternion_everybody_knows() -> None:
    q = quaternions(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert (np.sign(q[3]) * q).tolist() == pytest.approx([0, 0, np.sqrt(0.5), np.sqrt(0.5)])


def test_a_latent_space_of_one_dimension_is_a_line() -> None:
    line = space([[1.0]], centre=[0.5])
    found = draw(line, estimate([2.0], std=[1.0], latent=[1.0]))
    assert xyz(found["components"][0].pose.position) == pytest.approx([1.5, 0.0, 0.0])
    assert xyz(found["latent"][0].pose.position) == pytest.approx([0.5, 0.0, 0.0])


def test_the_trail_keeps_the_last_places() -> None:
    two = space([[1.0, 0.0], [0.0, 1.0]], centre=[0.0, 0.0])
    for i in range(TRAIL_LENGTH + 5):
        two.add(np.array([float(i), 0.0]))
    (trail,) = draw(two, estimate([0.0, 0.0], [1.0, 1.0], latent=[0.0, 0.0]))["trail"]
    assert [xyz(point)[0] for point in trail.points] == pytest.approx(range(5, TRAIL_LENGTH + 5))


def test_every_picture_fills_the_same_messages() -> None:
    two = space([[1.0, 0.0], [0.0, 1.0]], centre=[0.0, 0.0])
    two.add(np.zeros(2))
    first = two.draw(estimate([0.0, 0.0], [1.0, 1.0], latent=[0.0, 0.0]), STAMP).markers
    two.add(np.ones(2))
    second = two.draw(estimate([2.0, 3.0], [1.0, 1.0], latent=[1.0, 1.0]), Time(sec=4)).markers
    assert all(one is other for one, other in zip(first, second, strict=True)), "making them costs most"
    found = {(marker.ns, marker.id): marker for marker in second}
    assert xyz(found["components", 0].pose.position) == pytest.approx([2.0, 3.0, 0.0])
    assert len(found["trail", 0].points) == 2 and found["trail", 0].header.stamp.sec == 4
