# SPDX-License-Identifier: Apache-2.0
"""Real nodes in real processes on a ROS domain of their own, and a node in the test that talks to them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile

from tigr_ros import qos
from tigr_ros.demo import node_command
from tigr_ros.process import avoid_shared_memory

LIMIT_S = 40.0  # for anything to happen: the machine may be busy
STOP_S = 2.0  # for a node to end, as promised; tested on its own, with the machine's business added
NUM_DOMAINS = 100  # above, DDS ports meet those that the system gives away
_numbers = itertools.count(os.getpid() * 10)


def reserve_domain() -> tuple[int, IO[str]]:
    """Return a ROS domain that is free on this machine, and the file that reserves it until its last holder has ended.

    A process that inherits the file is a holder: what an interrupted test run has left behind does not disturb another.
    """
    for _ in range(NUM_DOMAINS):
        number = next(_numbers) % NUM_DOMAINS + 1
        with contextlib.suppress(OSError):
            file = (Path(tempfile.gettempdir()) / f"tigr_ros_test_domain_{number}").open("a")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number, file
    raise RuntimeError(f"found all of {NUM_DOMAINS} ROS domains in use by tests, fix: end processes they left behind")


class Graph:
    """A ROS domain for one test: use as a context manager; it leaves no process behind."""

    def __init__(self) -> None:
        self.domain, self._reservation = reserve_domain()
        avoid_shared_memory()
        self.environment = os.environ | {"ROS_DOMAIN_ID": str(self.domain)}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._heard = threading.Condition()  # guards what processes have said
        self._said: defaultdict[str, str] = defaultdict(str)
        self._talking: Counter[str] = Counter()
        self._context = Context()
        self._context.init(domain_id=self.domain)
        self._nodes: list[Node] = []
        self.node = self.add_node("test")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            process.wait(LIMIT_S)
        self._executor.shutdown()
        for node in self._nodes:
            node.destroy_node()
        self._context.try_shutdown()
        self._reservation.close()

    def add_node(self, name: str, namespace: str = "") -> Node:
        """Make a node in this process, which lives as long as the graph."""
        self._nodes.append(Node(name, context=self._context, namespace=namespace, use_global_arguments=False))
        return self._nodes[-1]

    def start(self, name: str, *arguments: str, **parameters: Any) -> subprocess.Popen[bytes]:
        """Start a node of the package in a process; `arguments` follow ``--ros-args``. See `output`."""
        given = {key: str(value).lower() if isinstance(value, bool) else value for key, value in parameters.items()}
        return self.run([*node_command(name, given), *arguments], name)

    def run(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        """Start a command in this domain, in a process group of its own."""
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[self._reservation.fileno()],
        )
        self._processes.append(process)
        self._talking[name] += 1
        threading.Thread(target=self._take_down, args=(name, process.stdout), daemon=True).start()
        return process

    def output(self, name: str) -> str:
        """Return all that the processes started under a name have said; they have ended."""
        with self._heard:
            assert self._heard.wait_for(lambda: not self._talking[name], LIMIT_S), f"{name} goes on talking"
            return self._said[name]

    def wait_until_said(self, name: str, wanted: str | re.Pattern[str]) -> None:
        """Wait until a process started under that name says what matches; fails if it ends without."""
        with self._heard:
            self._heard.wait_for(lambda: re.search(wanted, self._said[name]) or not self._talking[name], LIMIT_S)
            assert re.search(wanted, self._said[name]), self._all_said()

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> int:
        """Ask a process to stop and return its exit status; fails if it does not."""
        process.send_signal(number)
        return process.wait(LIMIT_S)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Take in messages until the condition is true; return its value. Fails with what was waited for."""
        end = time.monotonic() + LIMIT_S
        while not (found := condition()):
            assert time.monotonic() < end, f"waited in vain for {what}\n{self._all_said()}"
            self._executor.spin_once(timeout_sec=0.05)
        return found

    def listen(self, kind: type, topic: str, profile: QoSProfile = qos.STATE) -> list[Any]:
        """Subscribe; the list grows while `wait` takes in messages."""
        heard: list[Any] = []
        self.node.create_subscription(kind, topic, heard.append, profile, event_callbacks=qos.NO_SUBSCRIPTION_EVENTS)
        return heard

    def publisher(self, kind: type, topic: str, profile: QoSProfile) -> Publisher[Any]:
        """Create a publisher of the test."""
        return self.node.create_publisher(kind, topic, profile, event_callbacks=qos.NO_PUBLISHER_EVENTS)

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

    def _take_down(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._note(name, line.decode())
        with self._heard:
            self._talking[name] -= 1
            self._heard.notify_all()

    def _note(self, name: str, line: str) -> None:
        with self._heard:
            self._said[name] += line
            self._heard.notify_all()

    def _all_said(self) -> str:
        return "\n".join(f"---- {name}\n{said}" for name, said in self._said.items())
