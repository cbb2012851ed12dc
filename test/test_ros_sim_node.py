# SPDX-License-Identifier: Apache-2.0
"""The simulator on topics: what it publishes, when it waits, and when it goes safe by itself."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import tiny_bundle

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_graph import STOP_S, Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

import envs
from tigr_ros import messages, qos
from tigr_ros.sim_node import PARAMETERS
from tigr_ros.simulation import HeldCommand, Simulation, environment, task_change_of

ENV_ID = "tigr/PointRobotAxes-v0"  # control period 0.1 s, two actuators, efforts up to 0.1
PERIOD_NS = 100_000_000
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}


# ---- without ROS ----


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("", None),
        ("every_steps:100", {"every_steps": 100}),
        ("every_seconds:5.0", {"every_steps": 50}),
        ("crossing:x_position:0.5", {"crossing": {"quantity": "x_position", "place": 0.5}}),
    ],
)
def test_a_task_change_is_read(text: str, change: Any) -> None:
    assert task_change_of({"task_change": text}, 0.1) == change


@pytest.mark.parametrize("text", ["sometimes", "every_steps", "every_steps:x", "every_seconds:inf", "crossing:x"])
def test_another_task_change_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"every_seconds:5\.0"):
        task_change_of({"task_change": text}, 0.1)


def test_a_command_holds_for_so_many_periods() -> None:
    held = HeldCommand(2, timeout_periods=2.0)
    assert taken(held) == (True, [0.0, 0.0]), "nothing has been commanded yet"
    held.take(np.array([1.0, -1.0]))
    assert [taken(held) for _ in range(3)] == [(False, [1.0, -1.0]), (False, [1.0, -1.0]), (True, [0.0, 0.0])]
    held.take(np.array([3.0, 4.0]))
    assert taken(held) == (False, [3.0, 4.0])
    held.release()
    assert taken(held) == (True, [0.0, 0.0])


def taken(held: HeldCommand) -> tuple[bool, list[float]]:
    effort = held.next().tolist()
    return held.safe, effort


def test_the_effort_told_is_the_effort_exerted() -> None:
    simulation = Simulation(DEFAULTS | {"env": ENV_ID})
    simulation.begin(None, seed=0)
    before = simulation.positions
    simulation.step(np.array([0.05, 7.0]))
    assert simulation.effort.tolist() == [0.05, 0.1], "clipped to the limit"
    assert np.allclose(simulation.positions - before, [0.05, 0.1])


def test_an_environment_is_taken_from_a_bundle(tmp_path: Path) -> None:
    tiny_bundle(ENV_ID, tmp_path / "a.tigr")
    assert environment(str(tmp_path / "a.tigr"), "") == (ENV_ID, envs.task_set(ENV_ID))
    assert environment(ENV_ID, "goal_up, goal_left")[1].names == ("goal_up", "goal_left")


# ---- nodes ----


class Driver:
    """Stands in for a policy: hears states and rewards, sends commands."""

    def __init__(self, graph: Graph, *, lock_step: bool = False) -> None:
        self.graph = graph
        self.robot = envs.make_env(ENV_ID).spec_robot
        self.states: list[JointState] = graph.listen(JointState, "joint_states")
        self.rewards: list[Float64] = graph.listen(Float64, "reward")
        self.diagnostics: list[DiagnosticArray] = graph.listen(DiagnosticArray, "/diagnostics")
        self.commands = graph.publisher(Float64MultiArray, "commands", qos.COMMAND)

    def connect(self) -> None:
        self.graph.wait(
            lambda: qos.listeners(self.graph.node, [self.commands], "joint_states"), "a simulator that hears commands"
        )

    def send(self, effort: tuple[float, float], answers: Time | None = None) -> None:
        stamp = self.states[-1].header.stamp if answers is None else answers
        self.commands.publish(messages.command(self.robot, np.array(effort), stamp))

    def next_state(self) -> JointState:
        count = len(self.states)
        return self.graph.wait(lambda: self.states[count:], "the next state")[0]

    def status(self, wanted: str) -> DiagnosticStatus:
        """Wait until diagnostics say so."""
        self.diagnostics.clear()
        return self.graph.wait(
            lambda: [s for m in self.diagnostics for s in m.status if wanted in s.message], f"diagnostics: {wanted}"
        )[-1]

    def wait_for_value(self, key: str, value: str) -> None:
        """Wait until diagnostics hold it."""
        self.graph.wait(
            lambda: any((p.key, p.value) == (key, value) for m in self.diagnostics for s in m.status for p in s.values),
            f"{key}: {value}",
        )


def stamps(states: list[JointState]) -> list[int]:
    return [messages.to_nanoseconds(state.header.stamp) for state in states]


def test_in_real_time_commands_hold_and_their_end_is_noticed(graph: Graph) -> None:
    driver = Driver(graph)
    task: list[String] = graph.listen(String, "task", qos.LATCHED)
    graph.start("sim_node", env=ENV_ID, task="goal_up", parameter=0.5)
    first = driver.next_state()
    assert list(first.name) == ["x", "y"]
    assert len(first.position) == len(first.velocity) == len(first.effort) == 2
    assert abs(messages.to_seconds(first.header.stamp) - time.time()) < 60, "wall time"
    graph.wait(lambda: task, "the task")
    assert task[0].data == "goal_up(0.5)"

    status = driver.status("no commands: zero effort")
    assert status.level == DiagnosticStatus.WARN and status.hardware_id == "point_robot"
    driver.connect()
    driver.send((0.02, -0.03))
    graph.wait(lambda: driver.states[-1].effort.tolist() == [0.02, -0.03], "the effort")
    count = len(driver.states)
    graph.wait(lambda: driver.states[-1].effort.tolist() == [0.0, 0.0], "zero effort after the last command")
    assert len(driver.states) - count <= 3, "held for two periods, no longer"
    wanted = {-np.hypot(state.position[0], state.position[1] - 0.5) for state in driver.states}
    assert sum(reward.data in wanted for reward in driver.rewards) > len(driver.states) / 2


def test_in_real_time_the_rate_is_kept(graph: Graph) -> None:
    driver = Driver(graph)
    graph.start("sim_node", env=ENV_ID, rate=4.0, publish_clock=True)
    clock: list[Clock] = graph.listen(Clock, "/clock")
    graph.wait(lambda: len(driver.states) > 40, "40 states")
    assert set(np.diff(stamps(driver.states))) == {PERIOD_NS}, "simulated time"
    graph.wait(lambda: clock, "a clock")
    assert messages.to_nanoseconds(clock[-1].clock) % PERIOD_NS == 0
    status = driver.status("")
    values = {pair.key: pair.value for pair in status.values}
    assert 0.5 < float(values["real-time factor"]) < 5.0


def test_in_lock_step_there_is_a_state_for_each_command_and_no_more(graph: Graph) -> None:
    driver = Driver(graph)
    graph.start("sim_node", env=ENV_ID, lock_step=True, seed=3, episode_steps=2)
    assert stamps([driver.next_state()]) == [PERIOD_NS]
    reference = envs.make_env(ENV_ID)
    obs, _ = reference.reset(seed=3)
    assert driver.states[0].position.tolist() == obs.tolist()
    driver.connect()

    driver.send((0.05, 0.0), answers=messages.stamp_of(7))  # answers no state there is
    driver.send((0.01, 0.0))
    driver.next_state()
    graph.wait(lambda: driver.rewards, "its reward: topics overtake each other")
    obs, reward, *_ = reference.step(np.array([0.1, 0.0]))
    assert driver.states[-1].position.tolist() == obs.tolist() and driver.rewards[0].data == reward
    driver.send((0.01, 0.0))
    driver.next_state()
    driver.send((0.1, 0.1))  # answers the last state of the episode: not carried out
    driver.next_state()
    assert stamps(driver.states) == [PERIOD_NS, 2 * PERIOD_NS, 3 * PERIOD_NS, PERIOD_NS]
    driver.status("waiting for a command")
    assert len(driver.states) == 4 and len(driver.rewards) == 2


def test_in_lock_step_a_late_comer_is_sent_the_waiting_state(graph: Graph) -> None:
    first = Driver(graph)
    graph.start("sim_node", env=ENV_ID, lock_step=True)
    first.next_state()
    first.connect()
    first.send((0.01, 0.0))
    first.next_state()
    # Another end on the topic is somebody new, under whatever name.
    graph.publisher(Float64MultiArray, "commands", qos.COMMAND)
    assert stamps([first.next_state()]) == [2 * PERIOD_NS]


def test_services_and_parameters_rule_the_simulation(graph: Graph) -> None:
    driver = Driver(graph)
    task: list[String] = graph.listen(String, "task", qos.LATCHED)
    graph.start("sim_node", env=ENV_ID, lock_step=True, seed=5)
    start = driver.next_state()

    refused = graph.set_parameters("sim_node", task="goal_sideways", parameter=1.0)
    assert not refused.successful and "did you mean" in refused.reason
    assert graph.set_parameters("sim_node", task="goal_left", parameter=0.75).successful
    assert graph.call(Trigger, "sim_node/set_task").message == "goal_left(0.75)"
    graph.wait(lambda: task and task[-1].data == "goal_left(0.75)", "the new task")

    assert not graph.call(Trigger, "sim_node/step").success, "not paused"
    assert graph.call(SetBool, "sim_node/pause", SetBool.Request(data=True)).message == "paused"
    assert not graph.call(Trigger, "sim_node/step").success, "no command yet"
    driver.connect()
    driver.send((0.05, 0.0))
    driver.status("paused")
    assert len(driver.states) == 1, "paused in spite of a command"
    assert graph.call(Trigger, "sim_node/step").success
    graph.wait(lambda: len(driver.states) == 2, "the state after the step")
    assert driver.states[1].position.tolist() == [start.position[0] + 0.05, start.position[1]]
    assert graph.call(SetBool, "sim_node/pause", SetBool.Request(data=False)).message == "running"

    assert graph.call(Trigger, "sim_node/reset").message == "episode 2: goal_left(0.75)"
    graph.wait(lambda: len(driver.states) == 3, "the first state of the new episode")
    assert stamps(driver.states)[-1] == PERIOD_NS, "time starts again"
    assert driver.states[-1].position == start.position, "same seed, same start"
    assert graph.set_parameters("sim_node", seed=-1).successful
    graph.call(Trigger, "sim_node/reset")
    graph.wait(lambda: len(driver.states) == 4, "another first state")
    assert driver.states[-1].position != start.position


def test_tasks_change_on_schedule(graph: Graph) -> None:
    task: list[String] = graph.listen(String, "task", qos.LATCHED)
    graph.start("sim_node", env=ENV_ID, task_change="every_seconds:0.5", rate=10.0, publish_clock=True)
    graph.wait(lambda: len(task) > 3, "three changes")
    assert all(first.data != second.data for first, second in pairwise(task))


def test_bad_commands_are_refused_and_counted(graph: Graph) -> None:
    driver = Driver(graph)
    graph.start("sim_node", env=ENV_ID)
    driver.next_state()
    driver.connect()
    for count, data in enumerate(([0.05], [0.05, np.nan]), 1):
        driver.commands.publish(Float64MultiArray(data=data))
        driver.wait_for_value("commands refused", str(count))
    assert all(state.effort.tolist() == [0.0, 0.0] for state in driver.states)


def test_incompatible_qos_is_an_error_in_diagnostics_while_it_lasts(graph: Graph) -> None:
    driver = Driver(graph)
    graph.start("sim_node", env=ENV_ID)
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    publisher = graph.publisher(Float64MultiArray, "commands", best_effort)
    status = driver.status("incompatible QoS on /commands: reliability")
    assert status.level == DiagnosticStatus.ERROR
    graph.node.destroy_publisher(publisher)
    driver.status("no commands")


def test_qos_can_be_overridden(graph: Graph) -> None:
    states: list[JointState] = graph.listen(JointState, "joint_states", qos.STATE)
    driver_faults: list[DiagnosticArray] = graph.listen(DiagnosticArray, "/diagnostics")
    graph.start("sim_node", "-p", "qos_overrides./joint_states.publisher.reliability:=best_effort", env=ENV_ID)
    graph.wait(
        lambda: [
            s for m in driver_faults for s in m.status if "incompatible QoS on /joint_states: reliability" in s.message
        ],
        "a reliable subscription that does not fit any more",
    )
    assert not states


# ---- the process ----


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"env": "tigr/PointRobot-v1"}, "did you mean"),
        ({"env": "nowhere.tigr"}, "no bundle at nowhere.tigr"),
        ({"env": ENV_ID, "rate": 2.0}, "set publish_clock as well"),
        ({"env": ENV_ID, "task_change": "crossing:mood:1.0"}, "crossing quantity 'mood'"),
    ],
)
def test_a_mistake_at_start_is_one_message(graph: Graph, parameters: dict[str, Any], message: str) -> None:
    assert graph.start("sim_node", **parameters).wait(60) == 2
    said = graph.output("sim_node")
    assert message in said and "error: " in said and "Traceback" not in said


@pytest.mark.parametrize("lock_step", [False, True], ids=["real_time", "lock_step"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_stops_cleanly_also_when_asked_twice(graph: Graph, number: signal.Signals, lock_step: bool) -> None:
    driver = Driver(graph)
    process = graph.start("sim_node", env=ENV_ID, lock_step=lock_step)
    driver.next_state()
    asked = time.monotonic()
    process.send_signal(number)
    assert graph.end(process, number) == 0
    assert time.monotonic() - asked < 10 * STOP_S
    assert graph.output("sim_node") == ""
