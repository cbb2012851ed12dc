# SPDX-License-Identifier: Apache-2.0
"""The control step and the loop around it, without topics: clocks are moved by hand, messages are method calls."""

from __future__ import annotations

import copy
import queue
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from bundles import tiny_bundle

import envs
from tigr_core.bundle import Bundle
from tigr_core.controller import Controller, TaskEstimate
from tigr_ros.control_loop import DEAD_AFTER_S, ControlLoop, LoopConfig
from tigr_ros.control_step import ControlStep
from tigr_ros.pairing import Input, State
from tigr_ros.safety import Fault, Reason, SafeCommand, SafetyConfig, SafetyLayer

ENV_ID = "tigr/PointRobotAxes-v0"
NEUTRAL = SafetyConfig(effort_limit=1.0, rate_limit=1.0, soft_start_s=0.0)
LIMIT_S = 20.0


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return tiny_bundle(ENV_ID)


def control_step(bundle: Bundle, config: SafetyConfig = NEUTRAL, *, shadow: bool = False) -> ControlStep:
    return ControlStep(bundle, SafetyLayer(bundle.robot, config), shadow=shadow)


def state(place: float, *, stamp_ms: float = 0.0, received_s: float = 0.0, fault: Fault | None = None) -> State:
    return State(np.array([place, -place]), np.array([0.1, 0.2]), round(stamp_ms * 1e6), received_s, fault)


def obs_of(bundle: Bundle, place: float) -> np.ndarray:
    return bundle.robot.observe(state(place).positions, state(place).velocities)[None]


# ---- the step ----


def test_steps_act_and_infer_as_the_controller_does(bundle: Bundle) -> None:
    step, controller = control_step(bundle), Controller(bundle.model)
    action = controller.act(obs_of(bundle, 0.1))
    first = step.answer(Input(state(0.1), None), now_s=0.0)
    assert np.array_equal(first.effort, bundle.robot.action_to_effort(action)[0])
    controller.observe(action, np.array([-0.5]), obs_of(bundle, 0.2))
    action = controller.act(obs_of(bundle, 0.2))
    second = step.answer(Input(state(0.2), -0.5), now_s=0.0)
    assert np.array_equal(second.effort, bundle.robot.action_to_effort(action)[0])
    assert np.array_equal(step.estimate.latent, controller.estimate.latent)


def test_the_context_knows_the_action_that_was_really_sent(bundle: Bundle) -> None:
    limited = SafetyConfig(effort_limit=0.01, rate_limit=1.0, soft_start_s=0.0)
    step, controller = control_step(bundle, limited), Controller(bundle.model)
    wanted = controller.act(obs_of(bundle, 0.1))[0]
    command = step.answer(Input(state(0.1), None), now_s=0.0)
    assert command.reasons == (Reason.EFFORT_LIMIT,)
    step.answer(Input(state(0.2), -0.5), now_s=0.0)
    sent = np.clip(wanted, -0.01, 0.01)
    assert not np.allclose(sent, wanted)
    controller.observe(sent[None], np.array([-0.5]), obs_of(bundle, 0.2))
    np.testing.assert_allclose(step.estimate.latent, controller.estimate.latent, rtol=1e-5)


def test_an_unknown_transition_does_not_enter_the_context(bundle: Bundle) -> None:
    step = control_step(bundle)
    empty = step.estimate.latent.copy()
    step.answer(Input(state(0.1), None), now_s=0.0)
    step.answer(Input(state(0.2), None), now_s=0.0)
    assert np.array_equal(step.estimate.latent, empty)
    step.stop(Reason.STALE_INPUT)
    step.answer(Input(state(0.3), -1.0), now_s=0.0)
    assert np.array_equal(step.estimate.latent, empty), "zero effort was sent on the way, not the action"
    step.answer(Input(state(0.4), -1.0), now_s=0.0)
    assert not np.array_equal(step.estimate.latent, empty)
    step.answer(Input(state(0.4), None, new_episode=True), now_s=0.0)
    assert np.array_equal(step.estimate.latent, empty)


@pytest.mark.parametrize(
    "given",
    [
        Input(state(np.nan), None),
        Input(state(np.inf), None),
        Input(state(1e39), None),  # too large for float32
        Input(state(0.1), np.nan),
        Input(state(0.1), -np.inf),
        Input(state(0.1), 1e39),
        Input(state(0.1, fault=Fault(Reason.NOT_FINITE, "position nan of 'x'")), None),
    ],
)
def test_input_that_is_not_finite_is_latched(bundle: Bundle, given: Input) -> None:
    step = control_step(bundle)
    step.answer(Input(state(0.1), None), now_s=0.0)
    command = step.answer(given, now_s=0.0)
    assert command.effort.tolist() == [0.0, 0.0] and command.reasons == (Reason.NOT_FINITE,)
    assert step.answer(Input(state(0.1), -1.0), now_s=0.0).stopped
    step.safety.rearm()
    step.reset()
    assert not step.answer(Input(state(0.1), -1.0), now_s=0.0).stopped
    assert np.isfinite(step.estimate.latent).all()


def test_an_action_that_is_not_finite_is_latched(bundle: Bundle) -> None:
    broken = copy.deepcopy(bundle)
    next(broken.model.actor.parameters())[0, 0] = torch.nan
    step = control_step(broken)
    assert step.answer(Input(state(0.1), None), now_s=0.0).reasons == (Reason.NOT_FINITE,)
    assert step.safety.latched is Reason.NOT_FINITE


def test_a_bad_state_stops_the_robot_for_as_long_as_it_lasts(bundle: Bundle) -> None:
    step = control_step(bundle)
    bad = state(np.nan, fault=Fault(Reason.BAD_INPUT, "no joint 'x'"))
    assert step.answer(Input(bad, None), now_s=0.0).reasons == (Reason.BAD_INPUT,)
    assert not step.answer(Input(state(0.1), None), now_s=0.0).stopped


def test_a_shadow_infers_from_what_others_command(bundle: Bundle) -> None:
    step, controller = control_step(bundle, shadow=True), Controller(bundle.model)
    foreign = np.array([0.02, -0.01])
    empty = step.estimate.latent.copy()
    step.answer(Input(state(0.1), None), now_s=0.0)
    step.answer(Input(state(0.2), -0.5), now_s=0.0)
    assert np.array_equal(step.estimate.latent, empty), "what moved the robot is not known"
    step.answer(Input(state(0.3), -0.5), now_s=0.0, foreign_effort=foreign)
    controller.act(obs_of(bundle, 0.2))
    action = bundle.robot.ctrl_to_action(bundle.robot.effort_to_ctrl(foreign))
    controller.observe(action[None], np.array([-0.5]), obs_of(bundle, 0.3))
    assert np.array_equal(step.estimate.latent, controller.estimate.latent)


# ---- the loop ----


@dataclass
class Bench:
    """A loop whose clocks stand still until they are moved."""

    step: ControlStep
    config: LoopConfig = field(default_factory=LoopConfig)
    now_s: float = 50.0
    steady_s: float = 1000.0
    sent: queue.Queue[tuple[SafeCommand, int | None]] = field(default_factory=queue.Queue)
    reported: queue.Queue[tuple[TaskEstimate, int]] = field(default_factory=queue.Queue)
    heard: bool = True

    def __post_init__(self) -> None:
        self.loop = ControlLoop(
            self.step,
            self.config,
            send=lambda command, stamp_ns: self.sent.put((command, stamp_ns)),
            report=lambda estimate, stamp_ns: self.reported.put((estimate, stamp_ns)),
            ready=lambda: self.heard,
            clock=lambda: self.now_s,
            steady=lambda: self.steady_s,
        )

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.steady_s += seconds

    def feed(self, place: float, stamp_ms: float, reward: float | None = -1.0) -> None:
        if reward is not None:
            self.loop.add_reward(reward)
        self.loop.add_state(state(place, stamp_ms=stamp_ms, received_s=self.steady_s))

    def next(self, reason: Reason | None = None) -> SafeCommand:
        """The next command; with a reason, the next that has it."""
        while True:
            command, _ = self.sent.get(timeout=LIMIT_S)
            if reason is None or reason in command.reasons:
                return command

    def answer_to(self, stamp_ms: float) -> SafeCommand:
        """The answer to the state of a stamp."""
        while True:
            command, stamp_ns = self.sent.get(timeout=LIMIT_S)
            if stamp_ns == round(stamp_ms * 1e6):
                return command


@pytest.fixture
def bench(bundle: Bundle) -> Iterator[Bench]:
    bench = Bench(control_step(bundle))
    yield bench
    bench.loop.stop(Reason.DEACTIVATED)


@pytest.fixture
def lock_step_bench(bundle: Bundle) -> Iterator[Bench]:
    bench = Bench(control_step(bundle), LoopConfig(lock_step=True))
    yield bench
    bench.loop.stop(Reason.DEACTIVATED)


def dt_of(bench: Bench) -> float:
    return bench.step.robot.control_dt


def start(bench: Bench) -> None:
    """Start, and answer a first state."""
    bench.loop.start()
    bench.feed(0.1, stamp_ms=1000)
    assert not bench.answer_to(1000).stopped


def test_before_any_state_the_robot_is_told_to_stand_still(bench: Bench) -> None:
    bench.loop.start()
    for _ in range(3):
        command = bench.next()
        assert command.effort.tolist() == [0.0, 0.0] and command.reasons == (Reason.STALE_INPUT,)
    assert bench.reported.empty()


def test_states_that_stop_are_answered_by_zero_effort_after_two_periods(bench: Bench) -> None:
    start(bench)
    bench.advance(2.5 * dt_of(bench))
    assert bench.next(Reason.STALE_INPUT).effort.tolist() == [0.0, 0.0]
    bench.feed(0.2, stamp_ms=1250)
    assert not bench.answer_to(1250).stopped
    assert bench.loop.statistics.unknown_transitions == 2, "the first one, and the one across the gap"


def test_stamps_that_stand_still_are_as_bad_as_no_states(bench: Bench) -> None:
    start(bench)
    bench.advance(1.5 * dt_of(bench))
    bench.feed(0.2, stamp_ms=1000)
    bench.advance(1.0 * dt_of(bench))
    bench.feed(0.3, stamp_ms=1000)
    assert bench.next(Reason.STALE_INPUT).stopped


def test_rewards_that_stop_are_answered_by_zero_effort_after_two_periods(bench: Bench) -> None:
    start(bench)
    bench.advance(dt_of(bench))
    bench.feed(0.2, stamp_ms=1100, reward=None)
    bench.advance(0.5 * dt_of(bench))  # no waiting for the reward any longer
    assert not bench.answer_to(1100).stopped
    bench.advance(dt_of(bench))
    bench.feed(0.3, stamp_ms=1250, reward=None)
    assert bench.next(Reason.STALE_INPUT).effort.tolist() == [0.0, 0.0]
    bench.feed(0.3, stamp_ms=1350)
    assert not bench.answer_to(1350).stopped


def test_rewards_may_stop_where_they_are_not_required(bundle: Bundle) -> None:
    bench = Bench(control_step(bundle), LoopConfig(reward_required=False))
    start(bench)
    empty = bench.step.estimate.latent.copy()
    for stamp_ms in (1100, 1200, 1300, 1400):
        bench.advance(dt_of(bench))
        bench.feed(0.2, stamp_ms=stamp_ms, reward=None)
        bench.advance(0.5 * dt_of(bench))  # no waiting for the reward any longer
        assert not bench.answer_to(stamp_ms).stopped
    bench.loop.stop(Reason.DEACTIVATED)
    assert np.array_equal(bench.step.estimate.latent, empty)


def test_simulated_time_that_stands_still_does_not_keep_the_robot_moving(bench: Bench) -> None:
    start(bench)
    bench.steady_s += 0.9 * DEAD_AFTER_S
    bench.feed(0.2, stamp_ms=1100)
    assert not bench.answer_to(1100).stopped
    bench.steady_s += 1.1 * DEAD_AFTER_S
    assert bench.next(Reason.STALE_INPUT).stopped


def test_a_clock_that_jumps_back_makes_input_stale_and_stamps_that_do_empty_the_context(bench: Bench) -> None:
    start(bench)
    bench.feed(0.2, stamp_ms=1100)
    bench.answer_to(1100)
    bench.reported.get(timeout=LIMIT_S), bench.reported.get(timeout=LIMIT_S)
    bench.now_s -= 40.0
    assert bench.next(Reason.STALE_INPUT).stopped
    bench.feed(0.1, stamp_ms=50)
    assert not bench.answer_to(50).stopped
    estimate, _ = bench.reported.get(timeout=LIMIT_S)
    bench.step.reset()
    assert np.array_equal(estimate.latent, bench.step.estimate.latent)
    assert bench.loop.statistics.episodes == 2


def test_after_an_emergency_stop_nothing_but_zero_is_sent_until_rearmed(bench: Bench) -> None:
    start(bench)
    bench.loop.emergency_stop()
    assert bench.next().reasons == (Reason.EMERGENCY_STOP,)
    bench.feed(0.2, stamp_ms=1100)
    assert bench.answer_to(1100).reasons == (Reason.EMERGENCY_STOP,)
    bench.loop.rearm()
    bench.feed(0.2, stamp_ms=1200)
    assert not bench.answer_to(1200).stopped


def test_stopping_the_loop_sends_zero_effort_last(bench: Bench) -> None:
    start(bench)
    bench.loop.stop(Reason.DEACTIVATED)
    sent = [command for command, _ in list(bench.sent.queue)]
    assert sent[-1].reasons == (Reason.DEACTIVATED,) and sent[-1].effort.tolist() == [0.0, 0.0]
    bench.feed(0.2, stamp_ms=1100)
    bench.loop.emergency_stop()
    bench.loop.stop(Reason.DEACTIVATED)
    assert bench.sent.qsize() == len(sent)


def test_an_error_inside_stops_the_robot_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    start(bench)
    monkeypatch.setattr(bench.step.robot.__class__, "action_to_effort", lambda self, action: 1 / 0)
    bench.feed(0.2, stamp_ms=1100)
    assert bench.next(Reason.INTERNAL_ERROR).stopped
    fault = bench.loop.statistics.fault
    assert fault is not None and "ZeroDivisionError" in fault.text


def test_an_error_of_a_listener_stops_the_robot_too(bundle: Bundle) -> None:
    def broken(estimate: TaskEstimate, stamp_ns: int) -> None:
        raise RuntimeError("nobody can be told")

    bench = Bench(control_step(bundle))
    bench.loop._report = broken
    start(bench)
    assert bench.next(Reason.INTERNAL_ERROR).stopped
    bench.feed(0.2, stamp_ms=1100)
    assert bench.answer_to(1100).reasons == (Reason.INTERNAL_ERROR,)
    bench.loop.stop(Reason.DEACTIVATED)


def test_forgetting_the_context_does_not_stop_the_robot(bundle: Bundle) -> None:
    soft = SafetyConfig(effort_limit=1.0, rate_limit=1.0, soft_start_s=10.0)
    bench = Bench(control_step(bundle, soft))
    bench.loop.start()
    bench.feed(0.1, stamp_ms=1000)
    assert not bench.answer_to(1000).effort.any(), "the soft start begins at nothing"
    bench.advance(0.5 * dt_of(bench))
    bench.loop.reset_context()
    bench.feed(0.1, stamp_ms=1100)
    assert bench.answer_to(1100).effort.all()
    bench.loop.stop(Reason.DEACTIVATED)


def test_late_answers_and_overtaken_states_are_counted(bench: Bench) -> None:
    bench.loop.start()
    bench.loop.add_state(state(0.1, stamp_ms=1000, received_s=bench.steady_s - 0.03))
    bench.answer_to(1000)
    bench.loop.add_reward(-1.0)
    bench.loop.add_state(state(0.1, stamp_ms=1100, received_s=bench.steady_s - 1.5 * dt_of(bench)))
    bench.answer_to(1100)
    statistics = bench.loop.statistics
    assert statistics.missed_deadlines == 1
    assert statistics.response_max_s == pytest.approx(1.5 * dt_of(bench))
    assert statistics.response_p50_s == pytest.approx((0.03 + 1.5 * dt_of(bench)) / 2)


def test_lock_step_answers_each_state_once_and_knows_no_haste(lock_step_bench: Bench) -> None:
    bench = lock_step_bench
    bench.loop.start()
    bench.feed(0.1, stamp_ms=100, reward=None)
    first = bench.answer_to(100)
    bench.advance(1e6)
    bench.feed(0.2, stamp_ms=200)
    second = bench.answer_to(200)
    assert not first.stopped and not second.stopped and bench.sent.empty()
    bench.loop.add_state(state(0.2, stamp_ms=200))
    assert np.array_equal(bench.answer_to(200).effort, second.effort), "the same state again, the same answer"
    bench.loop.emergency_stop()
    bench.loop.add_state(state(0.2, stamp_ms=200))
    assert bench.answer_to(200).reasons == (Reason.EMERGENCY_STOP,)


def test_lock_step_holds_the_answer_until_it_is_heard(lock_step_bench: Bench) -> None:
    bench = lock_step_bench
    bench.heard = False
    bench.feed(0.1, stamp_ms=100, reward=None)  # waits since before the start
    bench.loop.start()
    with pytest.raises(queue.Empty):
        bench.sent.get(timeout=3 * dt_of(bench))
    bench.heard = True
    assert not bench.answer_to(100).stopped


def test_the_loop_gives_the_rollout_of_the_environment(lock_step_bench: Bench, bundle: Bundle) -> None:
    """The same steps as in one process, to the last bit."""
    bench, env, controller = lock_step_bench, envs.make_vector(ENV_ID), Controller(bundle.model)
    robot = env.spec_robot
    obs, _ = env.reset(seed=5)
    bench.loop.start()
    stamp_ms = 100.0
    reward: np.ndarray | None = None
    for _ in range(20):
        if reward is not None:
            bench.loop.add_reward(float(reward[0]))
        bench.loop.add_state(
            State(env.joint_positions[0], env.joint_velocities[0], round(stamp_ms * 1e6), bench.steady_s)
        )
        action = controller.act(obs)
        assert np.array_equal(bench.answer_to(stamp_ms).effort, robot.action_to_effort(action.astype(np.float64))[0])
        estimate, _ = bench.reported.get(timeout=LIMIT_S)
        assert np.array_equal(estimate.latent, controller.estimate.latent)
        obs, reward, *_ = env.step(action)
        controller.observe(action, reward, obs)
        stamp_ms += 100.0
    env.close()
