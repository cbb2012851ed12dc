# SPDX-License-Identifier: Apache-2.0
"""What `policy_node` says: commands for the robot, the task estimate for everybody."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from visualization_msgs.msg import MarkerArray

from tigr_core.bundle import Bundle
from tigr_core.controller import Controller, TaskEstimate
from tigr_ros import messages, qos
from tigr_ros.control_step import ControlStep
from tigr_ros.markers import LatentSpace
from tigr_ros.safety import SafeCommand


class PolicyOutputs:
    """The publishers of a configured policy.

    Args:
        node: theirs.
        bundle: the policy.
        as_joint_state: command as JointState by joint name instead of Float64MultiArray in actuator order.
        shadow: publish to `shadow_commands`.
    """

    def __init__(self, node: Node, bundle: Bundle, *, as_joint_state: bool, shadow: bool) -> None:
        self._node, self._robot, self._info = node, bundle.robot, bundle.info
        self._as_joint_state, self._shadow = as_joint_state, shadow
        self._latent_labels = tuple(f"z{i}" for i in range(bundle.info.model.latent_dim))
        self._transition_labels = ("context_length", "reward", *messages.actuator_names(bundle.robot))
        self._space = LatentSpace(bundle.info, Controller(bundle.model).estimate.latent[0])
        self._estimate: TaskEstimate | None = None

        def publisher(kind: type, topic: str, profile: Any = qos.STATE) -> Any:
            return qos.create_publisher(node, kind, topic, profile)

        command_type = JointState if as_joint_state else Float64MultiArray
        self._commands = publisher(command_type, "shadow_commands" if shadow else "commands", qos.COMMAND)
        self._latent = publisher(Float64MultiArray, "~/latent")
        self._transition = publisher(Float64MultiArray, "~/transition")
        self._probabilities = publisher(Float64MultiArray, "~/task_probabilities")
        self._task = publisher(String, "~/task")
        self._entropy = publisher(Float64, "~/entropy")
        self._markers = publisher(MarkerArray, "~/markers")
        self._spec = publisher(String, "~/spec", qos.LATCHED)
        self._spec.publish(String(data=json.dumps(self._describe())))
        self._reached_count = 0

    @property
    def listeners(self) -> int:
        """Number of subscriptions to the commands."""
        return int(self._commands.get_subscription_count())

    def reach_robot(self) -> bool:
        """Tell whether whoever sends the states hears the commands, so that none gets lost; a shadow needs nobody."""
        count = self.listeners
        if count != self._reached_count and qos.listeners(self._node, [self._commands], "joint_states"):
            self._reached_count = count
        return self._shadow or 0 < count == self._reached_count

    def send(self, command: SafeCommand, stamp_ns: int | None) -> None:
        """Publish a command, with the stamp of the state it answers if it answers one."""
        stamp = messages.stamp_of(stamp_ns or 0)
        if self._as_joint_state:
            joints = [actuator.joint for actuator in self._robot.actuators]
            message = JointState(name=joints, effort=command.effort.tolist())
            message.header.stamp = stamp
        elif stamp_ns is None:
            message = messages.labelled_array(command.effort, messages.actuator_names(self._robot), "effort")
        else:
            message = messages.command(self._robot, command.effort, stamp)
        self._commands.publish(message)

    def report(self, estimate: TaskEstimate, stamp_ns: int, step: ControlStep) -> None:
        """Publish a task estimate, what the policy believed when it answered the state of that stamp, and why."""
        probabilities = self._task_probabilities(estimate)
        names = tuple(self._info.base_tasks)
        latent = estimate.latent[0]
        self._latent.publish(messages.labelled_array(latent, self._latent_labels, f"latent@{stamp_ns}"))
        self._probabilities.publish(messages.labelled_array(probabilities, names, f"task_probabilities@{stamp_ns}"))
        reward, action = step.last_transition or (np.nan, np.full(self._robot.action_dim, np.nan))
        added = np.array([step.context_length, reward, *action])
        self._transition.publish(messages.labelled_array(added, self._transition_labels, f"transition@{stamp_ns}"))
        self._task.publish(String(data=names[int(probabilities.argmax())]))
        self._entropy.publish(Float64(data=float(estimate.entropy[0])))
        self._space.add(latent)
        self._estimate = estimate

    def draw(self) -> None:
        """Publish the markers, if anybody looks."""
        if self._estimate is not None and self._markers.get_subscription_count():
            stamp = self._node.get_clock().now().to_msg()
            self._markers.publish(self._space.draw(self._estimate, stamp))

    def flush(self) -> None:
        """Wait until the last command has arrived where it is heard."""
        qos.flush(self._commands)

    def destroy(self) -> None:
        """Release the publishers."""
        for publisher in (
            *(self._commands, self._latent, self._transition, self._probabilities, self._task),
            *(self._entropy, self._markers, self._spec),
        ):
            self._node.destroy_publisher(publisher)

    def _task_probabilities(self, estimate: TaskEstimate) -> np.ndarray:
        """Return the mixture weights summed over the components of each base task, [B]."""
        components = np.array(self._info.component_to_task)
        return np.bincount(components, estimate.mixture_weights[0], minlength=len(self._info.base_tasks))

    def _describe(self) -> dict[str, Any]:
        info = self._info
        shown = info.model_dump(
            mode="json", include={"env_id", "robot", "base_tasks", "task_units", "component_to_task"}
        )
        return {**shown, "sha256": info.sha256, "context": info.model.context, "latent_dim": info.model.latent_dim}
