# SPDX-License-Identifier: Apache-2.0
"""What markers cost: processor time of one picture, and of the nodes that draw, with and without somebody who looks.

    python benchmarks/marker_cost.py --seconds 60

This process plays the robot, and in the second half also looks; `view_node` and `policy_node` run in processes of their
own and draw 20 times a second. All times are processor time, not time on a clock, so that other work on the machine
disturbs them less (it still takes caches, and half of a core that two threads share). A share is of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.utilities import get_rmw_implementation_identifier
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from visualization_msgs.msg import MarkerArray

import envs
from envs.tasks import TaskSet
from tigr_core.bundle import BundleInfo, load_bundle
from tigr_core.controller import TaskEstimate
from tigr_ros import messages, qos
from tigr_ros.bundles import shipped_bundle
from tigr_ros.demo import node_command
from tigr_ros.description import Transforms
from tigr_ros.markers import TRAIL_LENGTH, LatentSpace
from tigr_ros.process import avoid_shared_memory
from tigr_ros.robot_markers import RobotScene

RATE = 20.0  # Hz
STAMP = Time(sec=1)
REPETITIONS = 2000
START_LIMIT_S = 120.0
SETTLE_S = 2.0
NODES = ("view_node", "policy_node")


def processor_s(process: subprocess.Popen[bytes]) -> float:
    """Return the processor time that all threads of a process have had, s."""
    return time.clock_gettime((~process.pid << 3) | 2)  # as clock_getcpuclockid(3) makes it


def per_call_ms(call: Callable[[], object]) -> float:
    """Return the processor time of one call, ms."""
    for _ in range(20):
        call()
    start_s = time.process_time()
    for _ in range(REPETITIONS):
        call()
    return 1e3 * (time.process_time() - start_s) / REPETITIONS


def eight_tasks(info: BundleInfo) -> BundleInfo:
    """Return the bundle's description as if it were of the eight half-cheetah tasks, in eight dimensions."""
    names = list(envs.task_set("tigr/HalfCheetahEight-v0").names)
    model = info.model.model_copy(update={"num_components": 8, "latent_dim": 8})
    update = {"base_tasks": names, "component_to_task": list(range(8)), "model": model}
    return info.model_copy(update={**update, "latent_centre": [0.0] * 8, "latent_basis": np.eye(8)[:3].tolist()})


def pictures(info: BundleInfo, tasks: TaskSet) -> dict[str, float]:
    """Return the processor time of each picture and of its serialisation, ms."""
    rng = np.random.default_rng(0)
    robot = envs.ENVIRONMENTS[info.env_id].make_robot(1)
    positions = rng.uniform(-0.3, 0.3, len(robot.spec.joints))
    scene, task, transforms = RobotScene(robot.view, tasks), tasks.sample(rng), Transforms(robot.spec, robot.links)

    def draw_robot() -> MarkerArray:
        return scene.draw(robot.capsules(positions), task, 1.0, STAMP)

    found = {"robot and target: fill": per_call_ms(draw_robot)}
    found["robot and target: serialise"] = per_call_ms(lambda: serialize_message(draw_robot())) - sum(found.values())
    found["links as transforms: fill"] = per_call_ms(lambda: transforms.at(positions, STAMP))
    robot.close()
    for about in (info, eight_tasks(info)):
        count, dims = about.model.num_components, about.model.latent_dim
        space = LatentSpace(about)
        for z in rng.normal(size=(TRAIL_LENGTH, dims)):
            space.add(z)
        estimate = TaskEstimate(
            mixture_weights=rng.dirichlet(np.ones(count), 1),
            latent=rng.normal(size=(1, dims)),
            component_mean=rng.normal(size=(1, count, dims)),
            component_std=rng.uniform(0.1, 1.0, (1, count, dims)),
            entropy=np.zeros(1),
        )
        fill = per_call_ms(lambda space=space, shown=estimate: space.draw(shown, STAMP))  # type: ignore[misc]
        whole = per_call_ms(lambda space=space, shown=estimate: serialize_message(space.draw(shown, STAMP)))  # type: ignore[misc]
        found |= {f"latent space, K = {count}: fill": fill, f"latent space, K = {count}: serialise": whole - fill}
    return found


class PlayedRobot(Node):
    """Sends states, rewards and a task; looks at markers when it is told to."""

    def __init__(self, spec: envs.RobotSpec, tasks: TaskSet) -> None:
        super().__init__("played_robot")
        self._spec, self._rng = spec, np.random.default_rng(0)
        self._states = qos.create_publisher(self, JointState, "joint_states", qos.STATE)
        self._rewards = qos.create_publisher(self, Float64, "reward", qos.STATE)
        self._task = qos.create_publisher(self, String, "task", qos.LATCHED)
        self._task.publish(String(data=str(tasks.sample(self._rng))))
        self.seen = dict.fromkeys(NODES, 0)

    def look(self) -> None:
        """Subscribe to the markers, without taking them apart."""

        def count(name: str) -> Callable[[bytes], None]:
            return lambda _: self.seen.update({name: self.seen[name] + 1})

        for name in NODES:
            self.create_subscription(MarkerArray, f"{name}/markers", count(name), qos.STATE, raw=True)

    def play(self, seconds: float) -> None:
        """Send states for so long."""
        due_s = time.monotonic()
        end_s = due_s + seconds
        while due_s < end_s:
            noise = self._rng.uniform(-0.1, 0.1, (2, len(self._spec.joints)))
            stamp = messages.stamp_of(time.time_ns())
            self._rewards.publish(Float64(data=-1.0))
            zero = np.zeros(len(self._spec.actuators))
            self._states.publish(messages.joint_state(self._spec, noise[0], noise[1], zero, stamp))
            due_s += self._spec.control_dt
            while (left_s := due_s - time.monotonic()) > 0.0:
                rclpy.spin_once(self, timeout_sec=left_s)


def shares(bundle_path: Path, seconds: float) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Return the share of a core that each node takes without and with somebody who looks, and pictures seen, Hz."""
    bundle = load_bundle(bundle_path)
    robot = PlayedRobot(bundle.robot, envs.task_set(bundle.info.env_id, bundle.info.base_tasks))
    parameters = {
        "view_node": {"env": bundle_path, "rate_hz": RATE},
        "policy_node": {"bundle": bundle_path, "autostart": "true", "marker_rate_hz": RATE},
    }
    processes = {name: subprocess.Popen(node_command(name, parameters[name])) for name in NODES}

    def measure() -> dict[str, float]:
        robot.play(SETTLE_S)
        before = {name: processor_s(process) for name, process in processes.items()}
        start_s = time.monotonic()
        robot.play(seconds)
        spent_s = time.monotonic() - start_s
        return {name: (processor_s(process) - before[name]) / spent_s for name, process in processes.items()}

    try:
        end_s = time.monotonic() + START_LIMIT_S
        wanted = {("policy_node", "/"), ("view_node", "/")}
        while not wanted <= set(robot.get_node_names_and_namespaces()):
            robot.play(0.5)
            assert time.monotonic() < end_s, "the nodes do not come"
        robot.play(10.0)  # configure and activate
        alone = measure()
        robot.look()
        robot.play(SETTLE_S)
        robot.seen = dict.fromkeys(NODES, 0)
        looked_at = measure()
        rates = {name: count / (SETTLE_S + seconds) for name, count in robot.seen.items()}
        return {name: (alone[name], looked_at[name]) for name in NODES}, rates
    finally:
        robot.destroy_node()
        for process in processes.values():
            process.send_signal(signal.SIGINT)
            process.wait(20.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=shipped_bundle(), help="policy; default: the shipped one")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    load = os.getloadavg()[0]
    info = load_bundle(arguments.bundle).info
    costs = pictures(info, envs.task_set("tigr/HalfCheetahEight-v0"))
    avoid_shared_memory()
    rclpy.init()
    taken, seen = shares(arguments.bundle, arguments.seconds)
    rmw = get_rmw_implementation_identifier()
    rclpy.shutdown()

    where = f"{os.cpu_count()} cores, load {load:.1f} before, Python {platform.python_version()}, {rmw}"
    rows: list[tuple[str, float | None, float]] = [(name, cost, cost * RATE / 10.0) for name, cost in costs.items()]
    for name, (alone, looked_at) in taken.items():
        cost = 1e3 * (looked_at - alone) / seen[name]
        rows += [
            (f"{name}, nobody looks", None, 100.0 * alone),
            (f"{name}, somebody looks at {seen[name]:.1f} Hz", None, 100.0 * looked_at),
            (f"{name}, its markers", cost, cost * RATE / 10.0),
        ]
    table = Table("", "ms a picture", f"% of a core at {RATE:g} Hz")
    for what, cost_ms, percent in rows:
        table.add_row(what, "" if cost_ms is None else f"{cost_ms:.2f}", f"{percent:.1f}")
    Console().print(table)
    print(where)
    if arguments.json is not None:
        document = {"machine": where, "seconds": arguments.seconds, "rows": rows}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
