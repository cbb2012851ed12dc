# SPDX-License-Identifier: Apache-2.0
"""A simulated robot on topics: any environment of `envs`, in real time or in lock-step.

| name           | type                               | meaning                                                       |
|----------------|------------------------------------|---------------------------------------------------------------|
| `commands`     | std_msgs/Float64MultiArray, in     | efforts in actuator order; see `tigr_ros.messages.command`    |
| `joint_states` | sensor_msgs/JointState, out        | all joints; effort is what the actuators exerted              |
| `reward`       | std_msgs/Float64, out              | of the transition to the state that follows                   |
| `task`         | std_msgs/String, out, latched      | the true task, at each change                                 |
| `task_info`    | std_msgs/Float64MultiArray, out    | `info` of the environment, labelled, before each state        |
| `/clock`       | rosgraph_msgs/Clock, out           | simulated time, with `publish_clock`                          |
| `/diagnostics` | diagnostic_msgs/DiagnosticArray    | 1 Hz                                                          |
| `~/reset`      | std_srvs/Trigger                   | start an episode as `task`, `parameter` and `seed` say        |
| `~/set_task`   | std_srvs/Trigger                   | change the task as `task` and `parameter` say                 |
| `~/pause`      | std_srvs/SetBool                   | stop and go on                                                |
| `~/step`       | std_srvs/Trigger                   | one control period while paused                               |

How states, rewards and commands follow each other is said in `tigr_ros`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from tigr_core.errors import UserError
from tigr_ros import messages, qos
from tigr_ros.figures import Figures
from tigr_ros.parameters import Parameter, declare
from tigr_ros.process import StopRequest, run
from tigr_ros.simulation import HeldCommand, Simulation, task_of

PARAMETERS = (
    Parameter(
        "env",
        "tigr/HalfCheetahEight-v0",
        "environment to simulate, or a bundle (.tigr) to take it and its base tasks from",
        read_only=True,
    ),
    Parameter(
        "base_tasks", "", "names of the base tasks in label order, separated by commas; empty: all", read_only=True
    ),
    Parameter("task", "", "base task; empty: drawn at random", hint="taken by ~/set_task and by the next episode"),
    Parameter(
        "parameter",
        0.0,
        "parameter of the task, in its unit; a list where there are several",
        or_list=True,
        hint="taken by ~/set_task and by the next episode; set it with or before `task`",
    ),
    Parameter(
        "task_change",
        "",
        "when another task is drawn: empty (never), every_seconds:5.0, every_steps:100 or crossing:x_position:5.0",
        read_only=True,
    ),
    Parameter(
        "seed",
        0,
        "seed of the first episode and of those that ~/reset begins; -1: as the random generator stands",
        low=-1,
        high=2**31 - 1,
    ),
    Parameter("episode_steps", 0, "control periods in an episode; 0: endless", low=0, high=2**31 - 1, read_only=True),
    Parameter("lock_step", False, "wait for a command after each state, instead of real time", read_only=True),
    Parameter(
        "rate", 1.0, "simulated over real time; other than 1 needs publish_clock or lock_step", low=0.01, high=100.0
    ),
    Parameter("publish_clock", False, "publish /clock and stamp with simulated time", read_only=True),
    Parameter(
        "command_timeout_periods",
        2.0,
        "control periods for which a command holds in real time; zero effort afterwards",
        low=1.0,
        high=100.0,
        read_only=True,
    ),
)

POLL_S = 0.2  # in lock-step, how often to look for somebody new to send the state to
YIELD_S = 0.0005
PATIENCE_S = 2.0  # in lock-step, after which waiting for a command is worth a warning
SLOW = 0.95  # of the wanted rate, below which it is worth a warning


def check(values: Mapping[str, Any]) -> None:
    """Raise ValueError for values that do not fit together."""
    task_of(values)
    if values["rate"] != 1.0 and not (values["publish_clock"] or values["lock_step"]):
        raise ValueError(
            f"found rate {values['rate']:g} with stamps in wall time, expected 1, fix: set publish_clock as well"
        )


class SimNode(Node):
    """The executor takes messages and requests; a thread of its own steps the simulation and publishes."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__("sim_node")
        self._stop_request = stop
        self._settings = declare(self, PARAMETERS, check)
        self._lock_step: bool = self._settings["lock_step"]
        self._simulation = self._make_simulation()
        self._spec = self._simulation.spec
        messages.require_joints(self._spec)
        self._held = HeldCommand(self._spec.action_dim, self._settings["command_timeout_periods"])
        self._changed = threading.Condition()  # guards the simulation, the held command and what follows
        self._command: np.ndarray | None = None  # that answers the last state, in lock-step
        self._heard_by: frozenset[bytes] = frozenset()  # who was sent the last state, in lock-step
        self._paused = self._stopped = False
        self._stamp = Time()
        self._figures = Figures()
        self._create_topics()
        self._create_services()
        self._begin_episode(self._seed)
        self._thread = threading.Thread(target=self._run, name="simulation")
        self._thread.start()

    def stop(self) -> None:
        """End the simulation."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._simulation.close()

    def _make_simulation(self) -> Simulation:
        try:
            return Simulation(self._settings)
        except ValueError as error:
            raise UserError(
                str(error), expected="parameters that fit together", fix="see the parameters' descriptions"
            ) from None

    @property
    def _seed(self) -> int | None:
        return self._settings["seed"] if self._settings["seed"] >= 0 else None

    def _create_topics(self) -> None:
        def publisher(kind: type, topic: str, profile: QoSProfile) -> Publisher[Any]:
            return qos.create_publisher(self, kind, topic, profile)

        self._joint_states = publisher(JointState, "joint_states", qos.STATE)
        self._reward = publisher(Float64, "reward", qos.STATE)
        self._task = publisher(String, "task", qos.LATCHED)
        self._task_info = publisher(Float64MultiArray, "task_info", qos.LATCHED_STATE)
        self._diagnostics = publisher(DiagnosticArray, "/diagnostics", qos.STATE)
        self._clock_topic = publisher(ClockMessage, "/clock", qos.STATE) if self._settings["publish_clock"] else None
        qos.create_subscription(self, Float64MultiArray, "commands", self._on_command, qos.COMMAND)

    def _create_services(self) -> None:
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(Trigger, "~/set_task", self._on_set_task)
        self.create_service(SetBool, "~/pause", self._on_pause)
        self.create_service(Trigger, "~/step", self._on_step)
        # Not the node's clock: that may stand still.
        self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # ---- the simulation's thread ----

    def _run(self) -> None:
        try:
            if self._lock_step:
                self._run_in_lock_step()
            else:
                self._run_in_real_time()
        except Exception as error:
            self._stop_request.fail(error)

    def _run_in_lock_step(self) -> None:
        with self._changed:
            while not self._stopped:
                if self._command is not None and not self._paused:
                    self._advance(self._command)
                elif not self._changed.wait(POLL_S):
                    self._greet()

    def _greet(self) -> None:
        """Send the waiting state to whoever has come since it was sent."""
        heard_by = qos.listeners(self, [self._reward, self._joint_states], "commands")
        if heard_by - self._heard_by:
            self._publish_state()
        self._heard_by = heard_by

    def _run_in_real_time(self) -> None:
        due = time.monotonic()
        with self._changed:
            self._publish_state()
            while not self._stopped:
                period = self._spec.control_dt / self._settings["rate"]
                due += period
                ahead = due - time.monotonic()
                if ahead < -period:
                    due -= ahead  # time that is lost is not made up for
                # The executor gets its turn even if there is no time left.
                if self._changed.wait_for(lambda: self._stopped, max(ahead, YIELD_S)):
                    break
                if not self._paused:
                    self._advance(self._held.next())

    def _advance(self, effort: np.ndarray) -> None:
        """Do one control period; after an episode's last state, begin another episode."""
        self._command = None
        if self._simulation.ended:
            self._begin_episode(None)
        else:
            self._step(effort)
        self._publish_state()

    def _step(self, effort: np.ndarray) -> None:
        task = self._simulation.task
        reward = self._simulation.step(effort)
        self._figures.steps += 1
        if not self._simulation.healthy:
            self._figures.diverged += 1
            self.get_logger().error(f"physics diverged after {self._simulation.steps} steps of {task}: a new episode")
            self._begin_episode(None)
            return
        self._stamp = self._now()
        self._reward.publish(Float64(data=reward))
        if self._simulation.task != task:
            self._publish_task()

    def _begin_episode(self, seed: int | None) -> None:
        self._simulation.begin(task_of(self._settings.snapshot()), seed)
        self._held.release()
        self._command = None
        self._figures.episodes += 1
        self._stamp = self._now()
        self._publish_task()

    def _now(self) -> Time:
        """Return the stamp of the present state: simulated time starts at one control period (zero means no time)."""
        if self._lock_step or self._clock_topic:
            period = round(self._spec.control_dt * messages.NANOSECONDS)
            return messages.stamp_of((self._simulation.steps + 1) * period)
        return self.get_clock().now().to_msg()

    def _publish_state(self) -> None:
        if self._clock_topic:
            self._clock_topic.publish(ClockMessage(clock=self._stamp))
        sim = self._simulation
        state = messages.joint_state(self._spec, sim.positions, sim.velocities, sim.effort, self._stamp)
        self._task_info.publish(messages.task_info(sim.info, self._stamp))
        self._figures.published(messages.to_nanoseconds(self._stamp))
        self._joint_states.publish(state)

    def _publish_task(self) -> None:
        self._task.publish(String(data=str(self._simulation.task)))

    # ---- the executor's callbacks ----

    def _on_command(self, message: Float64MultiArray) -> None:
        try:
            effort, answers = messages.read_command(self._spec, message)
        except ValueError as error:
            self._figures.refused += 1
            self.get_logger().warning(f"command refused: {error}", throttle_duration_sec=1.0)
            return
        with self._changed:
            current = self._figures.answered(answers)
            if not self._lock_step:
                self._held.take(effort)
            elif current and self._command is None:
                self._command = effort
                self._changed.notify_all()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._changed:
            self._begin_episode(self._seed)
            if self._heard_by or not self._lock_step:
                self._publish_state()
            return _answer(response, f"episode {self._figures.episodes}: {self._simulation.task}")

    def _on_set_task(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._changed:
            self._simulation.set_task(task_of(self._settings.snapshot()))
            self._publish_task()
            return _answer(response, str(self._simulation.task))

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._changed:
            self._paused = request.data
            self._changed.notify_all()
            return _answer(response, "paused" if self._paused else "running")

    def _on_step(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._changed:
            if not self._paused:
                return _answer(response, "found a running simulation, expected a paused one, fix: ~/pause first", False)
            if self._lock_step and self._command is None:
                return _answer(response, "no command has answered the last state yet", False)
            self._advance(self._command if self._command is not None else self._held.next())
            return _answer(response, f"step {self._simulation.steps}")

    def _publish_diagnostics(self) -> None:
        mismatches = qos.mismatches(self)
        with self._changed:
            level, text = (DiagnosticStatus.ERROR, mismatches) if mismatches else self._health()
            values = {
                **self._figures.take(self._spec.control_dt),
                "command age [periods]": self._held.age_periods,
                "task": self._simulation.task,
                "mode": "lock-step" if self._lock_step else "real time",
            }
        name = self.get_fully_qualified_name()
        status = messages.diagnostic(name, "simulation", self._spec.name, level, text, values)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _health(self) -> tuple[bytes, str]:
        if self._paused:
            return DiagnosticStatus.OK, "paused"
        if self._lock_step:
            if self._figures.waiting_s < PATIENCE_S:
                return DiagnosticStatus.OK, "stepping"
            return DiagnosticStatus.WARN, f"waiting for a command{'' if self._heard_by else ': nobody sends any'}"
        if self._held.safe:
            return DiagnosticStatus.WARN, "no commands: zero effort"
        if self._figures.speed(self._spec.control_dt) < SLOW * self._settings["rate"]:
            return DiagnosticStatus.WARN, "slower than wanted"
        return DiagnosticStatus.OK, "stepping"


def _answer(response: Any, message: str, success: bool = True) -> Any:
    response.success, response.message = success, message
    return response


def main() -> None:
    """Run the node."""
    run(SimNode)
