# SPDX-License-Identifier: Apache-2.0
"""A policy node in a process of its own, and a robot that the test plays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State as LifecycleState
from lifecycle_msgs.srv import ChangeState, GetState
from ros_graph import Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import Trigger

from envs.spec import RobotSpec
from tigr_ros import messages, qos

TRANSITIONS = {"configure": 1, "cleanup": 2, "activate": 3, "deactivate": 4}
# Nothing that stands between a policy and its commands, and no haste: the machine may be busy.
OPEN = {"soft_start_s": 0.0, "rate_limit": 1.0, "stale_after_periods": 20.0}


def following(graph: Graph, heard: list[Any], fits: Callable[[Any], bool], what: str) -> Any:
    """Return the first fitting message that comes from now on."""
    start = len(heard)
    return graph.wait(lambda: next((message for message in heard[start:] if fits(message)), None), what)


class Policy:
    """The node `policy_node` and what it says."""

    def __init__(self, graph: Graph, bundle: Path, *arguments: str, **parameters: Any) -> None:
        self._graph = graph
        shadow = parameters.get("shadow", False)
        self.commands = graph.listen(Float64MultiArray, "shadow_commands" if shadow else "commands")
        self._diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        self.process = graph.start("policy_node", *arguments, bundle=bundle, **{**OPEN, **parameters})

    def change(self, transition: str) -> bool:
        """Ask for a transition and tell whether it was done."""
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS[transition]
        return bool(self._graph.call(ChangeState, "policy_node/change_state", request).success)

    def start(self) -> None:
        """Configure and activate."""
        assert self.change("configure"), self.status(lambda status: True).message
        assert self.change("activate")

    @property
    def state(self) -> str:
        """The state of the life cycle."""
        found: LifecycleState = self._graph.call(GetState, "policy_node/get_state").current_state
        return str(found.label)

    def trigger(self, name: str) -> str:
        """Call one of the node's own services."""
        response = self._graph.call(Trigger, f"policy_node/{name}")
        assert response.success, response.message
        return str(response.message)

    def status(self, fits: Callable[[DiagnosticStatus], bool], what: str = "diagnostics of the policy") -> Any:
        """Return the first fitting status from now on."""

        def own(message: DiagnosticArray) -> list[DiagnosticStatus]:
            return [status for status in message.status if status.name == "/policy_node: control" and fits(status)]

        return own(following(self._graph, self._diagnostics, lambda message: bool(own(message)), what))[0]

    def says(self, level: bytes, text: str) -> dict[str, str]:
        """Wait for a status of that level whose message contains the text; return its values."""
        return values_of(self.status(lambda s: s.level == level and text in s.message, f"status {level!r} {text!r}"))

    def next_moving(self) -> np.ndarray:
        """Return the next efforts that are not all zero."""
        return efforts(following(self._graph, self.commands, lambda m: bool(efforts(m).any()), "efforts"))

    def next_still(self) -> None:
        """Wait for zero effort."""
        following(self._graph, self.commands, lambda m: not efforts(m).any(), "zero effort")

    def stays_still(self, count: int = 10) -> None:
        """See that the next commands are zero effort."""
        start = len(self.commands)
        self._graph.wait(lambda: len(self.commands) >= start + count, f"{count} commands")
        assert not any(efforts(message).any() for message in self.commands[start:])


class Robot:
    """Publishes joint states and rewards, one by one or from a thread once per control period."""

    def __init__(self, graph: Graph, spec: RobotSpec) -> None:
        self._graph, self.spec = graph, spec
        self._states = qos.create_publisher(graph.node, JointState, "joint_states", qos.STATE)
        self._rewards = qos.create_publisher(graph.node, Float64, "reward", qos.STATE)
        self.period_ns = round(spec.control_dt * 1e9)
        self.stamp_ns = 0
        self.reward: float | None = -1.0
        self.alter: Callable[[JointState], None] = lambda message: None  # how this robot is odd
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def await_policy(self, commands: str = "commands") -> None:
        """Wait until a policy hears both topics."""
        ends = [self._states, self._rewards]
        self._graph.wait(lambda: qos.listeners(self._graph.node, ends, commands), "a policy that listens")

    def place(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities [J] for the present stamp."""
        phase = self.stamp_ns * 1e-9 + np.arange(self.spec.num_joints)
        return np.sin(phase), np.cos(phase)

    def send(self) -> int:
        """Publish reward and state of the next period; return the stamp in ns."""
        self.stamp_ns += self.period_ns
        message = messages.joint_state(
            self.spec, *self.place(), np.zeros(len(self.spec.actuators)), messages.stamp_of(self.stamp_ns)
        )
        self.alter(message)
        if self.reward is not None:
            self._rewards.publish(Float64(data=self.reward))
        self._states.publish(message)
        return self.stamp_ns

    def run(self) -> None:
        """Go on by itself until `pause`."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def pause(self) -> None:
        """Publish no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self.spec.control_dt):
            self.send()


def efforts(message: Float64MultiArray) -> np.ndarray:
    """The efforts [A] of a command."""
    return np.array(message.data)


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """The values of a status by key."""
    return {pair.key: pair.value for pair in status.values}
