# SPDX-License-Identifier: Apache-2.0
"""Running a node as a process that stops cleanly: at SIGINT and SIGTERM, once or several times, within seconds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from tigr_core.errors import UserError
from tigr_ros.start import SIGNALS


class StopRequest:
    """Set to end the process: by a signal, or by the node itself, with an error if something went wrong.

    A plain flag: a signal that comes while another one is handled would wait forever for the lock of a
    `threading.Event`, and the robot for its last command.
    """

    error: Exception | None = None
    _asked = False

    def set(self) -> None:
        """End the process."""
        self._asked = True

    def is_set(self) -> bool:
        """Return whether the process is to end."""
        return self._asked

    def fail(self, error: Exception) -> None:
        """End the process with `error`."""
        self.error = error
        self.set()


class Stoppable(Protocol):
    """A Node that `run` can end."""

    def stop(self) -> None:
        """End threads, then send the last messages; communication still works. Take less than a second."""

    def destroy_node(self) -> None:
        """Release everything, as every Node does."""


def run(make_node: Callable[[StopRequest], Stoppable]) -> None:
    """Make a node, spin it until it or a signal asks to stop, and clean up.

    rclpy's own signal handlers end communication first, so that no last command could be sent: they stay off.
    A `UserError` is printed without a trace-back and ends the process with status 2.
    """
    stop = StopRequest()
    _on_signals(lambda *_: stop.set())
    try:
        _init()
        try:
            _spin(make_node, stop)
        finally:
            rclpy.try_shutdown(uninstall_handlers=False)  # where it has none, this would take ours away
        if stop.error is not None:
            raise stop.error
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        _on_signals(signal.SIG_IGN)  # `ros2 launch` repeats a Ctrl-C, which would kill the interpreter as it ends


def _on_signals(handler: Callable[..., object] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def avoid_shared_memory() -> None:
    """Have Fast DDS send over UDP, before any context is made, unless FASTDDS_BUILTIN_TRANSPORTS says otherwise.

    Through shared memory it waits for locks of processes that were killed: their partners hang or crash when they end.
    """
    if not rclpy.get_rmw_implementation_identifier().startswith("rmw_fastrtps"):
        return
    transports = os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    # rmw_fastrtps adds shared memory for LOCALHOST, whatever the variable says; our profile for it does not.
    local = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST"
    if transports == "UDPv4" and local and "FASTDDS_DEFAULT_PROFILES_FILE" not in os.environ:
        os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(Path(__file__).with_name("loopback.xml"))
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"


def _init() -> None:
    avoid_shared_memory()
    try:
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise UserError(
            str(error), expected="--ros-args and files that ROS can read", fix="mend the argument or the file it names"
        ) from None


def _spin(make_node: Callable[[StopRequest], Stoppable], stop: StopRequest) -> None:
    node = make_node(stop)
    executor = SingleThreadedExecutor()
    executor.add_node(cast(Node, node))
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    finally:
        node.stop()
        executor.shutdown()
        node.destroy_node()
