# SPDX-License-Identifier: Apache-2.0
"""Shows a robot in rviz by its joint states, with the target of the present task.

| name                | type                                | meaning                                            |
|---------------------|-------------------------------------|----------------------------------------------------|
| `joint_states`      | sensor_msgs/JointState, in          | read by joint name                                 |
| `task`              | std_msgs/String, in, latched        | the true task; without it no target is drawn       |
| `task_info`         | std_msgs/Float64MultiArray, in      | for what is tracked, where a simulator tells it    |
| `~/markers`         | visualization_msgs/MarkerArray, out | robot, ground and target; only with subscribers    |
| `robot_description` | std_msgs/String, out, latched       | the robot as URDF                                  |
| `/tf`               | tf2_msgs/TFMessage, out             | links and the markers' frame; only with subscribers |

The latent space is drawn by `policy_node`, on its own topic. A robot that publishes a description and transforms of its
own goes without the last two: `description` false. Transforms need tf2_msgs, which every ROS installation has, and pip
has not.
"""

from __future__ import annotations

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from visualization_msgs.msg import MarkerArray

import envs
from envs.tasks import Task
from tigr_core.errors import UserError
from tigr_ros import messages, qos
from tigr_ros.description import Transforms, urdf
from tigr_ros.parameters import Parameter, declare
from tigr_ros.process import StopRequest, run
from tigr_ros.robot_markers import BODY, RobotScene
from tigr_ros.simulation import environment

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # there is no such package for pip
    TFMessage = None

TRANSFORMS = QoSProfile(depth=100)  # as tf2 publishes them
PARAMETERS = (
    Parameter(
        "env", "tigr/HalfCheetahEight-v0", "environment the robot belongs to, or a bundle (.tigr)", read_only=True
    ),
    Parameter("rate_hz", 20.0, "pictures per second", low=0.5, high=60.0, read_only=True),
    Parameter(
        "description", True, "publish robot_description and /tf; false where the robot itself does", read_only=True
    ),
)


class ViewNode(Node):
    """Draws the last joint states there are, at a fixed rate."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__("view_node")
        values = declare(self, PARAMETERS)
        try:
            env_id, self._task_set = environment(values["env"], "")
        except ValueError as error:
            raise UserError(str(error), expected="an environment or a bundle", fix="see `tigr envs`") from None
        self._robot = envs.ENVIRONMENTS[env_id].make_robot(1)
        self._reader = messages.JointStateReader(self._robot.spec)
        self._scene = RobotScene(self._robot.view, self._task_set)
        self._joints: JointState | None = None
        self._task: Task | None = None
        self._value: float | None = None
        for kind, topic, callback, profile in (
            (JointState, "joint_states", self._on_joint_states, qos.SENSOR),
            (String, "task", self._on_task, qos.LATCHED),
            (Float64MultiArray, "task_info", self._on_task_info, qos.SENSOR),
        ):
            qos.create_subscription(self, kind, topic, callback, profile)
        self._markers = qos.create_publisher(self, MarkerArray, "~/markers", qos.STATE)
        self._transforms: Transforms | None = None
        if values["description"]:
            self._describe()
        self.create_timer(1.0 / values["rate_hz"], self._draw, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Release the robot."""
        self._robot.close()

    def _on_joint_states(self, message: JointState) -> None:
        self._joints = message

    def _on_task(self, message: String) -> None:
        try:
            self._task = self._task_set.from_text(message.data)
        except ValueError as error:
            self._task = None
            self.get_logger().warning(f"task not drawn: {error}", throttle_duration_sec=5.0)
        self._value = None  # what was tracked belongs to the task before

    def _on_task_info(self, message: Float64MultiArray) -> None:
        info, _ = messages.read_task_info(message)
        self._value = info.get("tracked_value")

    def _describe(self) -> None:
        robot = self._robot
        self._description = qos.create_publisher(self, String, "robot_description", qos.LATCHED)
        self._description.publish(String(data=urdf(robot.spec, robot.links, BODY)))
        if TFMessage is None:
            self.get_logger().info("tf2_msgs is not installed: no transforms, which RobotModel in rviz needs")
            return
        self._tf = qos.create_publisher(self, TFMessage, "/tf", TRANSFORMS)
        self._transforms = Transforms(robot.spec, robot.links)

    def _draw(self) -> None:
        joints, self._joints = self._joints, None
        drawn = bool(self._markers.get_subscription_count())
        transforms = self._transforms if self._transforms is not None and self._tf.get_subscription_count() else None
        if joints is None or not (drawn or transforms):
            return
        try:
            positions, _ = self._reader.read(joints)
        except ValueError as error:
            self.get_logger().warning(f"joint_states not drawn: {error}", throttle_duration_sec=5.0)
            return
        stamp, capsules = self.get_clock().now().to_msg(), self._robot.capsules(positions)
        if transforms is not None:
            view = self._scene.transform(capsules, stamp)
            self._tf.publish(TFMessage(transforms=[*transforms.at(positions, stamp), view]))
        if drawn:
            self._markers.publish(self._scene.draw(capsules, self._task, self._value, stamp))


def main() -> None:
    """Run the node."""
    run(ViewNode)
