# SPDX-License-Identifier: Apache-2.0
"""Real nodes in real processes on a ROS domain of their own, and a node in the test that talks to them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from tigr_ros import qos
from tigr_ros.demo import node_command

LIMIT_S = 40.0  # for anything to happen: the machine may be busy
STOP_S = 2.0  # for a node to end, as promised; tested on its own, with the machine's business added
_numbers = itertools.count(os.getpid() * 10)


class Graph:
    """A ROS domain for one test: use as a context manager; it leaves no process behind."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.domain = next(_numbers) % 100 + 1  # above, DDS ports meet those that the system gives away
        self.environment = os.environ | {"ROS_DOMAIN_ID": str(self.domain)}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._context = Context()
        self._context.init(domain_id=self.domain)
        self.node = Node("test", context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def start(self, name: str, *arguments: str, **parameters: Any) -> subprocess.Popen[bytes]:
        """Start a node of the package in a process; `arguments` follow ``--ros-args``. See `output`."""
        given = {key: str(value).lower() if isinstance(value, bool) else value for key, value in parameters.items()}
        return self.run([*node_command(name, given), *arguments], name)

    def run(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        """Start a command in this domain."""
        with (self.room / name).open("ab") as file:
            process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
        self._processes.append(process)
        return process

    def output(self, name: str) -> str:
        """Return what the processes started under a name have said."""
        return (self.room / name).read_text()

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> int:
        """Ask a process to stop and return its exit status; fails if it does not."""
        process.send_signal(number)
        return process.wait(LIMIT_S)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Take in messages until the condition is true; return its value. Fails with what was waited for."""
        end = time.monotonic() + LIMIT_S
        while not (found := condition()):
            assert time.monotonic() < end, f"waited in vain for {what}\n{self._said()}"
            self._executor.spin_once(timeout_sec=0.05)
        return found

    def listen(self, kind: type, topic: str, profile: QoSProfile = qos.STATE) -> list[Any]:
        """Subscribe; the list grows while `wait` takes in messages."""
        heard: list[Any] = []
        self.node.create_subscription(kind, topic, heard.append, profile)
        return heard

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        """Call a service and return its response."""
        client: Any = self.node.create_client(kind, name)
        self.wait(client.service_is_ready, f"service {name}")
        future = client.call_async(request or kind.Request())
        self.wait(future.done, f"the answer of {name}")
        return future.result()

    def set_parameters(self, node: str, **values: Any) -> Any:
        """Set parameters of a node, all or none; return the result."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        return self.call(SetParametersAtomically, f"{node}/set_parameters_atomically", request).result

    def _said(self) -> str:
        return "\n".join(f"---- {path.name}\n{path.read_text()}" for path in self.room.iterdir() if path.is_file())
