# SPDX-License-Identifier: Apache-2.0
"""Nothing reaches the robot unchecked: limits on every command, zero effort whenever something is wrong.

Plain numbers in, plain numbers out; time is passed in, in seconds of whatever clock the caller lives by.

    effort ──► finite? ──► effort limit ──► soft start ──► rate limit ──► command
       any latch, stale or bad input ──► zero effort, at once
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from envs.spec import RobotSpec


class Reason(str, Enum):
    """Why a command is not what the policy asked for."""

    EMERGENCY_STOP = "emergency stop"  # latched
    NOT_FINITE = "not finite"  # latched
    INTERNAL_ERROR = "internal error"  # latched
    STALE_INPUT = "stale input"
    BAD_INPUT = "bad input"
    DEACTIVATED = "deactivated"
    EFFORT_LIMIT = "effort limit"
    SOFT_START = "soft start"
    RATE_LIMIT = "rate limit"


@dataclass(frozen=True)
class Fault:
    """Something that keeps the robot from being controlled, for people to read."""

    reason: Reason
    text: str


@dataclass(frozen=True)
class SafetyConfig:
    """What the robot may be asked to do.

    Raises:
        ValueError: a value out of its range.
    """

    effort_limit: float = 1.0  # (0, 1], share of each actuator's range of effort
    rate_limit: float = 0.5  # (0, 1], largest change between commands, as a share of the whole range; 1 is neutral
    soft_start_s: float = 2.0  # >= 0, time in which effort grows from nothing to what the policy asks for

    def __post_init__(self) -> None:
        for name in ("effort_limit", "rate_limit"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"found {name} {getattr(self, name)}, expected a number in (0, 1]")
        if not 0.0 <= self.soft_start_s < np.inf:
            raise ValueError(f"found soft_start_s {self.soft_start_s}, expected a finite number, 0 or more")


@dataclass(frozen=True)
class SafeCommand:
    """What is sent: effort [A], N m, and why it differs from what was asked; `stopped` if it is the safe command."""

    effort: np.ndarray
    reasons: tuple[Reason, ...] = ()
    stopped: bool = False


class SafetyLayer:
    """Filters efforts [A]. After every safe command the soft start begins anew, and latches wait for `rearm`.

    Args:
        robot: whose ranges of effort hold.
        config: what part of them may be used.
        latched: a latch from before, which only `rearm` clears.
    """

    def __init__(self, robot: RobotSpec, config: SafetyConfig, latched: Reason | None = None) -> None:
        self.config = config
        ends = np.stack([robot.action_to_effort(np.full(robot.action_dim, end)) for end in (-1.0, 1.0)])
        self._low, self._high = ends.min(axis=0), ends.max(axis=0)  # a negative gear turns the ends round
        self._zero = np.zeros(robot.action_dim)
        self._latch = latched
        self._last = self._zero
        self._started_s: float | None = None

    @property
    def latched(self) -> Reason | None:
        """Why the robot stays stopped until `rearm`."""
        return self._latch

    def latch(self, reason: Reason) -> None:
        """Stop until `rearm`. The first reason stays."""
        self._latch = self._latch or reason

    def rearm(self) -> None:
        """Clear the latch."""
        self._latch = None
        self.restart()

    def restart(self) -> None:
        """Let effort grow from nothing again."""
        self._last, self._started_s = self._zero, None

    def stop(self, reason: Reason) -> SafeCommand:
        """Return the safe command: zero effort, whatever the rate limit says."""
        self.restart()
        return SafeCommand(self._zero, (self._latch or reason,), stopped=True)

    def filter(self, effort: np.ndarray, now_s: float) -> SafeCommand:
        """Return what may be sent of `effort` [A]; one that is not finite is latched."""
        if not np.isfinite(effort).all():
            self.latch(Reason.NOT_FINITE)
        if self._latch:
            return self.stop(self._latch)
        safe, reasons = effort, []
        for reason, limited in (
            (Reason.EFFORT_LIMIT, self._within_limits),
            (Reason.SOFT_START, lambda wanted: wanted * self._strength(now_s)),
            (Reason.RATE_LIMIT, self._within_rate),
        ):
            wanted, safe = safe, limited(safe)
            if not np.array_equal(wanted, safe):
                reasons.append(reason)
        self._last = safe
        return SafeCommand(safe, tuple(reasons))

    def _within_limits(self, effort: np.ndarray) -> np.ndarray:
        return np.clip(effort, self.config.effort_limit * self._low, self.config.effort_limit * self._high)

    def _within_rate(self, effort: np.ndarray) -> np.ndarray:
        if self.config.rate_limit == 1.0:  # rounding must not touch what is allowed as it is
            return effort
        largest = self.config.rate_limit * (self._high - self._low)
        return np.clip(effort, self._last - largest, self._last + largest)

    def _strength(self, now_s: float) -> float:
        """Return the share of effort that the soft start allows, in [0, 1]."""
        if self._started_s is None or now_s < self._started_s:  # a clock that jumped back starts softly, too
            self._started_s = now_s
        elapsed = now_s - self._started_s
        return 1.0 if elapsed >= self.config.soft_start_s else elapsed / self.config.soft_start_s


class Watchdog:
    """Tells which inputs are too old. Fail-safe: what never came is stale, and so is what came in the future.

    Args:
        limits_s: greatest age of each input; input that may stay away is left out.
    """

    def __init__(self, limits_s: Mapping[str, float]) -> None:
        self._limits_s = dict(limits_s)
        self._fed_s: dict[str, float] = {}

    def feed(self, name: str, now_s: float) -> None:
        """Take note that input came."""
        self._fed_s[name] = now_s

    def age_s(self, name: str, now_s: float) -> float:
        """Return the age of an input, infinite if it never came or the clock has jumped back since."""
        age = now_s - self._fed_s.get(name, -np.inf)
        return age if age >= 0.0 else np.inf

    def stale(self, now_s: float) -> tuple[str, ...]:
        """Return the names of the inputs that are too old."""
        return tuple(name for name, limit in self._limits_s.items() if self.age_s(name, now_s) > limit)
