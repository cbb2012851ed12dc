# SPDX-License-Identifier: Apache-2.0
"""A robot's links as URDF, and where they are as transforms: what RobotModel in rviz and other ROS tools work with.

A root that slides and turns in a plane becomes a chain of joints like any other, so that `joint_states` tells all.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped

from envs.appearance import WORLD, Link
from envs.spec import RobotSpec
from tigr_core.colours import Colour
from tigr_ros.geometry import move, product, quaternions, turn

UNLIMITED = 1e6  # where URDF wants a number and there is no limit
KINDS = {"fixed": "fixed", "slide": "prismatic", "turn": "continuous", "float": "floating"}


def urdf(spec: RobotSpec, links: Sequence[Link], colour: Colour) -> str:
    """Return the URDF of a robot as it looks and moves; without masses."""
    robot = ET.Element("robot", name=spec.name)
    material = ET.SubElement(robot, "material", name="body")
    ET.SubElement(material, "color", rgba=_numbers([*colour, 1.0]))
    ET.SubElement(robot, "link", name=WORLD)
    for link in links:
        _add_link(robot, link)
        _add_joint(robot, link, spec)
    ET.indent(robot)
    return ET.tostring(robot, encoding="unicode", xml_declaration=True)


def _add_link(robot: ET.Element, link: Link) -> None:
    """URDF knows no capsules: a cylinder, and a ball at each end."""
    element = ET.SubElement(robot, "link", name=link.name)
    for ends, radius in zip(link.shape.ends, link.shape.radius.tolist(), strict=True):
        along = ends[1] - ends[0]
        length = float(np.linalg.norm(along))
        for end in ends if length else ends[:1]:
            _add_form(element, "sphere", {"radius": radius}, end, np.eye(3))
        if length:
            size = {"radius": radius, "length": length}
            _add_form(element, "cylinder", size, ends.mean(axis=0), _pointing(along / length))


def _add_form(link: ET.Element, form: str, size: dict[str, float], place: np.ndarray, rotation: np.ndarray) -> None:
    visual = ET.SubElement(link, "visual")
    _add_origin(visual, place, rotation)
    geometry = ET.SubElement(visual, "geometry")
    ET.SubElement(geometry, form, {name: _numbers([value]) for name, value in size.items()})
    ET.SubElement(visual, "material", name="body")


def _add_joint(robot: ET.Element, link: Link, spec: RobotSpec) -> None:
    kind = "revolute" if link.motion == "turn" and link.limits else KINDS[link.motion]
    joint = ET.SubElement(robot, "joint", name=link.joint or f"{link.name}_mount", type=kind)
    _add_origin(joint, link.place, link.rotation)
    ET.SubElement(joint, "parent", link=link.parent)
    ET.SubElement(joint, "child", link=link.name)
    if kind in ("fixed", "floating"):
        return
    ET.SubElement(joint, "axis", xyz=_numbers(link.axis))
    if kind != "continuous":
        low, high = link.limits or (-UNLIMITED, UNLIMITED)
        drives = [a for a in spec.actuators if a.joint == link.joint and a.effort_unit == "N m"]
        effort = max((max(-a.low, a.high) * a.gear for a in drives), default=0.0)
        numbers = {"lower": low, "upper": high, "effort": effort, "velocity": UNLIMITED}
        ET.SubElement(joint, "limit", {name: _numbers([value]) for name, value in numbers.items()})


def _add_origin(element: ET.Element, place: np.ndarray, rotation: np.ndarray) -> None:
    ET.SubElement(element, "origin", xyz=_numbers(place), rpy=_numbers(roll_pitch_yaw(rotation)))


def _pointing(axis: np.ndarray) -> np.ndarray:
    """Return a rotation [3, 3] that takes z to `axis`, of unit length."""
    beside = np.eye(3)[int(np.abs(axis).argmin())]
    first = np.cross(beside, axis)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first), axis], axis=1)


def roll_pitch_yaw(rotation: np.ndarray) -> np.ndarray:
    """Return the angles [3] of a rotation [3, 3] about the fixed axes x, then y, then z, as URDF has them."""
    across = float(np.hypot(rotation[0, 0], rotation[1, 0]))
    pitch = np.arctan2(-rotation[2, 0], across)
    if across < 1e-9:  # straight up or down: roll and yaw turn about the same axis
        return np.array([np.arctan2(-rotation[1, 2], rotation[1, 1]), pitch, 0.0])
    roll, yaw = np.arctan2(rotation[2, 1], rotation[2, 2]), np.arctan2(rotation[1, 0], rotation[0, 0])
    return np.array([roll, pitch, yaw])


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{round(float(value), 9) + 0.0:.9g}" for value in values)


class Transforms:
    """Where each link of a robot is in its parent's frame. The messages are made once and filled anew."""

    def __init__(self, spec: RobotSpec, links: Sequence[Link]) -> None:
        def each(values: Iterable[Any]) -> np.ndarray:
            return np.array(list(values))

        joints = [link.joint if link.motion in ("slide", "turn") else spec.position_names[0] for link in links]
        self._coordinates = [spec.position_names.index(joint) for joint in joints]
        self._places = each(link.place for link in links)
        self._slides = each(link.rotation @ link.axis * (link.motion == "slide") for link in links)
        self._axes = each(link.axis for link in links)
        self._turning = each([link.motion == "turn"] for link in links)
        self._turns = quaternions(each(link.rotation for link in links))
        self._floating = [i for i, link in enumerate(links) if link.motion == "float"]
        self._messages = [TransformStamped(child_frame_id=link.name) for link in links]
        for message, link in zip(self._messages, links, strict=True):
            message.header.frame_id = link.parent

    def at(self, positions: np.ndarray, stamp: Time) -> list[TransformStamped]:
        """Return the transforms with `positions` [Q]; they hold until the next call."""
        position = positions[self._coordinates][:, None]
        places = self._places + position * self._slides
        half = 0.5 * position * self._turning
        turns = product(self._turns, np.concatenate([np.sin(half) * self._axes, np.cos(half)], axis=1))
        if self._floating:
            places[self._floating], turns[self._floating] = positions[:3], positions[[4, 5, 6, 3]]
        for message, place, quaternion in zip(self._messages, places, turns, strict=True):
            message.header.stamp = stamp
            move(message.transform.translation, place)
            turn(message.transform.rotation, quaternion)
        return self._messages
