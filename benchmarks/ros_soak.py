# SPDX-License-Identifier: Apache-2.0
"""Simulator and policy for a long time at a high rate, tasks changing: does memory grow, is a node or pairing lost?

    python benchmarks/ros_soak.py BUNDLE --seconds 600 --rate 100

Both nodes run in processes of their own on simulated time. Printed are their memory after the first minute and at the
end, their exit status, and their last diagnostics.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rich.console import Console
from rich.table import Table

from tigr_core.bundle import load_bundle
from tigr_ros import qos
from tigr_ros.demo import node_command
from tigr_ros.process import avoid_shared_memory

SETTLED_S = 60.0
SAMPLE_S = 10.0


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """Return the resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Listener(Node):
    """Keeps the last diagnostics of each node by name."""

    def __init__(self) -> None:
        super().__init__("soak")
        self.values: dict[str, dict[str, str]] = {}
        qos.create_subscription(self, DiagnosticArray, "/diagnostics", self._hear, qos.STATE)

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values[status.name] = {"status": status.message, **{pair.key: pair.value for pair in status.values}}


def main() -> None:
    """Run both nodes and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="trained policy, a .tigr file")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=100.0, help="control periods a second; default: %(default)s")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    speed = arguments.rate * load_bundle(arguments.bundle).robot.control_dt
    simulator = {"env": arguments.bundle, "rate": speed, "publish_clock": "true", "task_change": "every_seconds:10.0"}
    policy = {"bundle": arguments.bundle, "autostart": "true", "use_sim_time": "true", "rate_limit": 1.0}
    avoid_shared_memory()
    rclpy.init()
    listener = Listener()
    processes = {
        "sim_node": subprocess.Popen(node_command("sim_node", simulator)),
        "policy_node": subprocess.Popen(node_command("policy_node", policy)),
    }
    memory: dict[str, list[float]] = {name: [] for name in processes}
    start_s = next_s = time.monotonic()
    while (now_s := time.monotonic()) < start_s + arguments.seconds:
        rclpy.spin_once(listener, timeout_sec=0.5)
        lost = [name for name, process in processes.items() if process.poll() is not None]
        assert not lost, f"lost {lost}"
        if now_s >= next_s:
            next_s += SAMPLE_S
            for name, process in processes.items():
                memory[name].append(resident_mib(process))
    for process in processes.values():
        process.send_signal(signal.SIGINT)
    codes = {name: process.wait(10.0) for name, process in processes.items()}
    settled = int(min(SETTLED_S, arguments.seconds / 2) / SAMPLE_S)
    table = Table("node", "what", "value", title=f"{arguments.seconds:g} s at {arguments.rate:g} Hz")
    for name, samples in memory.items():
        table.add_row(name, "memory settled, at the end [MiB]", f"{samples[settled]:.1f}, {samples[-1]:.1f}")
        table.add_row(name, "exit status", str(codes[name]))
    for name, values in listener.values.items():
        for key, value in values.items():
            table.add_row(name, key, value)
    Console().print(table)
    listener.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
