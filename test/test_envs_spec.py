# SPDX-License-Identifier: Apache-2.0
"""The robot specification: one observation assembly, one effort conversion, and a round trip through JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import INSTALLED

from envs import Actuator, ObservationTerm, RobotSpec, make_vector

SPEC = RobotSpec(
    name="toy",
    joints=("a", "b"),
    observation=(
        ObservationTerm("b_velocity", "rad/s", "velocity", "b"),
        ObservationTerm("seven", "m", "constant", None, offset=7.0),
        ObservationTerm("a_position", "rad", "position", "a", offset=0.5),
    ),
    actuators=(Actuator("left", "a", -1.0, 1.0, gear=120.0), Actuator("right", "b", 0.0, 4.0, gear=0.5)),
    control_dt=0.05,
)


def test_observe_gathers_by_joint_name_and_adds_offsets() -> None:
    obs = SPEC.observe(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[10.0, 20.0], [30.0, 40.0]]))
    np.testing.assert_array_equal(obs, [[20.0, 7.0, 1.5], [40.0, 7.0, 3.5]])
    assert obs.dtype == np.float64


def test_observe_of_one_robot_is_the_row_of_the_batch() -> None:
    np.testing.assert_array_equal(SPEC.observe(np.array([1.0, 2.0]), np.array([10.0, 20.0])), [20.0, 7.0, 1.5])


def test_a_floating_base_has_coordinates_of_its_own() -> None:
    spec = RobotSpec(
        name="blimp",
        joints=("rudder",),
        observation=(
            ObservationTerm("height", "m", "position", "base_z"),
            ObservationTerm("climb", "m/s", "velocity", "base_z"),
            ObservationTerm("turn", "rad/s", "velocity", "base_wz"),
            ObservationTerm("rudder", "rad", "position", "rudder"),
        ),
        actuators=(),
        control_dt=0.1,
        floating_base="base",
    )
    positions, velocities = np.arange(8.0)[None], 10 + np.arange(7.0)[None]
    np.testing.assert_array_equal(spec.observe(positions, velocities), [[2.0, 12.0, 15.0, 7.0]])
    assert RobotSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(ValueError, match="'base_qw'"):
        replace(spec, observation=(ObservationTerm("spin", "", "velocity", "base_qw"),))


def test_what_observations_do_not_tell_is_zero() -> None:
    obs = SPEC.observe(np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]]))
    np.testing.assert_array_equal(SPEC.positions_in(obs), [[1.0, 0.0]])


def test_effort_by_hand() -> None:
    # left: ctrl = action, effort = 120 * ctrl. right: [-1, 1] becomes [0, 4], effort = ctrl / 2.
    np.testing.assert_allclose(SPEC.action_to_effort(np.array([0.25, 0.5])), [30.0, 1.5])
    np.testing.assert_allclose(SPEC.action_to_effort(np.array([-9.0, 9.0])), [-120.0, 2.0])  # clipped


@pytest.mark.parametrize("env_id", INSTALLED)
def test_effort_round_trip(env_id: str) -> None:
    spec = make_vector(env_id).spec_robot
    action = np.random.default_rng(0).uniform(-1, 1, (1000, spec.action_dim))
    ctrl = spec.effort_to_ctrl(spec.action_to_effort(action))
    np.testing.assert_allclose(spec.ctrl_to_action(ctrl), action, rtol=0, atol=1e-15)
    assert np.abs(spec.ctrl_to_action(ctrl)).max() <= 1.0


def test_efforts_beyond_the_actuator_are_clipped() -> None:
    np.testing.assert_allclose(SPEC.effort_to_ctrl(np.array([1e6, -1e6])), [1.0, 0.0])


@pytest.mark.parametrize("env_id", INSTALLED)
def test_json_round_trip(env_id: str) -> None:
    spec = make_vector(env_id).spec_robot
    copy = RobotSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert copy == spec
    assert hash(copy) == hash(spec)


def test_unknown_key_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        RobotSpec.from_dict({**SPEC.to_dict(), "colour": "red"})


def test_unknown_joint_is_refused() -> None:
    with pytest.raises(ValueError, match="'elbow'"):
        RobotSpec("toy", ("a",), (ObservationTerm("x", "rad", "position", "elbow"),), (), 0.05)
