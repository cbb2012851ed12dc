# SPDX-License-Identifier: Apache-2.0
"""The diagnostics of `policy_node`: what its control loop counted, and what to make of it."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from tigr_ros import messages
from tigr_ros.control_loop import LoopStatistics
from tigr_ros.safety import Reason


@dataclass(frozen=True)
class Surroundings:
    """What the node knows besides its loop."""

    refusal: str  # why the last transition failed
    mismatches: str  # of QoS
    latched: Reason | None
    joints: tuple[str, ...]  # that were heard of last
    state: str = "unconfigured"  # of the life cycle
    robot: str = ""
    bundle: str = ""
    sha256: str = ""
    bundle_replaced: bool = False  # another file lies in its place
    listeners: int = 0  # subscriptions to the commands


def status(
    node: str, around: Surroundings, now: LoopStatistics | None, before: LoopStatistics | None
) -> DiagnosticStatus:
    """Return the status of the node of that full name; `before` is what the last one was made of."""
    values: dict[str, object] = {
        "state": around.state,
        "bundle": around.bundle,
        "bundle sha256": around.sha256,
        "latched": around.latched.value if around.latched else "",
        "joints": ", ".join(around.joints),
        "listeners": around.listeners,
    }
    if now is not None:
        values |= _values(now)
    level, message = _judge(around, now, before)
    return messages.diagnostic(node, "control", around.robot, level, message, values)


def _values(now: LoopStatistics) -> dict[str, object]:
    return {
        "safety": ", ".join(reason.value for reason in now.last) or "none",
        "joint_states age [s]": now.state_age_s,
        "reward age [s]": now.reward_age_s,
        "response p50 [ms]": 1e3 * now.response_p50_s,
        "response p99 [ms]": 1e3 * now.response_p99_s,
        "response max [ms]": 1e3 * now.response_max_s,
        "commands": now.commands,
        "missed deadlines": now.missed_deadlines,
        "skipped states": now.skipped_states,
        "unknown transitions": now.unknown_transitions,
        "episodes": now.episodes,
        "faults": now.faults,
        **{f"commands, {reason.value}": now.reasons.get(reason.value, 0) for reason in Reason},
    }


def _judge(around: Surroundings, now: LoopStatistics | None, before: LoopStatistics | None) -> tuple[bytes, str]:
    """Return level and message of the worst there is."""
    if around.mismatches:
        return DiagnosticStatus.ERROR, around.mismatches
    if around.refusal:
        return DiagnosticStatus.ERROR, around.refusal
    if around.latched:
        return DiagnosticStatus.ERROR, f"stopped until ~/rearm: {around.latched.value}{_text(now)}"
    if around.state != "active" or now is None:
        return DiagnosticStatus.OK, around.state
    if now.fault is not None:
        return DiagnosticStatus.ERROR, f"stopped: {now.fault.reason.value}{_text(now)}"
    if Reason.STALE_INPUT in now.last:
        return DiagnosticStatus.STALE, f"stopped: {Reason.STALE_INPUT.value}"
    warnings = _warnings(around, now, before)
    return (DiagnosticStatus.WARN, "; ".join(warnings)) if warnings else (DiagnosticStatus.OK, "in control")


def _text(now: LoopStatistics | None) -> str:
    return f": {now.fault.text}" if now is not None and now.fault is not None else ""


def _warnings(around: Surroundings, now: LoopStatistics, before: LoopStatistics | None) -> list[str]:
    warnings = []
    if around.bundle_replaced:
        warnings.append("the bundle file has been replaced: clean up and configure to load it")
    if not around.listeners:
        warnings.append("nobody hears the commands")
    for name in ("missed_deadlines", "skipped_states", "unknown_transitions"):
        new = getattr(now, name) - (getattr(before, name) if before else 0)
        if new > 0:
            warnings.append(f"{new} {name.replace('_', ' ')}")
    return warnings
