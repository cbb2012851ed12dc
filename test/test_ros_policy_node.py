# SPDX-License-Identifier: Apache-2.0
"""The policy node as a process: what it commands, and all the ways in which it must not."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from bundles import tiny_bundle
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_graph import STOP_S, Graph
from ros_policy import Policy, Robot, efforts, following, values_of
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from visualization_msgs.msg import MarkerArray

from tigr_core.bundle import Bundle
from tigr_core.controller import Controller
from tigr_ros import messages, qos

ENV_ID = "tigr/PointRobotAxes-v0"
OK, WARN, ERROR, STALE = (getattr(DiagnosticStatus, name) for name in ("OK", "WARN", "ERROR", "STALE"))


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "a.tigr"
    tiny_bundle(ENV_ID, path)
    return path


@pytest.fixture
def bundle(bundle_path: Path) -> Bundle:
    return tiny_bundle(ENV_ID)


@pytest.fixture
def robot(graph: Graph, bundle: Bundle) -> Iterator[Robot]:
    robot = Robot(graph, bundle.robot)
    yield robot
    robot.pause()


def answer(graph: Graph, policy: Policy, stamp_ns: int) -> np.ndarray:
    """The efforts that answer the state of a stamp."""

    def found() -> Any:
        return next((m for m in policy.commands if messages.stamp_in(m) == stamp_ns), None)

    return efforts(graph.wait(found, f"the answer to {stamp_ns}"))


def test_it_acts_and_infers_as_the_controller_does_and_says_so(
    graph: Graph, robot: Robot, bundle: Bundle, bundle_path: Path
) -> None:
    def shuffle(message: JointState) -> None:
        first, second = message.name
        message.name = [second, "gripper", first]
        for entries in (message.position, message.velocity, message.effort):
            entries.reverse()
            entries.insert(1, 0.5)

    policy = Policy(graph, bundle_path, lock_step=True)
    policy.start()
    robot.alter = shuffle  # joints are found by name
    robot.await_policy()
    latents = graph.listen(Float64MultiArray, "policy_node/latent")
    probabilities = graph.listen(Float64MultiArray, "policy_node/task_probabilities")
    tasks, entropies = graph.listen(String, "policy_node/task"), graph.listen(Float64, "policy_node/entropy")
    spec = graph.listen(String, "policy_node/spec", qos.LATCHED)
    said = [latents, probabilities, tasks, entropies]
    graph.wait(lambda: spec, "the spec")

    controller = Controller(bundle.model)
    robot.reward = None
    for _ in range(5):
        stamp_ns = robot.send()
        positions, velocities = robot.place()
        obs = bundle.robot.observe(positions, velocities)[None]
        if robot.reward is not None:
            controller.observe(action, np.array([robot.reward]), obs)  # noqa: F821 (of the round before)
        action = controller.act(obs)
        wanted = bundle.robot.action_to_effort(action.astype(np.float64))[0]
        assert np.array_equal(answer(graph, policy, stamp_ns), wanted)
        robot.reward = -0.25 * robot.stamp_ns / robot.period_ns
    # What is said beside the commands may reach the first listeners late; the last is there.
    graph.wait(lambda: all(said) and messages.stamp_in(latents[-1]) == stamp_ns, "the last estimate")
    estimate = controller.estimate
    assert np.array_equal(np.float32(latents[-1].data), estimate.latent[0])
    graph.wait(lambda: messages.stamp_in(probabilities[-1]) == stamp_ns, "the last probabilities")
    assert messages.read_labels(probabilities[-1]) == tuple(bundle.info.base_tasks)
    np.testing.assert_allclose(probabilities[-1].data, estimate.mixture_weights[0])
    likely = bundle.info.base_tasks[int(estimate.component[0])]
    graph.wait(lambda: tasks[-1].data == likely and entropies[-1].data == estimate.entropy[0], "task and entropy")

    described = json.loads(spec[0].data)
    assert described["robot"]["joints"] == list(bundle.robot.joints)
    assert described["base_tasks"] == bundle.info.base_tasks
    assert described["sha256"] == policy.says(OK, "in control")["bundle sha256"]


def test_states_and_rewards_that_stop_stop_the_robot(graph: Graph, robot: Robot, bundle_path: Path) -> None:
    policy = Policy(graph, bundle_path, stale_after_periods=8.0)
    policy.start()
    policy.next_still()
    policy.says(STALE, "stale input")
    robot.run()
    policy.next_moving()
    robot.pause()
    policy.next_still()
    assert float(policy.says(STALE, "stale input")["joint_states age [s]"]) > 0.0
    policy.stays_still()
    robot.run()
    policy.next_moving()
    robot.reward = None
    policy.next_still()
    policy.says(STALE, "stale input")
    robot.reward = -1.0
    policy.next_moving()
    policy.says(OK, "in control")


def test_joints_that_do_not_fit_are_refused_and_while_running_stop_the_robot(
    graph: Graph, robot: Robot, bundle_path: Path
) -> None:
    def rename(message: JointState) -> None:
        message.name = ["wheel", *message.name[1:]]

    def drop(message: JointState) -> None:
        message.name, message.position, message.velocity = [], [], []

    def hears(joint: str) -> None:
        policy.status(lambda status: joint in values_of(status)["joints"].split(", "), f"joint {joint}")

    policy = Policy(graph, bundle_path)
    robot.alter = rename
    robot.run()
    hears("wheel")
    assert not policy.change("configure")
    assert policy.state == "unconfigured"
    policy.says(ERROR, f"no {robot.spec.joints[0]!r}")
    robot.alter = lambda message: None
    hears(robot.spec.joints[0])
    policy.start()
    policy.next_moving()
    for oddity in (rename, drop):
        robot.alter = oddity
        policy.next_still()
        policy.stays_still()
        policy.says(ERROR, f"bad input: found no {robot.spec.joints[0]!r}")
        robot.alter = lambda message: None
        policy.next_moving()
    policy.says(OK, "in control")


@pytest.mark.parametrize("kind", ["state", "reward"])
def test_input_that_is_not_finite_stops_the_robot_until_it_is_rearmed(
    graph: Graph, robot: Robot, bundle_path: Path, kind: str
) -> None:
    def spoil(message: JointState) -> None:
        message.velocity[0] = float("inf")

    policy = Policy(graph, bundle_path)
    robot.run()
    policy.start()
    policy.next_moving()
    if kind == "state":
        robot.alter = spoil
    else:
        robot.reward = float("nan")
    policy.next_still()
    robot.alter, robot.reward = (lambda message: None), -1.0
    policy.stays_still()
    policy.says(ERROR, "stopped until ~/rearm: not finite")
    policy.trigger("rearm")
    policy.next_moving()


def test_efforts_keep_to_their_limits_and_grow_slowly(
    graph: Graph, robot: Robot, bundle: Bundle, bundle_path: Path
) -> None:
    def moving(count: int) -> np.ndarray:
        """Commands from zero effort on."""
        policy.commands.clear()
        assert policy.change("activate")
        graph.wait(lambda: sum(efforts(m).any() for m in policy.commands) > count, f"{count} efforts")
        assert policy.change("deactivate")
        sent = np.array([efforts(message) for message in policy.commands])
        return sent[np.flatnonzero(sent.any(axis=1))]

    highest = bundle.robot.action_to_effort(np.ones(bundle.robot.action_dim))
    policy = Policy(graph, bundle_path, effort_limit=0.1, soft_start_s=0.5)
    robot.run()
    assert policy.change("configure")
    sent = moving(25)
    assert (np.abs(sent) <= 0.1 * highest).all() and np.isclose(np.abs(sent).max(axis=0), 0.1 * highest).any()
    assert (np.abs(sent[0]) < 0.5 * np.abs(sent).max(axis=0)).all(), "effort grows from nothing"
    values = policy.says(OK, "inactive")
    assert int(values["commands, soft start"]) > 0 and int(values["commands, effort limit"]) > 0

    assert graph.set_parameters("policy_node", effort_limit=1.0, soft_start_s=0.0, rate_limit=0.01).successful
    assert policy.change("cleanup") and policy.change("configure")
    sent = moving(10)
    steps = np.abs(np.diff(sent, axis=0, prepend=np.zeros((1, len(highest)))))
    assert (steps <= 0.01 * 2 * highest * (1 + 1e-9)).all() and np.isclose(steps[0], 0.01 * 2 * highest).any()


def test_an_emergency_stop_holds_until_it_is_rearmed_whatever_happens(
    graph: Graph, robot: Robot, bundle_path: Path
) -> None:
    policy = Policy(graph, bundle_path)
    robot.run()
    policy.start()
    policy.next_moving()
    policy.trigger("estop")
    graph.wait(lambda: not efforts(policy.commands[-1]).any(), "zero effort")
    policy.stays_still()
    assert policy.change("deactivate") and policy.change("cleanup")
    policy.says(ERROR, "emergency stop")
    policy.start()
    policy.stays_still()
    policy.trigger("rearm")
    policy.next_moving()
    policy.trigger("reset_context")
    policy.next_moving()


def test_deactivation_while_moving_ends_with_zero_effort(graph: Graph, robot: Robot, bundle_path: Path) -> None:
    policy = Policy(graph, bundle_path)
    robot.run()
    policy.start()
    policy.next_moving()
    assert policy.change("deactivate") and policy.state == "inactive"
    policy.says(OK, "inactive")
    assert not efforts(policy.commands[-1]).any()
    sent = len(policy.commands)
    policy.says(OK, "inactive")
    assert len(policy.commands) == sent
    assert policy.change("activate")
    policy.next_moving()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_two_seconds_with_zero_effort_last(
    graph: Graph, robot: Robot, bundle_path: Path, number: signal.Signals
) -> None:
    policy = Policy(graph, bundle_path, autostart=True)
    robot.run()
    policy.next_moving()
    began = time.monotonic()
    policy.process.send_signal(number)
    policy.process.send_signal(number)  # `ros2 launch` passes on a Ctrl-C that came already
    graph.wait(lambda: policy.process.poll() is not None, "the end of the process")
    assert policy.process.returncode == 0
    assert time.monotonic() - began < STOP_S + 3.0, "two seconds, and the machine's business"
    graph.wait(lambda: not efforts(policy.commands[-1]).any(), "zero effort")
    assert "Traceback" not in graph.output("policy_node")


def test_a_replaced_bundle_is_noticed_and_loaded_at_the_next_configure(
    graph: Graph, robot: Robot, tmp_path: Path
) -> None:
    path = tmp_path / "b.tigr"
    before = tiny_bundle(ENV_ID, path).info.sha256
    policy = Policy(graph, path)
    robot.run()
    policy.start()
    assert policy.says(OK, "in control")["bundle sha256"] == before
    after = tiny_bundle(ENV_ID, path, context="window", context_length=3).info.sha256
    assert policy.says(WARN, "replaced")["bundle sha256"] == before
    policy.next_moving()
    path.write_bytes(b"half a bundle")
    policy.next_moving()
    assert policy.change("deactivate") and policy.change("cleanup")
    assert not policy.change("configure")
    policy.says(ERROR, "damaged or no bundle")
    tiny_bundle(ENV_ID, path, context="window", context_length=3)
    policy.start()
    policy.next_moving()
    assert policy.says(OK, "in control")["bundle sha256"] == after


def test_time_that_jumps_back_empties_the_context_and_goes_on(graph: Graph, robot: Robot, bundle_path: Path) -> None:
    clock = graph.publisher(Clock, "/clock", qos.STATE)

    def stamp(message: JointState) -> None:
        clock.publish(Clock(clock=message.header.stamp))

    robot.alter = stamp
    robot.stamp_ns = 100 * 10**9
    policy = Policy(graph, bundle_path, use_sim_time=True)
    robot.run()
    policy.start()
    policy.next_moving()
    assert policy.says(OK, "in control")["episodes"] == "1"
    robot.stamp_ns = 5 * 10**9
    policy.status(lambda status: values_of(status)["episodes"] == "2")
    policy.next_moving()
    policy.says(OK, "in control")
    robot.pause()  # and its clock with it
    policy.next_still()
    policy.says(STALE, "stale input")


def test_a_shadow_commands_nobody(graph: Graph, robot: Robot, bundle: Bundle, bundle_path: Path) -> None:
    commands = graph.listen(Float64MultiArray, "commands")
    driver = graph.publisher(Float64MultiArray, "commands", qos.COMMAND)
    policy = Policy(graph, bundle_path, shadow=True)
    names = messages.actuator_names(bundle.robot)
    robot.alter = lambda message: driver.publish(
        messages.labelled_array(0.5 * bundle.robot.action_to_effort(np.ones(len(names))), names, "effort")
    )
    robot.run()
    policy.start()
    policy.next_moving()
    latents = graph.listen(Float64MultiArray, "policy_node/latent")
    graph.wait(lambda: len({tuple(message.data) for message in latents}) > 3, "a changing estimate")
    assert {publisher.node_name for publisher in graph.node.get_publishers_info_by_topic("/commands")} == {"test"}
    assert all(messages.stamp_in(message) is None for message in commands)


def test_commands_may_be_joint_states_by_name(graph: Graph, robot: Robot, bundle: Bundle, bundle_path: Path) -> None:
    heard = graph.listen(JointState, "robot_joint_commands", qos.COMMAND)
    policy = Policy(
        graph, bundle_path, "-r", "commands:=robot_joint_commands", command_type="joint_state", lock_step=True
    )
    policy.start()
    robot.await_policy("robot_joint_commands")
    robot_commands = [actuator.joint for actuator in bundle.robot.actuators]
    stamp_ns = robot.send()
    command = graph.wait(lambda: heard, "a command")[0]
    assert list(command.name) == robot_commands and len(command.effort) == len(robot_commands)
    assert messages.to_nanoseconds(command.header.stamp) == stamp_ns


def test_ends_that_cannot_hear_each_other_are_an_error_not_silence(graph: Graph, bundle_path: Path) -> None:
    unreliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    graph.publisher(Float64, "reward", unreliable)
    policy = Policy(graph, bundle_path, "-p", "qos_overrides./reward.subscription.reliability:=reliable")
    policy.says(ERROR, "incompatible QoS on /reward: reliability")


def test_wrong_parameters_are_refused_with_a_reason(graph: Graph, bundle_path: Path, tmp_path: Path) -> None:
    policy = Policy(graph, tmp_path / "nothing.tigr")
    assert "range" in graph.set_parameters("policy_node", rate_limit=3.0).reason
    assert "one of efforts, joint_state" in graph.set_parameters("policy_node", command_type="volts").reason
    assert "read-only" in graph.set_parameters("policy_node", lock_step=True).reason
    assert not policy.change("configure")
    policy.says(ERROR, "no bundle at")
    assert graph.set_parameters("policy_node", bundle=str(bundle_path)).successful
    assert policy.change("configure") and policy.state == "inactive"
    policy.says(OK, "inactive")


def test_markers_are_drawn_for_those_who_look(graph: Graph, robot: Robot, bundle: Bundle, bundle_path: Path) -> None:
    policy = Policy(graph, bundle_path, marker_rate_hz=20.0)
    robot.run()
    policy.start()
    policy.next_moving()
    shown: list[MarkerArray] = graph.listen(MarkerArray, "policy_node/markers")
    picture = following(graph, shown, lambda message: True, "markers")
    assert {marker.ns for marker in picture.markers} == {"components", "names", "latent", "trail"}
    assert sum(marker.ns == "components" for marker in picture.markers) == bundle.info.model.num_components
