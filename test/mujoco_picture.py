# SPDX-License-Identifier: Apache-2.0
"""MuJoCo's own picture of the half-cheetah, to hold drawings against: which pixels show the robot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.half_cheetah import MODEL_PATH

POSTURE = np.array([0.4, 0.1, 0.5, 0.3, -0.2, 0.1, -0.4, 0.3, 0.2])
PIXELS = 200  # in each direction, over two metres
_place = (np.arange(PIXELS) - (PIXELS - 1) / 2) * 2.0 / PIXELS
ACROSS, UP = (grid.ravel() for grid in np.meshgrid(0.4 + _place, 0.8 - _place))  # x and z of each pixel, m

RENDER = """
import sys, mujoco, numpy as np
model = mujoco.MjModel.from_xml_path(sys.argv[1])
data = mujoco.MjData(model)
data.qpos[:] = eval(sys.argv[2])
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, int(sys.argv[3]), int(sys.argv[3]))
camera = mujoco.MjvCamera()
camera.lookat, camera.distance, camera.azimuth, camera.elevation = [0.4, 0.0, 0.8], 100.0, 90.0, 0.0
model.vis.global_.fovy = 2 * np.degrees(np.arctan(1.0 / 100.0))  # two metres from top to bottom, nearly parallel
renderer.enable_segmentation_rendering()
renderer.update_scene(data, camera)
capsules = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
np.save("rendered.npy", np.isin(renderer.render()[..., 0], capsules))
"""


def mujoco_picture(folder: Path) -> np.ndarray:
    """Return which pixels [PIXELS * PIXELS] show the robot in POSTURE; skips where nothing renders off screen."""
    for library in ("egl", "osmesa"):
        command = [sys.executable, "-c", RENDER, str(MODEL_PATH), str(POSTURE.tolist()), str(PIXELS)]
        environment = {**os.environ, "MUJOCO_GL": library}
        if subprocess.run(command, env=environment, cwd=folder, capture_output=True).returncode == 0:
            return np.load(folder / "rendered.npy").ravel()
    pytest.skip("MuJoCo renders off screen neither with EGL nor with OSMesa here")


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of pixels in either picture that are in both."""
    return float((one & other).sum() / (one | other).sum())
