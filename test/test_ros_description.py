# SPDX-License-Identifier: Apache-2.0
"""The URDF of a robot and its transforms, held against the MuJoCo model and what MuJoCo's URDF reader makes of it."""

from __future__ import annotations

from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from builtin_interfaces.msg import Time
from marker_picture import quaternion_matrix, xyz

from envs.appearance import WORLD
from envs.half_cheetah import MODEL_PATH, HalfCheetah
from envs.mujoco_links import read_links, shown_geoms
from envs.mujoco_physics import load_model
from envs.point_robot import PointRobot
from envs.spec import RobotSpec
from tigr_ros.description import Transforms, roll_pitch_yaw, urdf

# MuJoCo takes only what has mass, and drops what is only seen, unless it is told otherwise.
LENIENT = '<mujoco><compiler discardvisual="false" fusestatic="false" boundmass="1" boundinertia="1"/></mujoco>'
# hopper: joints that are not zero at rest; humanoid: several joints about different points; ant: bodies without a name.
MODELS = ("half_cheetah", "hopper", "humanoid", "ant")


def read_urdf(text: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(text.replace("<material", f"{LENIENT}<material", 1))


def spec_of(model: mujoco.MjModel) -> RobotSpec:
    joints = [model.joint(i) for i in range(model.njnt)]
    base = [joint.name for joint in joints if joint.type[0] == mujoco.mjtJoint.mjJNT_FREE]
    names = tuple(joint.name for joint in joints if joint.name not in base)
    return RobotSpec("robot", names, (), (), 0.05, floating_base=next(iter(base), None))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> mujoco.MjModel:
    return load_model(MODEL_PATH.parent / f"{request.param}.xml")


@pytest.fixture
def postures(model: mujoco.MjModel) -> tuple[mujoco.MjData, mujoco.MjModel, mujoco.MjData]:
    """The model and its URDF as MuJoCo reads it, both in the same random posture."""
    described = read_urdf(urdf(spec_of(model), read_links(model), (0.3, 0.3, 0.3)))
    original, other = mujoco.MjData(model), mujoco.MjData(described)
    original.qpos[:] = np.random.default_rng(0).normal(size=model.nq)
    mujoco.mj_normalizeQuat(model, original.qpos)
    for joint in (model.joint(i).name for i in range(model.njnt)):
        other.joint(joint).qpos[:] = original.joint(joint).qpos
    mujoco.mj_kinematics(model, original)
    mujoco.mj_kinematics(described, other)
    return original, described, other


def test_every_form_is_where_the_model_has_it(
    model: mujoco.MjModel, postures: tuple[mujoco.MjData, mujoco.MjModel, mujoco.MjData]
) -> None:
    original, described, other = postures
    assert described.nq == model.nq
    drawn = np.flatnonzero(described.geom_type == mujoco.mjtGeom.mjGEOM_CYLINDER)
    shown = [i for i in shown_geoms(model) if model.geom_type[i] == mujoco.mjtGeom.mjGEOM_CAPSULE]
    np.testing.assert_allclose(other.geom_xpos[drawn], original.geom_xpos[shown], atol=1e-8)
    np.testing.assert_allclose(described.geom_size[drawn, :2], model.geom_size[shown, :2], atol=1e-8)
    axes, wanted = other.geom_xmat[drawn, 2::3], original.geom_xmat[shown, 2::3]
    np.testing.assert_allclose(np.abs((axes * wanted).sum(axis=1)), 1.0)
    balls = (described.geom_type == mujoco.mjtGeom.mjGEOM_SPHERE).sum()
    assert balls == len(shown_geoms(model)) + len(shown), "one for a sphere, two for a capsule"


def test_transforms_put_the_links_where_the_urdf_has_them(
    model: mujoco.MjModel, postures: tuple[mujoco.MjData, mujoco.MjModel, mujoco.MjData]
) -> None:
    original, described, other = postures
    found = {WORLD: (np.zeros(3), np.eye(3))}
    for moved in Transforms(spec_of(model), read_links(model)).at(original.qpos, Time(sec=7)):
        assert moved.header.stamp.sec == 7
        place, rotation = found[moved.header.frame_id]
        there, turned = xyz(moved.transform.translation), quaternion_matrix(moved.transform.rotation)
        found[moved.child_frame_id] = place + rotation @ there, rotation @ turned
    bodies = [described.body(i).name for i in range(1, described.nbody)]
    assert set(bodies) <= set(found)
    for body in bodies:
        np.testing.assert_allclose(found[body][0], other.body(body).xpos, atol=1e-8)
        np.testing.assert_allclose(found[body][1].ravel(), other.body(body).xmat, atol=1e-8)


def test_joints_have_the_names_of_joint_states_and_the_limits_of_the_model() -> None:
    robot = HalfCheetah()
    joints = {
        j.get("name"): j for j in ElementTree.fromstring(urdf(robot.spec, robot.links, (0.3, 0.3, 0.3))).iter("joint")
    }
    assert tuple(joints) == robot.spec.joints
    kinds = [joints[name].get("type") for name in ("rootx", "rootz", "rooty", "bthigh")]
    assert kinds == ["prismatic", "prismatic", "continuous", "revolute"]
    limit = joints["bthigh"].find("limit")
    assert limit is not None and [float(limit.attrib[k]) for k in ("lower", "upper", "effort")] == [-0.52, 1.05, 120]
    free = joints["rootx"].find("limit")
    assert free is not None and float(free.attrib["effort"]) == 0 and float(free.attrib["upper"]) > 1e5
    robot.close()


def test_the_point_is_a_ball_that_slides_along_two_axes() -> None:
    described = read_urdf(urdf(PointRobot.spec, PointRobot.links, (0.3, 0.3, 0.3)))
    data = mujoco.MjData(described)
    data.joint("x").qpos[:], data.joint("y").qpos[:] = 0.3, -0.2
    mujoco.mj_kinematics(described, data)
    np.testing.assert_allclose(data.geom_xpos, [[0.3, -0.2, 0.0]])


@pytest.mark.parametrize("angles", [(0.1, 0.2, 0.3), (3.0, -1.0, -2.0), (0.4, np.pi / 2, 0.0), (0.4, -np.pi / 2, 0.0)])
def test_angles_of_urdf_turn_about_fixed_axes(angles: tuple[float, float, float]) -> None:
    (sr, sp, sy), (cr, cp, cy) = np.sin(angles), np.cos(angles)
    about_x, about_y, about_z = (
        np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]]),
        np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]]),
        np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]),
    )
    np.testing.assert_allclose(roll_pitch_yaw(about_z @ about_y @ about_x), angles, atol=1e-7)
