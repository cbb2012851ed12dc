# SPDX-License-Identifier: Apache-2.0
"""Numbers to messages and back, by name and never by place.

A labelled array is a Float64MultiArray whose one layout dimension is labelled ``name:first,second,...``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

from envs.spec import RobotSpec
from tigr_core.errors import UserError

NANOSECONDS = 1_000_000_000

Labels = tuple[str, ...]


def to_stamp(seconds: float) -> Time:
    """Return the time `seconds` after zero, to the nearest nanosecond."""
    return stamp_of(round(seconds * NANOSECONDS))


def stamp_of(nanoseconds: int) -> Time:
    """Return a time given in whole nanoseconds."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def to_nanoseconds(stamp: Time) -> int:
    """Return a time in whole nanoseconds; compare stamps by this."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def to_seconds(stamp: Time) -> float:
    """Return a time in s."""
    return to_nanoseconds(stamp) / NANOSECONDS


def labelled_array(values: np.ndarray, labels: Labels, name: str) -> Float64MultiArray:
    """Return `values` [n] with a label each, under the name of what they are."""
    dimension = MultiArrayDimension(label=f"{name}:{','.join(labels)}", size=len(labels), stride=len(labels))
    return Float64MultiArray(layout=MultiArrayLayout(dim=[dimension]), data=_doubles(values))


def read_labels(message: Float64MultiArray) -> Labels:
    """Return the labels of a labelled array; none where it is not labelled."""
    dimensions = message.layout.dim
    _, colon, joined = dimensions[0].label.partition(":") if len(dimensions) == 1 else ("", "", "")
    return tuple(joined.split(",")) if colon else ()


def read_array(message: Float64MultiArray, labels: Labels) -> np.ndarray:
    """Return the values [n] in the order of `labels`. An array without labels is taken to be in that order.

    Raises:
        ValueError: wrong number of values, other labels, or a value that is not finite.
    """
    values = np.array(message.data, dtype=np.float64)
    if len(values) != len(labels):
        raise ValueError(f"found {len(values)} values, expected one for each of {', '.join(labels)}")
    found = read_labels(message)
    if found and found != labels:
        values = values[_places(found, labels)]
    _require_finite("value", values, labels)
    return values


def command(spec: RobotSpec, effort: np.ndarray, answers: Time) -> Float64MultiArray:
    """Return efforts [A] in actuator order as ``effort@<stamp in ns>``, answering the state of that stamp."""
    return labelled_array(effort, actuator_names(spec), f"effort@{to_nanoseconds(answers)}")


def read_command(spec: RobotSpec, message: Float64MultiArray) -> tuple[np.ndarray, int | None]:
    """Return efforts [A] in actuator order, and the stamp in ns of the state they answer where they say so.

    Raises:
        ValueError: as `read_array`.
    """
    return read_array(message, actuator_names(spec)), stamp_in(message)


def task_info(info: Mapping[str, Any], stamp: Time) -> Float64MultiArray:
    """Return the info of an environment with one member, after a step, as ``task_info@<stamp in ns>``.

    Entries of arrays and of nested mappings are labelled ``parameter/0``, ``reward_terms/tracking`` and so on.
    """
    flat: dict[str, float] = {}
    for key, value in info.items():
        parts = (
            value.items() if isinstance(value, Mapping) else enumerate(value[0]) if value.ndim > 1 else [("", value)]
        )
        flat |= {f"{key}/{part}".rstrip("/"): float(np.ravel(entry)[0]) for part, entry in parts}
    return labelled_array(np.array(list(flat.values())), tuple(flat), f"task_info@{to_nanoseconds(stamp)}")


def read_task_info(message: Float64MultiArray) -> tuple[dict[str, Any], int]:
    """Return what `task_info` was given, with scalars as `envs.task_env.TaskEnv` has them, and the stamp in ns."""
    info: dict[str, Any] = {}
    for label, value in zip(read_labels(message), message.data, strict=True):
        key, _, part = label.partition("/")
        if part:
            info.setdefault(key, {})[part] = value
        else:
            info[key] = int(value) if key.endswith("base_task") else value
    if "parameter" in info:
        info["parameter"] = np.array(list(info["parameter"].values()))
    return info, stamp_in(message) or 0


def stamp_in(message: Float64MultiArray) -> int | None:
    """Return the stamp in ns that an array's label carries, if any."""
    name = message.layout.dim[0].label.partition(":")[0] if len(message.layout.dim) == 1 else ""
    stamp = name.partition("@")[2]
    return int(stamp) if stamp.isdecimal() else None


def actuator_names(spec: RobotSpec) -> Labels:
    """Return the labels of efforts and commands."""
    return tuple(actuator.name for actuator in spec.actuators)


def joint_state(
    spec: RobotSpec, positions: np.ndarray, velocities: np.ndarray, effort: np.ndarray, stamp: Time
) -> JointState:
    """Return the state of all joints, all four lists equally long.

    Args:
        positions: [J], m or rad.
        velocities: [J], m/s or rad/s.
        effort: of the actuators [A], N m; a joint without an actuator exerts none.
    """
    joint_effort = np.zeros(spec.num_joints)
    np.add.at(joint_effort, [spec.joints.index(actuator.joint) for actuator in spec.actuators], effort)
    message = JointState(
        name=spec.joints, position=_doubles(positions), velocity=_doubles(velocities), effort=_doubles(joint_effort)
    )
    message.header.stamp = stamp
    return message


def require_joints(spec: RobotSpec) -> None:
    """Raise a UserError for a robot of which JointState messages tell too little, such as one with a floating base."""
    why = f"has a floating base ({spec.floating_base})" if spec.floating_base else "has coordinates that are no joints"
    if spec.floating_base or spec.only_simulated:
        raise UserError(
            f"robot {spec.name!r} {why}, which joint_states cannot carry",
            expected="a robot whose joints tell where it is, such as half_cheetah, walker or point_robot",
            fix="train and evaluate this one without topics: tigr train, tigr eval",
        )


class JointStateReader:
    """Reads the joints of a robot from JointState messages by name; other joints and their order do not matter."""

    def __init__(self, spec: RobotSpec) -> None:
        require_joints(spec)
        self.joints = spec.joints

    def read(self, message: JointState) -> tuple[np.ndarray, np.ndarray]:
        """Return positions [J] and velocities [J] in the order of the spec.

        Raises:
            ValueError: lists of different length, or a joint missing, named twice or not finite.
        """
        lengths = len(message.name), len(message.position), len(message.velocity)
        if len(set(lengths)) != 1:
            raise ValueError("found {} names, {} positions and {} velocities, expected one each".format(*lengths))
        places = _places(tuple(message.name), self.joints)
        positions, velocities = np.array(message.position)[places], np.array(message.velocity)[places]
        _require_finite("position", positions, self.joints)
        _require_finite("velocity", velocities, self.joints)
        return positions, velocities


def diagnostic(
    node: str, part: str, robot: str, level: bytes, message: str, values: Mapping[str, Any] | None = None
) -> DiagnosticStatus:
    """Return one status; robots of one kind are told apart by the namespaces of their nodes.

    Args:
        node: full name, namespace included.
        part: of the node that this is about.
        robot: name of the robot; empty while it is not known.
        level: DiagnosticStatus.OK, WARN, ERROR or STALE.
    """
    namespace = node.rpartition("/")[0].lstrip("/")
    hardware_id = "/".join(filter(None, [namespace, robot or "unknown robot"]))
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in (values or {}).items()]
    return DiagnosticStatus(level=level, name=f"{node}: {part}", message=message, hardware_id=hardware_id, values=pairs)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _doubles(values: np.ndarray) -> array[float]:
    """The form in which a message takes numbers without looking at each."""
    return array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


@lru_cache(maxsize=16)
def _places(found: Labels, wanted: Labels) -> list[int]:
    """Return where in `found` each wanted name is."""
    missing = [name for name in wanted if name not in found]
    twice = [name for name in wanted if found.count(name) > 1]
    if missing or twice:
        wrong = [*(f"no {name!r}" for name in missing), *(f"{name!r} more than once" for name in twice)]
        raise ValueError(f"found {', '.join(wrong)} among {list(found)}, expected each of {list(wanted)} once")
    return [found.index(name) for name in wanted]


def _require_finite(kind: str, values: np.ndarray, names: Sequence[str]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        wrong = [f"{kind} {values[i]} of {names[i]!r}" for i in np.flatnonzero(~finite).tolist()]
        raise ValueError(f"found {', '.join(wrong)}, expected finite numbers")
