# SPDX-License-Identifier: Apache-2.0
"""Links, joints and forms of a MuJoCo model as plain data."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np

from envs.appearance import WORLD, Capsules, Link, Motion

MOTIONS: dict[int, Motion] = {
    mujoco.mjtJoint.mjJNT_SLIDE.value: "slide",
    mujoco.mjtJoint.mjJNT_HINGE.value: "turn",
    mujoco.mjtJoint.mjJNT_FREE.value: "float",
}


def shown_geoms(model: mujoco.MjModel) -> np.ndarray:
    """Return the geoms that are bodies, [G]; planes are left out.

    Raises:
        ValueError: one is neither capsule nor sphere.
    """
    shown = np.flatnonzero(model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE)
    if not np.isin(model.geom_type[shown], [mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_SPHERE]).all():
        names = ", ".join(model.geom(i).name for i in shown)
        raise ValueError(f"found a body of another form among {names}, expected capsules and spheres")
    return shown


def capsules_at(model: mujoco.MjModel, geoms: np.ndarray, places: np.ndarray, rotations: np.ndarray) -> Capsules:
    """Return `geoms` [G] as they are placed, given the places [n, 3] and rotations [n, 3, 3] of all geoms."""
    is_capsule = model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_CAPSULE
    half_length = np.where(is_capsule, model.geom_size[geoms, 1], 0.0)
    offset = half_length[:, None] * rotations[geoms][:, :, 2]
    ends = np.stack([places[geoms] - offset, places[geoms] + offset], axis=1)
    return Capsules(tuple(model.geom(i).name for i in geoms), ends, model.geom_size[geoms, 0].copy())


def read_links(model: mujoco.MjModel) -> tuple[Link, ...]:
    """Return the links of a model, parents first.

    MuJoCo gives a body all of its joints at once, one after the other, each about a point of its own: here each joint
    has a link. The body's last one has its name and its form, and lies at its last joint.

    Raises:
        ValueError: there is a ball joint, or a body that is neither capsule nor sphere.
    """
    balls = [model.joint(i).name for i in range(model.njnt) if int(model.jnt_type[i]) not in MOTIONS]
    if balls:
        raise ValueError(f"found ball joints: {', '.join(balls)}; expected hinges, slides and free joints")
    shift = np.zeros((model.nbody, 3))  # from each body's frame to that of its last link
    return tuple(link for body in range(1, model.nbody) for link in _links_of(model, body, shift))


def _links_of(model: mujoco.MjModel, body: int, shift: np.ndarray) -> Iterator[Link]:
    """Yield the links of one body and note its shift."""
    name, parent = _name(model, body), _name(model, int(model.body_parentid[body]))
    place = model.body_pos[body] - shift[model.body_parentid[body]]
    rotation = _matrix(model.body_quat[body])
    joints = [model.joint(model.body_jntadr[body] + i) for i in range(model.body_jntnum[body])]
    if not joints:
        yield Link(name, parent, "fixed", "", np.eye(3)[2], place, rotation, None, _form(model, body, shift[body]))
    for joint in joints:
        motion = MOTIONS[int(joint.type[0])]
        place = place + rotation @ (joint.pos - shift[body])
        shift[body] = joint.pos
        # The model is drawn with its joints at these positions, which need not be zero.
        if motion == "slide":
            place = place - joint.qpos0[0] * rotation @ joint.axis
        elif motion == "turn":
            rotation = rotation @ _turn(joint.axis, -joint.qpos0[0])
        else:
            place, rotation = np.zeros(3), np.eye(3)  # a free joint tells all of it
        last = joint.id == joints[-1].id
        link = name if last else f"{name}_{joint.name}"
        limits = (float(joint.range[0]), float(joint.range[1])) if joint.limited[0] else None
        form = _form(model, body, shift[body]) if last else Capsules.none()
        yield Link(link, parent, motion, joint.name, joint.axis.copy(), place, rotation, limits, form)
        parent, place, rotation = link, np.zeros(3), np.eye(3)


def _name(model: mujoco.MjModel, body: int) -> str:
    """Return the name of a body; one without is called like its last joint."""
    if not body:
        return WORLD
    joints = int(model.body_jntnum[body])
    last = model.joint(int(model.body_jntadr[body]) + joints - 1).name if joints else f"body_{body}"
    return model.body(body).name or last


def _form(model: mujoco.MjModel, body: int, shift: np.ndarray) -> Capsules:
    """Return the geoms of a body, in a frame that is shifted from the body's."""
    shown = shown_geoms(model)
    rotations = np.stack([_matrix(quaternion) for quaternion in model.geom_quat])
    return capsules_at(model, shown[model.geom_bodyid[shown] == body], model.geom_pos - shift, rotations)


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation matrix [3, 3] of a quaternion w, x, y, z."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    quaternion = np.zeros(4)
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
    return _matrix(quaternion)
