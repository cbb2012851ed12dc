# SPDX-License-Identifier: Apache-2.0
"""Numbers come back from messages by name, and what cannot be used is refused with its name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

import envs
from envs.meta_world import MetaWorld
from envs.spec import Actuator, ObservationTerm, RobotSpec
from tigr_core.errors import UserError
from tigr_ros import messages

# Two actuators, in another order than their joints; the middle joint has none.
ROBOT = RobotSpec(
    name="arm",
    joints=("a", "b", "c"),
    observation=(ObservationTerm("a", "rad", "position", "a"),),
    actuators=(Actuator("on_c", "c", -1.0, 1.0, 2.0), Actuator("on_a", "a", -1.0, 1.0, 3.0)),
    control_dt=0.05,
)
LABELS = ("x", "y", "z")


def joint_state(**lists: list) -> JointState:
    whole: dict = {"name": ["a", "b", "c"], "position": [1.0, 2.0, 3.0], "velocity": [10.0, 20.0, 30.0]}
    return JointState(**(whole | lists))


def test_stamps_are_exact_to_the_nanosecond() -> None:
    stamp = messages.to_stamp(1.25)
    assert (stamp.sec, stamp.nanosec) == (1, 250_000_000)
    assert messages.to_stamp(0.05 * 3) == messages.stamp_of(150_000_000), "to the nearest"
    assert messages.to_nanoseconds(messages.stamp_of(1_700_000_000_123_456_789)) == 1_700_000_000_123_456_789
    assert messages.to_seconds(stamp) == 1.25


def test_an_array_is_read_by_label() -> None:
    message = messages.labelled_array(np.array([0.1, -2.0, 1e-300]), LABELS, "things")
    assert message.layout.dim[0].label == "things:x,y,z" and message.layout.dim[0].size == 3
    assert messages.read_labels(message) == LABELS
    assert messages.read_array(message, LABELS).tolist() == [0.1, -2.0, 1e-300]
    assert messages.read_array(message, ("z", "x", "y")).tolist() == [1e-300, 0.1, -2.0]


def test_an_array_without_labels_is_read_in_order() -> None:
    message = Float64MultiArray(data=[1.0, 2.0, 3.0])
    assert messages.read_labels(message) == ()
    assert messages.read_array(message, LABELS).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Float64MultiArray(data=[1.0, 2.0]), "2 values"),
        (Float64MultiArray(), "0 values"),
        (Float64MultiArray(data=[1.0, np.nan, 3.0]), "nan of 'y'"),
        (Float64MultiArray(data=[1.0, 2.0, -np.inf]), "-inf of 'z'"),
        (messages.labelled_array(np.zeros(3), ("x", "y", "w"), "things"), "no 'z'"),
        (messages.labelled_array(np.zeros(3), ("x", "y", "y"), "things"), "'y' more than once"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(message: Float64MultiArray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        messages.read_array(message, LABELS)


def test_a_command_says_what_it_answers() -> None:
    message = messages.command(ROBOT, np.array([0.5, -0.25]), messages.stamp_of(150_000_000))
    assert message.layout.dim[0].label == "effort@150000000:on_c,on_a"
    effort, answers = messages.read_command(ROBOT, message)
    assert effort.tolist() == [0.5, -0.25] and answers == 150_000_000
    effort, answers = messages.read_command(ROBOT, Float64MultiArray(data=[1.0, 2.0]))
    assert effort.tolist() == [1.0, 2.0] and answers is None


def test_a_joint_state_is_complete() -> None:
    stamp = messages.to_stamp(2.0)
    message = messages.joint_state(ROBOT, np.arange(3.0), np.arange(3.0) * 10, np.array([7.0, -5.0]), stamp)
    assert list(message.name) == ["a", "b", "c"] and message.header.stamp == stamp
    assert message.position.tolist() == [0.0, 1.0, 2.0] and message.velocity.tolist() == [0.0, 10.0, 20.0]
    assert message.effort.tolist() == [-5.0, 0.0, 7.0], "each where its actuator's joint is"
    positions, velocities = messages.JointStateReader(ROBOT).read(message)
    assert positions.tolist() == [0.0, 1.0, 2.0] and velocities.tolist() == [0.0, 10.0, 20.0]


def test_joints_are_read_by_name() -> None:
    message = joint_state(
        name=["c", "other", "a", "b"], position=[3.0, 9.0, 1.0, 2.0], velocity=[30.0, 9.0, 10.0, 20.0]
    )
    positions, velocities = messages.JointStateReader(ROBOT).read(message)
    assert positions.tolist() == [1.0, 2.0, 3.0] and velocities.tolist() == [10.0, 20.0, 30.0]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (joint_state(name=["a", "b", "d"]), "no 'c'"),
        (joint_state(name=["a", "a", "c"]), "no 'b', 'a' more than once"),
        (joint_state(name=["a", "b"], position=[1.0, 2.0], velocity=[1.0, 2.0]), "no 'c'"),
        (joint_state(velocity=[]), "3 names, 3 positions and 0 velocities"),
        (joint_state(position=[1.0, 2.0]), "2 positions"),
        (joint_state(position=[1.0, np.nan, 3.0]), "position nan of 'b'"),
        (joint_state(velocity=[1.0, 2.0, np.inf]), "velocity inf of 'c'"),
        (JointState(), "no 'a'"),
    ],
)
def test_joints_that_do_not_fit_are_refused(message: JointState, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        messages.JointStateReader(ROBOT).read(message)


def test_a_broken_joint_that_is_none_of_ours_does_not_matter() -> None:
    message = joint_state(name=["a", "b", "c", "d"], position=[1.0, 2.0, 3.0, np.nan], velocity=[1.0, 2.0, 3.0, np.nan])
    assert messages.JointStateReader(ROBOT).read(message)[0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("env_id", ["tigr/HalfCheetahEight-v0", "tigr/PointRobot-v0"])
def test_task_info_comes_back_as_the_single_environment_has_it(env_id: str) -> None:
    vector, single = envs.make_vector(env_id), envs.make_env(env_id)
    vector.reset(seed=3)
    single.reset(seed=3)
    action = np.full(vector.spec_robot.action_dim, 0.3)
    *_, info = vector.step(action[None])
    *_, wanted = single.step(action)
    found, stamp_ns = messages.read_task_info(messages.task_info(info, messages.stamp_of(50_000_000)))
    assert stamp_ns == 50_000_000
    assert found["parameter"].tolist() == wanted["parameter"].tolist()
    assert {**found, "parameter": None} == {**wanted, "parameter": None}
    assert type(found["base_task"]) is int


def test_a_diagnostic_holds_text() -> None:
    values = {"rate": 1 / 3, "steps": 7}
    status = messages.diagnostic("/node", "part", "robot", DiagnosticStatus.WARN, "so so", values)
    assert (status.name, status.hardware_id, status.message) == ("/node: part", "robot", "so so")
    assert status.level == DiagnosticStatus.WARN
    assert [(pair.key, pair.value) for pair in status.values] == [("rate", "0.333333"), ("steps", "7")]


def test_robots_of_one_kind_are_told_apart_by_their_namespaces() -> None:
    said = [
        messages.diagnostic(node, "control", robot, DiagnosticStatus.OK, "")
        for node, robot in (("/left/arm/policy_node", "cheetah"), ("/right/policy_node", "cheetah"), ("/sim_node", ""))
    ]
    assert [status.name for status in said] == [
        "/left/arm/policy_node: control",
        "/right/policy_node: control",
        "/sim_node: control",
    ]
    assert [status.hardware_id for status in said] == ["left/arm/cheetah", "right/cheetah", "unknown robot"]


def test_a_floating_base_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"robot 'ant' has a floating base \(root\), which joint_states cannot carry"):
        messages.JointStateReader(envs.make_env("tigr/AntNine-v0").spec_robot)


def test_coordinates_that_are_no_joints_are_refused() -> None:
    with pytest.raises(UserError, match=r"robot 'meta_world' has coordinates that are no joints, which joint_states"):
        messages.JointStateReader(MetaWorld.spec)
