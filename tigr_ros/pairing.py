# SPDX-License-Identifier: Apache-2.0
"""Which reward belongs to which state: two topics put back together into transitions.

The publisher sends the reward of a transition before the state it led to; the first state of an episode has none. DDS
keeps the order within a topic, not between topics. A stamp that goes back starts a new episode; in lock-step also one
that stands still, unless the very same state is sent again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from tigr_ros.safety import Fault

REWARD_WAIT = 0.2  # of the control period, as long as rewards come at all
EARLY = 0.25  # of the control period, by which a state may come before its time: stamps jitter


@dataclass(frozen=True)
class State:
    """One joint state in the order of the robot's joints."""

    positions: np.ndarray  # [J], m or rad
    velocities: np.ndarray  # [J], m/s or rad/s
    stamp_ns: int
    received_s: float  # steady clock
    fault: Fault | None = None  # why it cannot be used


@dataclass(frozen=True)
class Input:
    """What one control step works on."""

    state: State
    reward: float | None  # of the transition that led here; None: that transition is not known
    new_episode: bool = False
    repeated: bool = False  # the state was given out before: the same answer will do


class Pairing(Protocol):
    """Collects states and rewards, and gives out inputs. For one thread at a time."""

    skipped: int  # states that were due and overtaken before they were taken

    @property
    def waiting(self) -> bool:
        """Whether a state is at hand."""

    def restart(self) -> None:
        """Begin anew after a pause."""

    def interrupt(self) -> None:
        """Forget what leads from the last state to the next: the transition between them is not known."""

    def add_state(self, state: State) -> bool:
        """Take in a joint state; tell whether it will be given out, unless another overtakes it."""

    def add_reward(self, reward: float) -> None:
        """Take in a reward."""

    def take(self, now_s: float, *, await_reward: bool) -> Input | None:
        """Return the next input as soon as it is complete, or is not to be waited for any longer."""

    def patience_s(self, now_s: float) -> float:
        """Return for how much longer the state at hand may wait for its reward, s; infinite where none has to hurry."""


class LockStepPairing:
    """Nothing is lost and one command is outstanding: rewards pair with states in their order."""

    def __init__(self) -> None:
        self.skipped = 0
        self._waiting: deque[Input] = deque()
        self._rewards: deque[float] = deque()
        self._last: State | None = None
        self._unbroken = False

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def restart(self) -> None:
        """Begin anew with the state that came last: the simulator still waits for its answer."""
        while len(self._waiting) > 1:
            self._pop()
        self.interrupt()

    def interrupt(self) -> None:
        self._unbroken = False

    def add_state(self, state: State) -> bool:
        last, self._last = self._last, state
        if last is not None and _same(last, state):
            if not self._waiting:
                self._waiting.append(Input(state, None, repeated=True))
            return True
        first = last is None or state.stamp_ns <= last.stamp_ns
        if first:
            self._waiting.clear()
            self._rewards.clear()
        self._waiting.append(Input(state, None, new_episode=first))
        return True

    def add_reward(self, reward: float) -> None:
        self._rewards.append(reward)

    def take(self, now_s: float, *, await_reward: bool) -> Input | None:
        if not self._waiting:
            return None
        owed = not (self._waiting[0].new_episode or self._waiting[0].repeated)
        if owed and not self._rewards:
            return None
        given = self._pop()
        if not self._unbroken:
            given = Input(given.state, None, given.new_episode)
        self._unbroken = True
        return given

    def patience_s(self, now_s: float) -> float:
        return np.inf

    def _pop(self) -> Input:
        given = self._waiting.popleft()
        if given.new_episode or given.repeated or not self._rewards:
            return given
        return replace(given, reward=self._rewards.popleft())


class RealTimePairing:
    """States come as fast as the robot sends them; one per control period is used, by its stamp.

    The reward is the last that came since the state before; it is waited for a fraction of the period.
    """

    def __init__(self, control_dt: float) -> None:
        self.skipped = 0
        self._period_ns = round(control_dt * 1e9)
        self._reward_wait_s = REWARD_WAIT * control_dt
        self._waiting: State | None = None
        self._reward: float | None = None
        self._unbroken = False
        self._taken_ns: int | None = None
        self._accepted_ns: int | None = None
        self._due_ns = 0

    @property
    def waiting(self) -> bool:
        return self._waiting is not None

    def restart(self) -> None:
        """Begin anew with the next state."""
        self._waiting = None
        self.interrupt()

    def interrupt(self) -> None:
        self._reward, self._unbroken = None, False

    def add_state(self, state: State) -> bool:
        if not self._is_due(state.stamp_ns):
            return False
        if self._waiting is not None:
            self.skipped += 1
            self._unbroken = False
        self._waiting = state
        return True

    def add_reward(self, reward: float) -> None:
        self._reward = reward

    def take(self, now_s: float, *, await_reward: bool) -> Input | None:
        state = self._waiting
        if state is None:
            return None
        first = self._taken_ns is None or state.stamp_ns < self._taken_ns
        if first:
            self.interrupt()
        if self._unbroken and self._reward is None and await_reward and self.patience_s(now_s) > 0.0:
            return None
        given = Input(state, self._reward if self._unbroken else None, first)
        self._waiting, self._reward, self._unbroken, self._taken_ns = None, None, True, state.stamp_ns
        return given

    def patience_s(self, now_s: float) -> float:
        if self._waiting is None:
            return np.inf
        return max(0.0, self._waiting.received_s + self._reward_wait_s - now_s)

    def _is_due(self, stamp_ns: int) -> bool:
        """Tell whether a control period has passed; periods stay on a grid unless a whole one was missed."""
        earliest = self._due_ns - EARLY * self._period_ns
        if self._accepted_ns is not None and self._accepted_ns <= stamp_ns < earliest:
            return False
        on_grid = self._accepted_ns is not None and earliest <= stamp_ns < self._due_ns + self._period_ns
        self._due_ns = (self._due_ns if on_grid else stamp_ns) + self._period_ns
        self._accepted_ns = stamp_ns
        return True


def _same(one: State, other: State) -> bool:
    return (
        one.stamp_ns == other.stamp_ns
        and np.array_equal(one.positions, other.positions)
        and np.array_equal(one.velocities, other.velocities)
    )
