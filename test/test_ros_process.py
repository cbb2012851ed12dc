# SPDX-License-Identifier: Apache-2.0
"""However a process ends, its node says goodbye first, and the user reads one message or none."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from ros_graph import LIMIT_S, Graph

from tigr_ros.start import signals_wait

NODE = """
import os
from rclpy.node import Node
from std_msgs.msg import Float64
from tigr_core.errors import UserError
from tigr_ros.process import run

class Example(Node):
    def __init__(self, stop):
        super().__init__("example")
        self.request = stop
        self.publisher = self.create_publisher(Float64, "last", 1)
        self.create_timer(0.01, self.work)
        print("ready", flush=True)
    def work(self):
        {work}
    def stop(self):
        self.publisher.publish(Float64())
        print("goodbye", flush=True)

run(Example)
print("after", flush=True)
{after}
"""


def start(graph: Graph, work: str = "pass", *, after: str = "", arguments: tuple[str, ...] = ()) -> subprocess.Popen:
    return graph.run([sys.executable, "-c", NODE.format(work=work, after=after), *arguments], "example")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_asks_once_for_a_goodbye(graph: Graph, number: signal.Signals) -> None:
    # A signal that is repeated as the interpreter ends does not kill it either.
    process = start(graph, after=f"os.kill(os.getpid(), {int(number)})")
    graph.wait_until_said("example", "ready")
    process.send_signal(number)
    assert graph.end(process, number) == 0
    assert graph.output("example").split() == ["ready", "goodbye", "after"]


def test_signals_that_come_while_one_is_handled_do_not_hold_it_up(graph: Graph) -> None:
    process = start(graph, after="os._exit(0)")  # as the package's commands end
    graph.wait_until_said("example", "ready")
    end = time.monotonic() + 0.5  # some hundred thousand signals, of which many interrupt the handler
    while process.poll() is None and time.monotonic() < end:
        process.send_signal(signal.SIGINT)
    assert graph.end(process) == 0
    assert "goodbye" in graph.output("example")


def test_a_mistake_of_the_user_is_told_without_trace_back(graph: Graph) -> None:
    process = start(graph, 'self.request.fail(UserError("found x", expected="y", fix="z"))')
    assert process.wait(LIMIT_S) == 2
    assert graph.output("example").splitlines() == ["ready", "goodbye", "error: found x", "  expected: y", "  fix: z"]


@pytest.mark.parametrize("how", ['self.request.fail(KeyError("lost"))', 'raise KeyError("lost")'])
def test_an_error_is_shown_after_the_goodbye(graph: Graph, how: str) -> None:
    assert start(graph, how).wait(LIMIT_S) == 1
    said = graph.output("example")
    assert said.index("goodbye") < said.index("Traceback") and "KeyError: 'lost'" in said and "after" not in said


def test_arguments_that_ros_cannot_read_are_one_message(graph: Graph) -> None:
    process = start(graph, arguments=("--ros-args", "--params-file", "nowhere.yaml"))
    assert process.wait(LIMIT_S) == 2
    said = graph.output("example")
    assert "nowhere.yaml" in said and "fix: " in said and "Traceback" not in said


MAKE_CONTEXT = {
    "process": """
from rclpy.node import Node
from tigr_ros.process import run
class Example(Node):
    def __init__(self, stop):
        super().__init__("example")
        say()
        stop.set()
    def stop(self):
        pass
run(Example)
""",
    "ros_env": """
import envs
from tigr_ros.ros_env import RosEnv
env = RosEnv(envs.make_env("tigr/PointRobotAxes-v0").spec_robot, lock_step=True)
say()
env.close()
""",
}


@pytest.mark.parametrize("maker", MAKE_CONTEXT)
@pytest.mark.parametrize("discovery_range", ["OFF", "LOCALHOST"])
@pytest.mark.parametrize(("chosen", "shared"), [(None, "False"), ("DEFAULT", "True")])
def test_shared_memory_is_avoided_unless_chosen(
    graph: Graph, maker: str, discovery_range: str, chosen: str | None, shared: str
) -> None:
    script = "def say():\n    print('/dev/shm/fast' in open('/proc/self/maps').read())\n" + MAKE_CONTEXT[maker]
    unprepared(graph, discovery_range)
    if chosen:
        graph.environment["FASTDDS_BUILTIN_TRANSPORTS"] = chosen
    assert graph.run([sys.executable, "-c", script], "example").wait(LIMIT_S) == 0
    assert graph.output("example").split() == [shared]


def test_other_nodes_on_this_machine_are_still_heard(graph: Graph) -> None:
    script = """
import rclpy, std_msgs.msg
rclpy.init()
node = rclpy.create_node("tool")
node.create_publisher(std_msgs.msg.Float64, "level", 1)
rclpy.spin(node)
"""
    unprepared(graph, "LOCALHOST")
    graph.run([sys.executable, "-c", script], "example")
    graph.wait(lambda: graph.node.count_publishers("level"), "a node that does as ROS tools do")


def unprepared(graph: Graph, discovery_range: str) -> None:
    """Take back for processes what this process has made of its environment."""
    for name in ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE"):
        graph.environment.pop(name, None)
    graph.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = discovery_range


@pytest.mark.parametrize("name", ["sim_node", "policy_node", "train_node", "demo"])
def test_a_signal_before_anything_has_begun_ends_it_quietly(graph: Graph, name: str) -> None:
    with signals_wait():  # as the demonstration starts its nodes
        process = graph.run([sys.executable, "-c", f"from tigr_ros.start import {name}; {name}()"], name)
    process.send_signal(signal.SIGINT)
    assert graph.end(process, signal.SIGTERM) == 0
    assert graph.output(name) == ""


def test_no_other_process_is_asked_about_graphics(graph: Graph) -> None:
    script = """
import sys
from types import SimpleNamespace
from tigr_ros import start
def import_module(name):
    import envs
    return SimpleNamespace(main=lambda: print(name, "glfw" in sys.modules))
start.importlib.import_module = import_module
start.sim_node()
"""
    assert graph.run([sys.executable, "-c", script], "example").wait(LIMIT_S) == 0
    assert graph.output("example").split() == ["tigr_ros.sim_node", "False"]


def test_a_signal_while_modules_are_imported_ends_it_quietly(graph: Graph) -> None:
    script = """
import os, signal, time
from tigr_ros import start
def import_module(name):
    print(name, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
start.importlib.import_module = import_module
start.policy_node()
"""
    assert graph.run([sys.executable, "-c", script], "example").wait(LIMIT_S) == 0
    assert graph.output("example").split() == ["tigr_ros.policy_node"]
