# SPDX-License-Identifier: Apache-2.0
"""A bundle put to work: everything between `configure` and `cleanup` of `policy_node`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from tigr_core.bundle import load_bundle
from tigr_core.errors import UserError
from tigr_ros import messages
from tigr_ros.control_loop import ControlLoop, LoopConfig
from tigr_ros.control_step import ControlStep
from tigr_ros.pairing import State
from tigr_ros.policy_outputs import PolicyOutputs
from tigr_ros.safety import Fault, Reason, SafetyConfig, SafetyLayer


class Deployment:
    """Loads a bundle, checks it against the robot and connects it.

    Args:
        node: whose publishers and clock are used.
        values: parameters of `policy_node`.
        joints: the robot's joints as they came last, if any came.
        latched: what an earlier deployment left latched.

    Raises:
        UserError: the bundle cannot be used, or not with these joints.
    """

    def __init__(
        self,
        node: Node,
        values: Mapping[str, Any],
        *,
        joints: JointState | None,
        latched: Reason | None,
    ) -> None:
        if not values["bundle"]:
            raise UserError(
                "no bundle given",
                expected="a .tigr file in the parameter bundle",
                fix="add -p bundle:=/path/to/best.tigr",
            )
        self.path = Path(values["bundle"]).expanduser()
        self._file = _identity(self.path)
        bundle = load_bundle(self.path)
        self.robot, self.sha256 = bundle.robot, bundle.info.sha256
        self._reader = messages.JointStateReader(self.robot)
        if joints is not None:
            self._check(joints)
        limits = SafetyConfig(**_chosen(values, "effort_limit", "rate_limit", "soft_start_s"))
        self._safety = SafetyLayer(self.robot, limits, latched)
        generator = None if values["deterministic"] else torch.Generator()
        if generator is not None:
            generator.seed()
        step = ControlStep(bundle, self._safety, shadow=values["shadow"], generator=generator)
        as_joint_state = values["command_type"] == "joint_state"
        self.outputs = PolicyOutputs(node, bundle, as_joint_state=as_joint_state, shadow=values["shadow"])
        simulated_time = node.get_parameter("use_sim_time").value
        self.loop = ControlLoop(
            step,
            LoopConfig(**_chosen(values, "lock_step", "stale_after_periods", "reward_required")),
            send=self.outputs.send,
            report=lambda estimate, stamp_ns: self.outputs.report(estimate, stamp_ns, step),
            ready=self.outputs.reach_robot,
            clock=(lambda: float(node.get_clock().now().nanoseconds * 1e-9)) if simulated_time else time.monotonic,
        )

    @property
    def latched(self) -> Reason | None:
        """Why the robot stays stopped until `rearm`."""
        return self._safety.latched

    @property
    def replaced(self) -> bool:
        """Whether another file has been put in the bundle's place."""
        return _identity(self.path) != self._file

    def take_joints(self, message: JointState) -> None:
        """Hand a joint state to the control loop; one that cannot be used stops the robot."""
        received_s = time.monotonic()
        fault = None
        try:
            positions, velocities = self._reader.read(message)
        except ValueError as error:
            finite = np.isfinite([*message.position, *message.velocity]).all()
            fault = Fault(Reason.BAD_INPUT if finite else Reason.NOT_FINITE, str(error))
            positions = velocities = np.full(self.robot.num_joints, np.nan)
        stamp_ns = messages.to_nanoseconds(message.header.stamp) or round(received_s * 1e9)  # zero means no stamp
        self.loop.add_state(State(positions, velocities, stamp_ns, received_s, fault))

    def take_foreign_command(self, message: Float64MultiArray) -> None:
        """Hand on what somebody else commands; raises ValueError if it is no command for this robot."""
        self.loop.add_foreign_effort(*messages.read_command(self.robot, message))

    def release(self) -> None:
        """Stop the robot and release everything."""
        self.loop.stop(Reason.DEACTIVATED)
        self.outputs.flush()
        self.outputs.destroy()

    def _check(self, joints: JointState) -> None:
        try:
            self._reader.read(joints)
        except ValueError as error:
            raise UserError(
                f"joint_states do not fit the bundle: {error}",
                expected="the joints that the policy was trained with",
                fix="choose the bundle for this robot, or rename the joints",
            ) from None


def _chosen(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}


def _identity(path: Path) -> tuple[int, ...]:
    """Return what tells a file from another one in its place."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size
