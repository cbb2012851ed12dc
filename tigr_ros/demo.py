# SPDX-License-Identifier: Apache-2.0
"""The demonstration: simulator and policy in two processes over DDS, with tasks that change and a line that tells all.

Ctrl-C ends all of it. Unless ROS_DOMAIN_ID is set, it takes a domain of its own and stays on this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray, String

from tigr_core.bundle import BundleInfo, load_bundle
from tigr_core.errors import UserError
from tigr_ros import messages, qos
from tigr_ros.bundles import shipped_bundle
from tigr_ros.process import StopRequest, run
from tigr_ros.start import signals_wait

REFRESH_S = {True: 0.2, False: 1.0}  # on a terminal, and elsewhere
EPISODE_STEPS = 200  # as in training: farther away the position itself would tell the task
PATIENCE_S = 60.0  # for the policy to be heard at all
FAREWELL_S = 1.5  # for both nodes to end by themselves


def main() -> None:
    """Run the demonstration."""
    options = _parse(sys.argv[1:])
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 100 + 1)
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    run(lambda stop: Demo(stop, options))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tigr-demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="trained policy, a .tigr file; default: the shipped one")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long; default: at Ctrl-C")
    parser.add_argument(
        "--task-change", default="every_seconds:5.0", help="when another task is drawn; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the tasks; default: %(default)s")
    return parser.parse_args(arguments)


def node_command(name: str, parameters: Mapping[str, object]) -> list[str]:
    """Return the command that runs a node of this package in this Python, with parameters."""
    given = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
    return [sys.executable, "-c", f"from tigr_ros.start import {name}; {name}()", "--ros-args", *given]


class Demo(Node):
    """Starts the two nodes, listens to both, and shows what it hears.

    Raises `UserError` when there is no bundle to show.
    """

    def __init__(self, stop: StopRequest, options: argparse.Namespace) -> None:
        bundle = options.bundle or shipped_bundle()
        if bundle is None:
            raise UserError(
                "no bundle is named, and none comes with this installation",
                expected="a trained policy, a .tigr file",
                fix="train one with `tigr train`, then run `tigr-demo output/ENV/RUN/best.tigr`",
            )
        info = load_bundle(bundle).info
        super().__init__("demo")
        self._stop_request = stop
        self._line = Line(info)
        self._listen()
        simulator = {
            "env": info.env_id,
            "base_tasks": ",".join(info.base_tasks),
            "task_change": options.task_change,
            "seed": options.seed,
            "episode_steps": EPISODE_STEPS,
        }
        # Training allows any change of effort; the default, for robots, does not.
        policy = {"bundle": bundle, "autostart": "true", "rate_limit": 1.0}
        with signals_wait():
            self._processes = {
                "sim_node": subprocess.Popen(node_command("sim_node", simulator)),
                "policy_node": subprocess.Popen(node_command("policy_node", policy)),
            }
        self._seconds = options.seconds
        self._started = time.monotonic()
        self.create_timer(REFRESH_S[sys.stdout.isatty()], self._show)

    def stop(self) -> None:
        """End both nodes, and say how it went."""
        for process in self._processes.values():
            process.terminate()
        end = time.monotonic() + FAREWELL_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        print(f"\n{self._line.summary()}")

    def _listen(self) -> None:
        line = self._line
        for kind, topic, callback, profile in (
            (String, "task", line.on_task, qos.LATCHED),
            (Float64MultiArray, "task_info", line.on_task_info, qos.SENSOR),
            (Float64MultiArray, "policy_node/task_probabilities", line.on_probabilities, qos.SENSOR),
            (DiagnosticArray, "/diagnostics", line.on_diagnostics, qos.SENSOR),
        ):
            qos.create_subscription(self, kind, topic, callback, profile)

    def _show(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                self._fail(f"{name} ended with status {process.returncode}")
        if not self._line.complete and time.monotonic() - self._started > PATIENCE_S:
            self._fail(f"heard nothing of the policy within {PATIENCE_S:g} s")
        if self._line.seconds >= self._seconds:
            self._stop_request.set()
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{str(self._line)[:width]:<{width}}", end="", flush=True)
        else:
            print(self._line, flush=True)

    def _fail(self, found: str) -> None:
        self._stop_request.fail(
            UserError(found, expected="simulator and policy, running until the end", fix="see the messages above")
        )


class Line:
    """What was heard last, as one line of text."""

    def __init__(self, info: BundleInfo) -> None:
        self._units = dict(zip(info.base_tasks, info.task_units, strict=True))
        self._first_heard_at = 0.0
        self._true = self._inferred = ""
        self._probability = self._value = self._target = float("nan")
        self._latency_ms = float("nan")
        self._heard = self._right = 0

    def __str__(self) -> str:
        if not self.complete:
            return f"waiting for {'the policy' if self._true else 'the simulator'}"
        unit = self._units.get(self._base_task, "")
        return (
            f"{self.seconds:5.0f} s   true {self._true:<24} "
            f"inferred {self._inferred:<17} {self._probability:4.2f}   "
            f"tracked {self._value:6.2f} of {self._target:6.2f} {unit:<5}   latency {self._latency_ms:.1f} ms"
        )

    @property
    def complete(self) -> bool:
        """Whether both the simulator and the policy have been heard."""
        return bool(self._true and self._inferred)

    @property
    def seconds(self) -> float:
        """Since when both have been heard, s."""
        return time.monotonic() - self._first_heard_at if self.complete else 0.0

    @property
    def _base_task(self) -> str:
        return self._true.partition("(")[0]

    def summary(self) -> str:
        """Return how often the policy was right."""
        if not self._heard:
            return "heard nothing of the policy"
        return f"right base task in {self._right / self._heard:.0%} of {self._heard} control periods"

    def on_task(self, message: String) -> None:
        """Take the true task."""
        self._true = message.data

    def on_task_info(self, message: Float64MultiArray) -> None:
        """Take what is tracked."""
        info, _ = messages.read_task_info(message)
        self._value, self._target = info["tracked_value"], info["tracked_target"]

    def on_probabilities(self, message: Float64MultiArray) -> None:
        """Take the task estimate."""
        self._probability, self._inferred = max(zip(message.data, messages.read_labels(message), strict=True))
        self._first_heard_at = self._first_heard_at or time.monotonic()
        self._heard += 1
        self._right += self._inferred == self._base_task

    def on_diagnostics(self, message: DiagnosticArray) -> None:
        """Take the latency that the simulator has measured."""
        for status in message.status:
            for pair in status.values:
                if pair.key == "state to command p50 [ms]":
                    self._latency_ms = float(pair.value)
