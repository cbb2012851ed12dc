# SPDX-License-Identifier: Apache-2.0
"""What may reach a robot: limits, soft start, latches, watchdog. Time is moved by hand."""

from __future__ import annotations

import numpy as np
import pytest

from envs.spec import Actuator, ObservationTerm, RobotSpec
from tigr_ros.safety import Reason, SafetyConfig, SafetyLayer, Watchdog

# Ranges of effort: [-10, 10] N m, and [-1, 3] N m with a gear that turns the ends round.
ROBOT = RobotSpec(
    name="pair",
    joints=("a", "b"),
    observation=(ObservationTerm("a", "rad", "position", "a"),),
    actuators=(Actuator("first", "a", -1.0, 1.0, 10.0), Actuator("second", "b", -3.0, 1.0, -1.0)),
    control_dt=0.1,
)
NEUTRAL = SafetyConfig(effort_limit=1.0, rate_limit=1.0, soft_start_s=0.0)


def layer(**settings: float) -> SafetyLayer:
    return SafetyLayer(ROBOT, SafetyConfig(**{**vars(NEUTRAL), **settings}))


def asked(first: float, second: float = 0.0) -> np.ndarray:
    return np.array([first, second])


def test_neutral_settings_leave_every_allowed_effort_as_it_is() -> None:
    safety, rng = layer(), np.random.default_rng(0)
    for _ in range(200):
        effort = ROBOT.action_to_effort(rng.choice([-1.0, 1.0, *rng.uniform(-1, 1, 3)], 2))
        command = safety.filter(effort, now_s=1.0)
        assert np.array_equal(command.effort, effort) and command.reasons == () and not command.stopped


def test_effort_is_limited_to_a_share_of_each_actuators_range() -> None:
    command = layer(effort_limit=0.5).filter(asked(8.0, -0.9), now_s=0.0)
    assert command.effort.tolist() == [5.0, -0.5]
    assert command.reasons == (Reason.EFFORT_LIMIT,)
    assert layer(effort_limit=0.5).filter(asked(-8.0, 2.0), now_s=0.0).effort.tolist() == [-5.0, 1.5]
    assert layer().filter(asked(11.0, 3.5), now_s=0.0).effort.tolist() == [10.0, 3.0]


def test_effort_changes_by_a_share_of_the_range_between_commands() -> None:
    safety = layer(rate_limit=0.25)  # 5 N m and 1 N m
    sent = [safety.filter(asked(10.0, -1.0), now_s=0.0) for _ in range(3)]
    assert [command.effort.tolist() for command in sent] == [[5.0, -1.0], [10.0, -1.0], [10.0, -1.0]]
    assert [command.reasons for command in sent] == [(Reason.RATE_LIMIT,), (), ()]
    assert safety.filter(asked(-10.0, 3.0), now_s=0.0).effort.tolist() == [5.0, 0.0]


def test_effort_grows_from_nothing_over_the_soft_start() -> None:
    safety = layer(soft_start_s=2.0)
    sent = [safety.filter(asked(8.0), now_s=now_s) for now_s in (100.0, 100.5, 101.0, 102.0, 103.0)]
    assert [command.effort[0] for command in sent] == [0.0, 2.0, 4.0, 8.0, 8.0]
    assert [command.reasons for command in sent] == [(Reason.SOFT_START,)] * 3 + [()] * 2


def test_a_stop_is_at_once_and_the_start_after_it_soft() -> None:
    safety = layer(soft_start_s=2.0, rate_limit=0.1)
    safety.filter(asked(8.0), now_s=0.0)
    for now_s in (2.0, 2.1, 2.2, 2.3, 2.4):
        command = safety.filter(asked(8.0), now_s=now_s)
    assert command.effort[0] == 8.0
    stopped = safety.stop(Reason.STALE_INPUT)
    assert stopped.effort.tolist() == [0.0, 0.0] and stopped.stopped and stopped.reasons == (Reason.STALE_INPUT,)
    assert safety.filter(asked(8.0), now_s=5.0).effort[0] == 0.0
    assert safety.filter(asked(8.0), now_s=5.25).effort[0] == 1.0


def test_a_clock_that_jumps_back_starts_softly_again() -> None:
    safety = layer(soft_start_s=2.0)
    safety.filter(asked(8.0), now_s=100.0)
    assert safety.filter(asked(8.0), now_s=102.0).effort[0] == 8.0
    assert safety.filter(asked(8.0), now_s=3.0).effort[0] == 0.0
    assert safety.filter(asked(8.0), now_s=4.0).effort[0] == 4.0


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_effort_that_is_not_finite_is_latched(broken: float) -> None:
    safety = layer()
    command = safety.filter(asked(broken, 1.0), now_s=0.0)
    assert command.effort.tolist() == [0.0, 0.0] and command.stopped and command.reasons == (Reason.NOT_FINITE,)
    assert safety.filter(asked(1.0), now_s=1.0).stopped
    safety.rearm()
    assert safety.filter(asked(1.0), now_s=2.0).effort[0] == 1.0


def test_the_first_latch_stays_until_rearmed() -> None:
    safety = layer()
    safety.latch(Reason.EMERGENCY_STOP)
    safety.latch(Reason.NOT_FINITE)
    assert safety.latched is Reason.EMERGENCY_STOP
    assert safety.filter(asked(1.0), now_s=0.0).reasons == (Reason.EMERGENCY_STOP,)
    assert safety.stop(Reason.STALE_INPUT).reasons == (Reason.EMERGENCY_STOP,)
    assert SafetyLayer(ROBOT, NEUTRAL, safety.latched).filter(asked(1.0), now_s=0.0).stopped
    safety.rearm()
    assert safety.latched is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"effort_limit": 0.0},
        {"effort_limit": 1.1},
        {"rate_limit": 0.0},
        {"rate_limit": np.nan},
        {"soft_start_s": -1.0},
        {"soft_start_s": np.inf},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SafetyConfig(**wrong)


def test_input_is_stale_until_it_comes_and_when_it_stops() -> None:
    watchdog = Watchdog({"state": 0.2, "reward": 0.4})
    assert watchdog.stale(now_s=0.0) == ("state", "reward")
    watchdog.feed("state", now_s=10.0)
    watchdog.feed("reward", now_s=10.0)
    assert watchdog.stale(now_s=10.2) == ()
    assert watchdog.stale(now_s=10.25) == ("state",)
    assert watchdog.stale(now_s=10.5) == ("state", "reward")
    watchdog.feed("state", now_s=10.5)
    assert watchdog.stale(now_s=10.5) == ("reward",)


def test_input_from_the_future_is_stale() -> None:
    watchdog = Watchdog({"state": 0.2})
    watchdog.feed("state", now_s=10.0)
    assert watchdog.stale(now_s=9.9) == ("state",)
    watchdog.feed("state", now_s=9.9)
    assert watchdog.stale(now_s=10.0) == ()
    assert watchdog.age_s("state", now_s=10.0) == pytest.approx(0.1)
