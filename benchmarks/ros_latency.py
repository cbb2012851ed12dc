# SPDX-License-Identifier: Apache-2.0
"""Joint state published -> command received, between two processes on this machine, and the controller's share of it.

    python benchmarks/ros_latency.py BUNDLE --seconds 60 --rates 20 100 200

This process plays the robot: it sends reward and joint state at a fixed rate and takes the commands; `policy_node` runs
in the other, in real time, with a control period that fits the rate. A command says which state it answers, so no pair
is guessed. A deadline is missed when no answer has come within one period. Time nothing else on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import rclpy
import torch
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray

from envs.spec import RobotSpec
from tigr_core.bundle import Bundle, load_bundle
from tigr_core.controller import Controller
from tigr_core.model import TaskInferenceModel
from tigr_ros import messages, qos
from tigr_ros.control_step import ControlStep
from tigr_ros.demo import node_command
from tigr_ros.pairing import Input, State
from tigr_ros.process import avoid_shared_memory
from tigr_ros.safety import SafetyConfig, SafetyLayer

CONTEXTS = ("stream", "window")
WARM_UP_S = 3.0  # after the first answer: soft start, caches
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Row:
    """Durations in ms; a deadline is one period."""

    what: str
    median: float
    p99: float
    maximum: float
    count: int
    missed: int | None = None

    @classmethod
    def of(cls, what: str, durations_s: np.ndarray, *, sent: int | None = None, period_s: float = np.inf) -> Row:
        """Summarise durations [n]; `sent` counts those that never ended, too."""
        median, p99 = (1e3 * np.percentile(durations_s, [50, 99])).tolist()
        missed = None if sent is None else sent - int((durations_s <= period_s).sum())
        return cls(what, median, p99, 1e3 * float(durations_s.max()), sent or len(durations_s), missed)


def variant(bundle: Bundle, context: str, control_dt: float) -> Bundle:
    """Return the policy with another way to read the context and another control period; the weights stay."""
    config = bundle.info.model.model_copy(update={"context": context})
    model = TaskInferenceModel(config, bundle.model.obs_dim, bundle.model.action_dim)
    model.load_state_dict(bundle.model.state_dict())
    info = bundle.info.model_copy(update={"model": config, "robot": bundle.info.robot | {"control_dt": control_dt}})
    return Bundle(model.eval().requires_grad_(False), info)


class PlayedRobot(Node):
    """Sends states at a fixed rate and notes when their answers come."""

    def __init__(self, spec: RobotSpec) -> None:
        super().__init__("played_robot")
        self.spec = spec
        self._states = qos.create_publisher(self, JointState, "joint_states", qos.STATE)
        self._rewards = qos.create_publisher(self, Float64, "reward", qos.STATE)
        qos.create_subscription(self, Float64MultiArray, "commands", self._on_command, qos.COMMAND)
        self._rng = np.random.default_rng(0)
        self.sent_s: dict[int, float] = {}
        self.latency_s: dict[int, float] = {}

    def play(self, seconds: float) -> None:
        """Send states for so long, and take in their answers."""
        due_s = time.perf_counter()
        end_s = due_s + seconds
        while due_s < end_s:
            self._send()
            due_s += self.spec.control_dt
            while (left_s := due_s - time.perf_counter()) > 0.0:
                rclpy.spin_once(self, timeout_sec=left_s)

    def forget(self) -> None:
        """Start the count anew."""
        self.sent_s.clear()
        self.latency_s.clear()

    def _send(self) -> None:
        stamp_ns = time.time_ns()
        noise = self._rng.uniform(-0.1, 0.1, (2, self.spec.num_joints))
        zero = np.zeros(len(self.spec.actuators))
        state = messages.joint_state(self.spec, noise[0], noise[1], zero, messages.stamp_of(stamp_ns))
        self._rewards.publish(Float64(data=-1.0))
        self.sent_s[stamp_ns] = time.perf_counter()
        self._states.publish(state)

    def _on_command(self, message: Float64MultiArray) -> None:
        now_s, stamp_ns = time.perf_counter(), messages.stamp_in(message)
        if stamp_ns in self.sent_s:
            self.latency_s[stamp_ns] = now_s - self.sent_s[stamp_ns]


def round_trip(bundle: Bundle, rate: float, seconds: float) -> Row:
    """Measure one rate with a policy node of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.tigr"
        bundle.save(path)
        process = subprocess.Popen(node_command("policy_node", {"bundle": path, "autostart": "true"}))
        robot = PlayedRobot(bundle.robot)
        try:
            end_s = time.monotonic() + START_LIMIT_S
            while not robot.latency_s:
                robot.play(0.5)
                assert time.monotonic() < end_s and process.poll() is None, "the policy node does not answer"
            robot.play(WARM_UP_S)
            robot.forget()
            robot.play(seconds)
        finally:
            robot.destroy_node()
            process.send_signal(signal.SIGINT)
            process.wait(10.0)
    what = f"state to command, {rate:g} Hz, {bundle.info.model.context}"
    return Row.of(what, np.array(list(robot.latency_s.values())), sent=len(robot.sent_s), period_s=1.0 / rate)


def controller_share(bundle: Bundle, pause_s: float, ticks: int = 1000) -> list[Row]:
    """Measure observation in -> action out in this process: the controller alone, and with everything around it.

    A pause between ticks, as on a robot, lets other work take the caches; without one they stay warm.
    """
    controller, obs = Controller(bundle.model), np.zeros((1, bundle.model.obs_dim))
    reward, durations_s = np.array([-1.0]), np.zeros((2, ticks))
    neutral = SafetyConfig(rate_limit=1.0, soft_start_s=0.0)
    step = ControlStep(bundle, SafetyLayer(bundle.robot, neutral))
    joints = np.zeros(bundle.robot.num_joints)
    action = controller.act(obs)
    for tick in range(ticks):
        time.sleep(pause_s)
        start_s = time.perf_counter()
        controller.observe(action, reward, obs)
        action = controller.act(obs)
        durations_s[0, tick] = time.perf_counter() - start_s
        time.sleep(pause_s)
        start_s = time.perf_counter()
        step.answer(Input(State(joints, joints, tick, 0.0), -1.0), now_s=0.0)
        durations_s[1, tick] = time.perf_counter() - start_s
    how = f"{bundle.info.model.context}, {'every ' + format(1e3 * pause_s, 'g') + ' ms' if pause_s else 'back to back'}"
    parts = ("controller alone", "joints to effort, with safety")
    return [Row.of(f"{part}, {how}", durations_s[i]) for i, part in enumerate(parts)]


def machine() -> str:
    """Say what was measured on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    parts = (
        names[0].partition(": ")[2] if names else platform.machine(),
        f"{os.cpu_count()} cores",
        f"load {os.getloadavg()[0]:.2f} before",
        f"Python {platform.python_version()}",
        get_rmw_implementation_identifier(),
        f"torch {torch.__version__} with one thread",
    )
    return ", ".join(parts)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="trained policy, a .tigr file")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each rate; default: %(default)s")
    parser.add_argument("--rates", type=float, nargs="*", default=[20.0, 100.0, 200.0], help="Hz; default: 20 100 200")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    torch.set_num_threads(1)
    avoid_shared_memory()
    rclpy.init()
    where, bundle = machine(), load_bundle(arguments.bundle)
    rows = [
        row
        for pause_s in (0.0, 0.01)
        for context in CONTEXTS
        for row in controller_share(variant(bundle, context, 0.05), pause_s)
    ]
    for rate in arguments.rates:
        rows += [round_trip(variant(bundle, context, 1.0 / rate), rate, arguments.seconds) for context in CONTEXTS]
    rclpy.shutdown()

    table = Table("", "median ms", "p99 ms", "max ms", "count", "missed", title=bundle.info.env_id)
    for row in rows:
        numbers = [f"{value:.2f}" for value in (row.median, row.p99, row.maximum)]
        table.add_row(row.what, *numbers, str(row.count), "" if row.missed is None else str(row.missed))
    Console().print(table)
    print(where)
    if arguments.json is not None:
        document = {"machine": where, "seconds": arguments.seconds, "rows": [asdict(row) for row in rows]}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
