# SPDX-License-Identifier: Apache-2.0
"""A trained policy on a robot or simulator, as a managed (lifecycle) node.

| name                    | type                                      | meaning                                        |
|-------------------------|-------------------------------------------|------------------------------------------------|
| `joint_states`          | sensor_msgs/JointState, in                | read by joint name                             |
| `reward`                | std_msgs/Float64, in                      | of the transition to the state that follows    |
| `commands`              | std_msgs/Float64MultiArray, out           | efforts in actuator order, or JointState       |
| `shadow_commands`       | the same, out                             | instead, as a shadow that watches `commands`   |
| `~/latent`              | std_msgs/Float64MultiArray, labelled, out | z, as of the last command                      |
| `~/task_probabilities`  | std_msgs/Float64MultiArray, labelled, out | mixture weights, summed per base task          |
| `~/transition`          | std_msgs/Float64MultiArray, labelled, out | what the last answer added to the context      |
| `~/task`, `~/entropy`   | std_msgs/String, std_msgs/Float64, out    | most likely base task; how unsure, in nats     |
| `~/spec`                | std_msgs/String, JSON, out, latched       | names, units and hash of the bundle            |
| `~/markers`             | visualization_msgs/MarkerArray, out       | the latent space, only with subscribers        |
| `/diagnostics`          | diagnostic_msgs/DiagnosticArray, out      | 1 Hz                                           |
| `~/estop`, `~/rearm`    | std_srvs/Trigger                          | latch zero effort; clear what is latched       |
| `~/reset_context`       | std_srvs/Trigger                          | forget the task                                |

configure loads the bundle and refuses joints that do not fit, activate starts the control loop, deactivate stops it
and sends zero effort. `use_sim_time` holds for the ages of inputs and for the soft start.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import Trigger

from tigr_core.errors import UserError
from tigr_ros import qos
from tigr_ros.control_loop import LoopStatistics
from tigr_ros.deployment import Deployment
from tigr_ros.parameters import Parameter, declare
from tigr_ros.policy_status import Surroundings, status
from tigr_ros.process import StopRequest, run
from tigr_ros.safety import Reason

AT_CONFIGURE = "taken by the next configure"
AUTOSTART_WAIT_S = 2.0

PARAMETERS = (
    Parameter("bundle", "", "path of the trained policy, a .tigr file", hint=AT_CONFIGURE),
    Parameter(
        "autostart", False, "configure and activate by itself, once joint states come or after 2 s", read_only=True
    ),
    Parameter("lock_step", False, "answer each state of a simulator that waits, instead of real time", read_only=True),
    Parameter(
        "shadow", False, "command nobody: publish to shadow_commands and watch commands, an array", read_only=True
    ),
    Parameter(
        "command_type",
        "efforts",
        "commands as an array in actuator order or as a JointState by joint name",
        choices=("efforts", "joint_state"),
        hint=AT_CONFIGURE,
    ),
    Parameter("deterministic", True, "take the most likely action instead of exploring", hint=AT_CONFIGURE),
    Parameter(
        "stale_after_periods",
        2.0,
        "control periods after which joint states and rewards are too old: zero effort. No meaning in lock-step",
        low=1.0,
        high=100.0,
        hint=AT_CONFIGURE,
    ),
    Parameter(
        "reward_required",
        True,
        "zero effort without rewards; if false the task estimate stands still instead",
        hint=AT_CONFIGURE,
    ),
    Parameter("effort_limit", 1.0, "share of each actuator's range of effort", low=0.01, high=1.0, hint=AT_CONFIGURE),
    Parameter(
        "rate_limit",
        0.5,
        "largest change of effort from one command to the next, as a share of the actuator's whole range; 1: any",
        low=0.01,
        high=1.0,
        hint=AT_CONFIGURE,
    ),
    Parameter(
        "soft_start_s",
        2.0,
        "time in s over which effort grows from nothing, after activation and after every stop",
        low=0.0,
        high=60.0,
        hint=AT_CONFIGURE,
    ),
    Parameter("marker_rate_hz", 5.0, "markers per second", low=0.1, high=30.0, read_only=True),
)

Transition = Callable[["PolicyNode"], None]


def logged(transition: Transition) -> Callable[[PolicyNode, LifecycleState], TransitionCallbackReturn]:
    """Make a life-cycle callback that says what went wrong: rclpy drops exceptions without a word."""

    @wraps(transition)
    def callback(node: PolicyNode, previous: LifecycleState) -> TransitionCallbackReturn:
        try:
            transition(node)
            return TransitionCallbackReturn.SUCCESS
        except UserError as error:
            node.refusal = str(error)
            node.get_logger().error(f"refused to {transition.__name__.removeprefix('on_')}: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception:
            node.refusal = traceback.format_exc()
            node.get_logger().error(node.refusal)
            return TransitionCallbackReturn.ERROR

    return callback


class PolicyNode(LifecycleNode):
    """The executor takes and gives messages; the control loop works in a thread of its own."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__("policy_node")
        self._values = declare(self, PARAMETERS)
        self.refusal = ""  # why the last transition failed
        self._deployed: Deployment | None = None
        self._latched: Reason | None = None  # outlives the deployment
        self._joints: JointState | None = None  # what came last, for configure to check
        self._before: LoopStatistics | None = None
        self._subscribe()
        for name, answer in {
            "~/estop": self._estop,
            "~/rearm": self._rearm,
            "~/reset_context": self._reset_context,
        }.items():
            self.create_service(Trigger, name, answer)
        self._diagnostics = qos.create_publisher(self, DiagnosticArray, "/diagnostics", qos.STATE)
        # These timers go on where simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._diagnose, clock=steady)
        self.create_timer(1.0 / self._values["marker_rate_hz"], self._draw, clock=steady)
        if self._values["autostart"]:
            self._autostart_end_s = time.monotonic() + AUTOSTART_WAIT_S
            self._autostart_timer = self.create_timer(0.05, self._autostart, clock=steady)

    @logged
    def on_configure(self) -> None:
        """Load and check everything; nothing is commanded yet."""
        self.refusal = ""
        if self._joints is None:
            self.get_logger().warning("no joint_states yet: whether the joints fit will show when they come")
        self._deployed = Deployment(self, self._values.snapshot(), joints=self._joints, latched=self._latched)

    @logged
    def on_activate(self) -> None:
        """Start to command."""
        self._running().loop.start()

    @logged
    def on_deactivate(self) -> None:
        """Stop to command, zero effort last."""
        self._running().loop.stop(Reason.DEACTIVATED)

    @logged
    def on_cleanup(self) -> None:
        """Release everything; what is latched stays latched."""
        self._release()

    @logged
    def on_shutdown(self) -> None:
        """Stop, from any state."""
        self._release()

    @logged
    def on_error(self) -> None:
        """Stop; the node can be configured again."""
        self._release()

    def stop(self) -> None:
        """End the control loop, and see that zero effort arrives."""
        if self._deployed is not None:
            self._deployed.loop.stop(Reason.DEACTIVATED)
            self._deployed.outputs.flush()

    def _subscribe(self) -> None:
        """Listen from the start: configure checks the joints, and in lock-step a state waits for its answer."""
        profile = qos.STATE if self._values["lock_step"] else qos.SENSOR
        qos.create_subscription(self, JointState, "joint_states", self._on_joint_states, profile)
        qos.create_subscription(self, Float64, "reward", self._on_reward, profile)
        if self._values["shadow"]:
            qos.create_subscription(self, Float64MultiArray, "commands", self._on_command, qos.COMMAND)

    def _on_joint_states(self, message: JointState) -> None:
        self._joints = message
        if self._deployed is not None:
            self._deployed.take_joints(message)

    def _on_reward(self, message: Float64) -> None:
        if self._deployed is not None:
            self._deployed.loop.add_reward(message.data)

    def _on_command(self, message: Float64MultiArray) -> None:
        if self._deployed is None:
            return
        try:
            self._deployed.take_foreign_command(message)
        except ValueError as error:
            self.get_logger().warning(f"somebody else's command: {error}", throttle_duration_sec=1.0)

    def _estop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._latched = self._latched or Reason.EMERGENCY_STOP
        if self._deployed is not None:
            self._deployed.loop.emergency_stop()
        self.get_logger().warning("emergency stop")
        return _answered(response, "zero effort until ~/rearm")

    def _rearm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._latched = None
        if self._deployed is not None:
            self._deployed.loop.rearm()
        self.get_logger().info("armed again")
        return _answered(response, "armed, with an empty context")

    def _reset_context(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._deployed is None:
            return _answered(response, "nothing to forget: not configured", success=False)
        self._deployed.loop.reset_context()
        return _answered(response, "the context is empty")

    def _autostart(self) -> None:
        waiting = self._joints is None and not self._values["lock_step"]
        if waiting and time.monotonic() < self._autostart_end_s:
            return
        self._autostart_timer.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _draw(self) -> None:
        if self._deployed is not None and self._deployed.loop.running:
            self._deployed.outputs.draw()

    def _diagnose(self) -> None:
        now = self._deployed.loop.statistics if self._deployed is not None else None
        fault = now.fault if now is not None else None
        if fault is not None and (self._before is None or self._before.fault != fault):
            self.get_logger().error(f"{fault.reason.value}: {fault.text}")
        name = self.get_fully_qualified_name()
        message = DiagnosticArray(status=[status(name, self._surroundings(), now, self._before)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._before = now

    def _surroundings(self) -> Surroundings:
        deployed = self._deployed
        general = Surroundings(
            refusal=self.refusal,
            mismatches=qos.mismatches(self),
            latched=self._latched,
            joints=tuple(self._joints.name) if self._joints is not None else (),
        )
        if deployed is None:
            return general
        return replace(
            general,
            state="active" if deployed.loop.running else "inactive",
            robot=deployed.robot.name,
            bundle=str(deployed.path),
            sha256=deployed.sha256,
            bundle_replaced=deployed.replaced,
            listeners=deployed.outputs.listeners,
            latched=deployed.latched,
        )

    def _running(self) -> Deployment:
        assert self._deployed is not None, "the life cycle allows this only after configure"
        return self._deployed

    def _release(self) -> None:
        if self._deployed is not None:
            self._deployed.release()
            self._latched = self._deployed.latched
        self._deployed = self._before = None


def _answered(response: Trigger.Response, message: str, *, success: bool = True) -> Trigger.Response:
    response.success, response.message = success, message
    return response


def main() -> None:
    """Run the node as a process."""
    torch.set_num_threads(1)  # quicker at these sizes, and the same bits on every machine
    run(PolicyNode)
