# SPDX-License-Identifier: Apache-2.0
"""Simulator and policy as two processes in real time: each stays safe when the other dies."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from bundles import tiny_bundle
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_graph import Graph
from ros_policy import Policy, following
from sensor_msgs.msg import JointState

ENV_ID = "tigr/HalfCheetahEight-v0"
SIMULATOR = {"env": ENV_ID, "task": "velocity_forward", "parameter": 3.0}


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    tiny_bundle(ENV_ID, tmp_path / "a.tigr")
    return tmp_path / "a.tigr"


def test_each_stops_the_robot_when_the_other_is_killed_and_goes_on_when_it_is_back(
    graph: Graph, bundle_path: Path
) -> None:
    states = graph.listen(JointState, "joint_states")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")

    def simulated_robot(moves: bool) -> None:
        following(graph, states, lambda m: any(m.effort) == moves, f"a robot that {'moves' if moves else 'rests'}")

    def simulator_says(text: str) -> None:
        def fits(message: Any) -> bool:
            return any(status.name.startswith("/sim_node") and text in status.message for status in message.status)

        following(graph, diagnostics, fits, text)

    simulator = graph.start("sim_node", **SIMULATOR)
    policy = Policy(graph, bundle_path, autostart=True)
    simulated_robot(moves=True)
    policy.says(DiagnosticStatus.OK, "in control")

    graph.end(policy.process, signal.SIGKILL)
    simulated_robot(moves=False)
    simulator_says("no commands: zero effort")
    policy = Policy(graph, bundle_path, autostart=True)
    simulated_robot(moves=True)

    graph.end(simulator, signal.SIGKILL)
    policy.next_still()
    policy.says(DiagnosticStatus.STALE, "stale input")
    policy.stays_still()
    graph.start("sim_node", **SIMULATOR)
    simulated_robot(moves=True)
    policy.says(DiagnosticStatus.OK, "in control")


def test_two_robots_are_two_in_the_diagnostics(graph: Graph, bundle_path: Path) -> None:
    heard: list[DiagnosticArray] = graph.listen(DiagnosticArray, "/diagnostics")
    graph.start("sim_node", "-r", "__ns:=/left", **SIMULATOR)
    graph.start("policy_node", "-r", "__ns:=/right", bundle=bundle_path, autostart=True)

    def named() -> set[tuple[str, str]]:
        return {(status.name, status.hardware_id) for message in heard for status in message.status}

    wanted = {
        ("/left/sim_node: simulation", "left/half_cheetah"),
        ("/right/policy_node: control", "right/half_cheetah"),
    }
    graph.wait(lambda: named() >= wanted, "both robots")
