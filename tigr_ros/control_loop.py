# SPDX-License-Identifier: Apache-2.0
"""The control loop: a thread of its own that answers every input in time, or sees that the robot stops.

add_state, add_reward ──► pairing ──► control step ──► send     (answer, or safe command)
                             │
                             └─ nothing came for too long ──► send (safe command, once per period)
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tigr_core.controller import TaskEstimate
from tigr_ros.control_step import ControlStep
from tigr_ros.pairing import Input, LockStepPairing, Pairing, RealTimePairing, State
from tigr_ros.safety import Fault, Reason, SafeCommand, Watchdog

STATE, REWARD = "joint_states", "reward"
DEAD_AFTER_S = 1.0  # on the steady clock: a simulator that dies takes its clock with it

_COUNTED = ("commands", "missed_deadlines", "unknown_transitions", "episodes", "faults")

Clock = Callable[[], float]


@dataclass(frozen=True)
class LoopConfig:
    """How inputs are treated."""

    lock_step: bool = False  # one command for each state, however long the next one takes
    stale_after_periods: float = 2.0  # greatest age of an input, in control periods
    reward_required: bool = True  # without rewards: safe commands; if not required: the task estimate stands still


@dataclass(frozen=True)
class LoopStatistics:
    """What the loop did since it was made; times in s."""

    commands: int
    missed_deadlines: int  # answers later than one control period after their state came
    skipped_states: int  # states that were due and overtaken before they were answered
    unknown_transitions: int  # answered states whose transition did not enter the context
    episodes: int  # that began: the first state, and whenever stamps went back
    faults: int
    fault: Fault | None  # the last one, until an answer goes out again
    reasons: dict[str, int]  # of commands that differ from what the policy asked for
    last: tuple[Reason, ...]  # of the last command
    state_age_s: float
    reward_age_s: float
    response_p50_s: float  # state in to command out
    response_p99_s: float
    response_max_s: float


class ControlLoop:
    """Runs a control step in its own thread; every method may be called from any other.

    Args:
        step: what answers.
        config: see there.
        send: publishes a command; gets the stamp of the state it answers, ns, or None.
        report: gets the task estimate behind an answer, after it, and the stamp.
        ready: tells in lock-step whether a command would be heard.
        clock: s; ages of inputs and the soft start are reckoned by it. May be simulated time, may jump.
        steady: s, the clock of `State.received_s`.
    """

    def __init__(
        self,
        step: ControlStep,
        config: LoopConfig,
        *,
        send: Callable[[SafeCommand, int | None], None],
        report: Callable[[TaskEstimate, int], None],
        ready: Callable[[], bool] = lambda: True,
        clock: Clock = time.monotonic,
        steady: Clock = time.monotonic,
    ) -> None:
        self._step, self._config = step, config
        self._send, self._report, self._ready = send, report, ready
        self._clock, self._steady = clock, steady
        self._control_dt = step.robot.control_dt
        self._pairing: Pairing = LockStepPairing() if config.lock_step else RealTimePairing(self._control_dt)
        limit_s = config.stale_after_periods * self._control_dt
        watched = [STATE, REWARD] if config.reward_required else [STATE]
        self._watchdog = Watchdog(dict.fromkeys(watched, limit_s))
        self._death_watch = Watchdog(dict.fromkeys(watched, max(limit_s, DEAD_AFTER_S)))
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._running = False
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._last_command = step.stop(Reason.DEACTIVATED)
        self._fault: Fault | None = None
        self._answered_ns: int | None = None  # stamp of the state that was answered last
        self._foreign: deque[tuple[int | None, np.ndarray]] = deque(maxlen=4)
        self._responses_s: deque[float] = deque(maxlen=1000)

    def start(self) -> None:
        """Start with an empty context."""
        with self._changed:
            self._step.reset()
            self._step.safety.restart()
            self._pairing.restart()
            self._feed(REWARD)  # the first one is owed only after the first command
            self._running = True
        self._thread = threading.Thread(target=self._run, name="control loop", daemon=True)
        self._thread.start()

    def stop(self, reason: Reason) -> None:
        """Stop the thread, then send the safe command; nothing is sent after it."""
        if self._thread is None:
            return
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join()
        self._thread = None
        self._dispatch(self._step.stop(reason), None)

    def add_state(self, state: State) -> None:
        """Take a joint state."""
        with self._changed:
            if not (self._running or self._config.lock_step):  # in lock-step it waits for its answer
                return
            if self._pairing.add_state(state):  # otherwise none is due; stamps that stand still end in a stop
                self._feed(STATE)
                self._changed.notify()

    def add_reward(self, reward: float) -> None:
        """Take the reward of a transition."""
        with self._changed:
            self._pairing.add_reward(reward)
            self._feed(REWARD)
            if self._pairing.waiting:  # otherwise there is nothing to wake the thread for
                self._changed.notify()

    def add_foreign_effort(self, effort: np.ndarray, answers_ns: int | None) -> None:
        """Take the effort [A] that somebody else commands, and the stamp of the state it answers if it says so."""
        with self._changed:
            self._foreign.append((answers_ns, effort))

    @property
    def running(self) -> bool:
        """Whether commands are being sent."""
        return self._running

    @property
    def latched(self) -> Reason | None:
        """Why the robot stays stopped until `rearm`."""
        return self._step.safety.latched

    def emergency_stop(self) -> None:
        """Stop the robot until `rearm`: no other effort than zero is sent once this has returned."""
        with self._changed:
            self._step.safety.latch(Reason.EMERGENCY_STOP)
            if not self._config.lock_step:  # there the next state is answered so
                self._stop_robot(Reason.EMERGENCY_STOP)

    def rearm(self) -> None:
        """Clear what is latched and start with an empty context."""
        with self._changed:
            self._step.safety.rearm()
            self._fault = None
            self._reset()

    def reset_context(self) -> None:
        """Forget what has been seen of the task."""
        with self._changed:
            self._reset()

    @property
    def statistics(self) -> LoopStatistics:
        """What happened so far."""
        with self._changed:
            response = np.array(self._responses_s or [np.nan])
            p50, p99 = np.percentile(response, [50, 99]).tolist()
            now_s = self._clock()
            return LoopStatistics(
                **{name: self._counts[name] for name in _COUNTED},
                skipped_states=self._pairing.skipped,
                fault=self._fault,
                reasons=dict(self._reasons),
                last=self._last_command.reasons,
                state_age_s=self._watchdog.age_s(STATE, now_s),
                reward_age_s=self._watchdog.age_s(REWARD, now_s),
                response_p50_s=p50,
                response_p99_s=p99,
                response_max_s=float(response.max()),
            )

    def _run(self) -> None:
        while self._running:
            with self._changed:
                try:
                    self._tick(self._wait())
                except Exception:  # whatever it is, the robot has to stop, and somebody has to read it
                    self._note(Fault(Reason.INTERNAL_ERROR, traceback.format_exc()))
                    self._step.safety.latch(Reason.INTERNAL_ERROR)
                    self._stop_robot(Reason.INTERNAL_ERROR)
                    self._changed.wait(self._control_dt)

    def _wait(self) -> Input | None:
        """Return the next input, or None after a control period without."""
        end_s = self._steady() + self._control_dt
        while self._running:
            now_s = self._steady()
            heard = not self._config.lock_step or self._ready()
            given = self._pairing.take(now_s, await_reward=not self._is_stale()) if heard else None
            if given is not None:
                return given
            remaining_s = min(end_s - now_s, self._pairing.patience_s(now_s))
            if remaining_s <= 0.0 or not self._changed.wait(remaining_s):
                return None
        return None

    def _tick(self, given: Input | None) -> None:
        """Send what is due."""
        if not self._running:
            return
        if self._is_stale():
            self._stop_robot(Reason.STALE_INPUT)
        elif given is not None:
            self._answer(given)

    def _answer(self, given: Input) -> None:
        state = given.state
        if given.repeated and not self._step.safety.latched:
            self._send(self._last_command, state.stamp_ns)
            return
        if state.fault is not None:
            self._note(state.fault)
        now_s = state.stamp_ns * 1e-9 if self._config.lock_step else self._clock()
        command = self._step.answer(given, now_s, self._foreign_effort())
        self._dispatch(command, state.stamp_ns)
        self._answered_ns = state.stamp_ns
        self._account(given)
        if not command.stopped:
            self._fault = None
            self._report(self._step.estimate, state.stamp_ns)

    def _account(self, given: Input) -> None:
        """Count an answer that has just gone out."""
        response_s = self._steady() - given.state.received_s
        self._responses_s.append(response_s)
        self._counts["missed_deadlines"] += response_s > self._control_dt
        self._counts["episodes"] += given.new_episode
        self._counts["unknown_transitions"] += given.reward is None

    def _foreign_effort(self) -> np.ndarray | None:
        """Return what somebody else answered to the last state; the command for the present one may be here, too."""
        fitting = [effort for answers_ns, effort in self._foreign if answers_ns in (None, self._answered_ns)]
        return fitting[-1] if fitting else None

    def _note(self, fault: Fault) -> None:
        self._fault = fault
        self._counts["faults"] += 1

    def _stop_robot(self, reason: Reason) -> None:
        """Send the safe command, if commands are being sent at all."""
        self._pairing.interrupt()
        command = self._step.stop(reason)
        if self._running:
            self._dispatch(command, None)

    def _dispatch(self, command: SafeCommand, stamp_ns: int | None) -> None:
        self._send(command, stamp_ns)
        self._last_command = command
        self._counts["commands"] += 1
        self._reasons.update(reason.value for reason in command.reasons)

    def _reset(self) -> None:
        self._step.reset()
        self._pairing.interrupt()

    def _feed(self, name: str) -> None:
        self._watchdog.feed(name, self._clock())
        self._death_watch.feed(name, self._steady())

    def _is_stale(self) -> bool:
        """Tell whether an input is too old. In lock-step nothing is: the simulator waits for the answer by itself."""
        if self._config.lock_step:
            return False
        return bool(self._watchdog.stale(self._clock()) or self._death_watch.stale(self._steady()))
