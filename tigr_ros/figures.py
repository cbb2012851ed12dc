# SPDX-License-Identifier: Apache-2.0
"""What the diagnostics of `sim_node` tell."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


class Figures:
    """What diagnostics tell: counts since start, speed and latency since the last report. Guarded by the caller."""

    def __init__(self) -> None:
        self.episodes = self.steps = self.diverged = self.refused = self.unpaired = 0
        self._waiting_for: int | None = None  # stamp in ns
        self._sent_at = self._reported_at = time.monotonic()
        self._reported_steps = 0
        self._latencies: list[float] = []  # s

    def published(self, stamp_ns: int) -> None:
        """Note that a state was sent."""
        self._waiting_for, self._sent_at = stamp_ns, time.monotonic()

    def answered(self, stamp_ns: int | None) -> bool:
        """Note a command; return whether it answers the last state."""
        if stamp_ns not in (None, self._waiting_for):
            self.unpaired += 1
            return False
        if stamp_ns is not None:
            self._latencies.append(self.waiting_s)
        return True

    @property
    def waiting_s(self) -> float:
        """Since when the last state has been out, s."""
        return time.monotonic() - self._sent_at

    def speed(self, control_dt: float) -> float:
        """Return simulated over real time since the last report."""
        return (self.steps - self._reported_steps) * control_dt / max(time.monotonic() - self._reported_at, 1e-9)

    def take(self, control_dt: float) -> dict[str, Any]:
        """Return the values to report, and begin the next second."""
        p50, p99 = np.percentile(self._latencies or [np.nan], [50, 99]) * 1e3
        values = {
            "real-time factor": self.speed(control_dt),
            "steps": self.steps,
            "episodes": self.episodes,
            "state to command p50 [ms]": float(p50),
            "state to command p99 [ms]": float(p99),
            "commands not answering the last state": self.unpaired,
            "commands refused": self.refused,
            "episodes ended by diverged physics": self.diverged,
        }
        self._latencies = []
        self._reported_at, self._reported_steps = time.monotonic(), self.steps
        return values
