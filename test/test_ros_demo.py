# SPDX-License-Identifier: Apache-2.0
"""The demonstration runs, tells the truth, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import tiny_bundle

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_graph import Graph
from std_msgs.msg import Float64MultiArray, String

from tigr_ros import messages
from tigr_ros.demo import Line

ENV_ID = "tigr/PointRobotAxes-v0"
FULL_LINE = re.compile(
    r"^ +\d+ s   true goal_(left|right|up|down)\([\d.]+\) +inferred goal_(left|right|up|down) +[01]\.\d\d   "
    r"tracked +-?\d+\.\d\d of +\d+\.\d\d m +latency +(nan|\d+\.\d) ms$",
    re.MULTILINE,
)


def test_the_line_tells_what_was_heard() -> None:
    line = Line(tiny_bundle(ENV_ID).info)
    assert str(line) == "waiting for the simulator" and line.seconds == 0.0
    line.on_task(String(data="goal_up(0.5)"))
    assert str(line) == "waiting for the policy" and line.summary() == "heard nothing of the policy"
    info = {"tracked_value": np.array([0.25]), "tracked_target": np.array([0.5])}
    line.on_task_info(messages.task_info(info, messages.stamp_of(1)))
    status = messages.diagnostic(
        "/sim_node", "simulation", "", DiagnosticStatus.OK, "", {"state to command p50 [ms]": 1.25}
    )
    line.on_diagnostics(DiagnosticArray(status=[status]))
    for probabilities in ([0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1]):  # left, right, up, down
        line.on_probabilities(estimate(probabilities))
    assert re.search(
        r"true goal_up\(0.5\) +inferred goal_left +0.70 +tracked +0.25 of +0.50 m +latency 1.2 ms", str(line)
    )
    assert line.summary() == "right base task in 50% of 2 control periods"


def estimate(probabilities: list[float]) -> Float64MultiArray:
    names = ("goal_left", "goal_right", "goal_up", "goal_down")
    return messages.labelled_array(np.array(probabilities), names, "task_probabilities@1")


def start(graph: Graph, *arguments: Any) -> Any:
    command = [sys.executable, "-c", "from tigr_ros.start import demo; demo()", *map(str, arguments)]
    return graph.run(command, "demo")


def children(number: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_shows_both_nodes_and_ends_by_itself(graph: Graph, tmp_path: Path) -> None:
    tiny_bundle(ENV_ID, tmp_path / "a.tigr")
    assert start(graph, tmp_path / "a.tigr", "--seconds", 3).wait(90) == 0
    said = graph.output("demo")
    assert FULL_LINE.search(said), said
    assert re.search(r"right base task in \d+% of \d+ control periods", said)
    assert "Traceback" not in said


def test_ctrl_c_ends_all_of_it(graph: Graph, tmp_path: Path) -> None:
    tiny_bundle(ENV_ID, tmp_path / "a.tigr")
    process = start(graph, tmp_path / "a.tigr")
    graph.wait_until_said("demo", FULL_LINE)
    nodes = children(process.pid)
    assert len(nodes) == 2
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(30) == 0
    assert not any(running(number) for number in nodes)
    assert "Traceback" not in graph.output("demo")


def test_a_node_that_ends_ends_it_with_a_message(graph: Graph, tmp_path: Path) -> None:
    tiny_bundle(ENV_ID, tmp_path / "a.tigr")
    process = start(graph, tmp_path / "a.tigr", "--task-change", "whenever")
    assert process.wait(60) == 2
    said = graph.output("demo")
    assert "expected '', 'every_steps:100'" in said and "sim_node ended with status 2" in said


def test_no_bundle_is_one_message(graph: Graph, tmp_path: Path) -> None:
    assert start(graph, tmp_path / "none.tigr").wait(60) == 2
    assert "no bundle at" in graph.output("demo") and "Traceback" not in graph.output("demo")
