# SPDX-License-Identifier: Apache-2.0
"""Base tasks can be told apart by their colours, by whoever looks and on whatever ground."""

from __future__ import annotations

import numpy as np
import pytest

from tigr_core.colours import base_task_colour
from tigr_core.scene import BODY

# What is left of linear red, green and blue without one kind of cone (Machado, Oliveira and Fernandes, 2009).
EYES = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.0039, -0.0481, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.0118, 0.0429, 0.9689]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.0047, 0.6914, 0.3039]]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
NUM = 13  # as many as any robot has base tasks, and more
JUST_NOTICEABLE = 2.3


def lab(colours: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """CIE L*a*b* [n, 3] of sRGB colours [n, 3]."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = (linear @ eye.T).clip(0, 1) @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(seen > 0.008856, np.cbrt(seen), 7.787 * seen + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("eye", EYES)
def test_no_two_base_tasks_look_alike(eye: str) -> None:
    robot = [int(BODY[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    places = lab(np.array([*(base_task_colour(i) for i in range(NUM)), robot]), EYES[eye])
    distances = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(NUM + 1, k=1)]
    assert distances.min() > 6 * JUST_NOTICEABLE


def test_they_show_on_white_and_on_black() -> None:
    lightness = lab(np.array([base_task_colour(i) for i in range(NUM)]), EYES["all cones"])[:, 0]
    assert lightness.min() > 30 and lightness.max() < 75
