# SPDX-License-Identifier: Apache-2.0
"""Records robot, policy and simulator into one MCAP file, message by message as they came.

`tigr replay`, `tigr report` and `tigr import-bag` read it, and so do ``ros2 bag``, PlotJuggler and Foxglove.

| name                                       | type                                     |
|--------------------------------------------|------------------------------------------|
| `joint_states`                             | sensor_msgs/JointState, in               |
| `reward`, `policy_node/entropy`            | std_msgs/Float64, in                     |
| `commands`, `shadow_commands`, `task_info` | std_msgs/Float64MultiArray, in           |
| `policy_node/latent`, `/task_probabilities`| std_msgs/Float64MultiArray, in           |
| `policy_node/transition`                   | std_msgs/Float64MultiArray, in           |
| `task`, `policy_node/task`                 | std_msgs/String, in                      |
| `policy_node/spec`                         | std_msgs/String, in, with the hash of the bundle |
| `/diagnostics`                             | diagnostic_msgs/DiagnosticArray, in      |

Commands are recorded as arrays only. Times are those of arrival (log time) and, but on Humble, of publishing
(publish time), both in wall time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String

from tigr_core.errors import UserError
from tigr_ros import qos
from tigr_ros.definitions import definition, type_name
from tigr_ros.parameters import Parameter, declare
from tigr_ros.process import StopRequest, run

PARAMETERS = (
    Parameter(
        "output", "", "file to write, .mcap; empty: recording-<date>-<time>.mcap in the working folder", read_only=True
    ),
    Parameter("policy", "policy_node", "name of the policy node to record", read_only=True),
)
NOTHING_LOST = QoSProfile(depth=1000)
LATCHED = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
CHUNK = 1 << 16  # bytes; at most so much is lost when the machine fails
OFFERED_QOS = """- history: keep_last
  depth: {depth}
  reliability: reliable
  durability: {durability}
  deadline: {{sec: 9223372036, nsec: 854775807}}
  lifespan: {{sec: 9223372036, nsec: 854775807}}
  liveliness: automatic
  liveliness_lease_duration: {{sec: 9223372036, nsec: 854775807}}
  avoid_ros_namespace_conventions: false
"""


def topics(policy: str) -> dict[str, tuple[type, QoSProfile]]:
    """Return what is recorded: topic to type and quality of service."""
    return {
        "joint_states": (JointState, NOTHING_LOST),
        "reward": (Float64, NOTHING_LOST),
        "commands": (Float64MultiArray, qos.COMMAND),
        "shadow_commands": (Float64MultiArray, qos.COMMAND),
        "task": (String, qos.LATCHED),
        "task_info": (Float64MultiArray, LATCHED),
        f"{policy}/latent": (Float64MultiArray, NOTHING_LOST),
        f"{policy}/task_probabilities": (Float64MultiArray, NOTHING_LOST),
        f"{policy}/transition": (Float64MultiArray, NOTHING_LOST),
        f"{policy}/entropy": (Float64, NOTHING_LOST),
        f"{policy}/task": (String, NOTHING_LOST),
        f"{policy}/spec": (String, qos.LATCHED),
        "/diagnostics": (DiagnosticArray, NOTHING_LOST),
    }


class RecordNode(Node):
    """Writes every message as it came, without taking it apart."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__("record_node")
        values = declare(self, PARAMETERS)
        path = Path(values["output"] or time.strftime("recording-%Y%m%d-%H%M%S.mcap")).expanduser()
        self._file = _create(path)
        try:
            from mcap.writer import Writer  # an optional extra
        except ImportError:
            path.unlink()
            raise UserError(
                "recording needs the package mcap, which is not installed",
                expected="the extra `record`",
                fix="pip install mcap mcap-ros2-support",
            ) from None
        self._writer = Writer(self._file, chunk_size=CHUNK)
        self._writer.start(profile="ros2", library="tigr_ros")
        self._messages = 0
        self._heard: set[str] = set()
        for topic, (kind, profile) in topics(values["policy"]).items():
            self._record(topic, kind, profile)
        self.get_logger().info(f"recording into {path}")
        self._mismatches = ""
        self.create_timer(1.0, self._look)

    def stop(self) -> None:
        """Complete the file."""
        self._writer.finish()
        self._file.close()
        print(f"recorded {self._messages} messages into {self._file.name}", flush=True)

    def _record(self, topic: str, kind: type, profile: QoSProfile) -> None:
        schema = self._writer.register_schema(type_name(kind), "ros2msg", definition(kind).encode())
        latched = profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
        offered = OFFERED_QOS.format(depth=profile.depth, durability="transient_local" if latched else "volatile")
        name = self.resolve_topic_name(topic)
        channel = self._writer.register_channel(name, "cdr", schema, {"offered_qos_profiles": offered})

        def write(data: bytes, sent_ns: int | None = None) -> None:
            if name not in self._heard:
                self._heard.add(name)
                self.get_logger().info(f"hearing {name}")
            now_ns = time.time_ns()
            self._writer.add_message(channel, now_ns, data, sent_ns or now_ns)
            self._messages += 1

        def write_sent(data: bytes, info: Mapping[str, int]) -> None:
            write(data, info["source_timestamp"])

        tells_sent = hasattr(Subscription, "CallbackType")  # not in Humble
        callback: Callable[..., None] = write_sent if tells_sent else write
        self.create_subscription(kind, topic, callback, profile, raw=True, event_callbacks=qos.NO_SUBSCRIPTION_EVENTS)

    def _look(self) -> None:
        mismatches = qos.mismatches(self)
        if mismatches != self._mismatches:
            self.get_logger().warning(mismatches or "all topics fit now")
        self._mismatches = mismatches


def _create(path: Path) -> BinaryIO:
    if path.suffix != ".mcap":
        raise UserError(f"recording {path}", expected="a name that ends in .mcap", fix=f"{path}.mcap, for example")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except FileExistsError:
        raise UserError(f"{path} exists", expected="a new file", fix="choose another name, or move it away") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}", expected="a writable place", fix="choose another") from None


def main() -> None:
    """Run the node."""
    run(RecordNode)
