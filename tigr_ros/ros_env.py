# SPDX-License-Identifier: Apache-2.0
"""A robot or `sim_node` as a Gymnasium environment, over the topics that the policy uses."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import Trigger

from envs.spec import RobotSpec
from envs.tasks import Task
from tigr_ros import messages, qos
from tigr_ros.pairing import Input, LockStepPairing, Pairing, RealTimePairing, State
from tigr_ros.process import avoid_shared_memory

T = TypeVar("T")


class RosEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """Steps whatever publishes `joint_states` and `reward` and takes `commands`.

    Actions and observations are those of `robot`. An episode never ends by itself: a robot does not say so, and
    `sim_node` is to run with ``episode_steps: 0``; wrap it in `gymnasium.wrappers.TimeLimit`. `info` has "stamp" [s]
    and, with a simulator, all keys of `envs.task_env.TaskEnv`.

    In lock-step a trajectory equals the one of `TaskEnv` to the last bit. In real time `step` returns with the first
    state that is one control period later or more and whose reward is known, and `reset` with the next state there is.

    Args:
        robot: what is stepped; a bundle knows it, and so do the environments of `envs`.
        lock_step: whether `sim_node` waits for each command.
        simulator: name of the `sim_node`, whose tasks and episodes `reset` sets; None for a robot.
        namespace: of all topics and of the simulator.
        timeout_s: for how long to wait for a state, a reward or an answer; may be changed later.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's declaration)

    def __init__(
        self,
        robot: RobotSpec,
        *,
        lock_step: bool,
        simulator: str | None = "sim_node",
        namespace: str = "",
        timeout_s: float = 5.0,
    ) -> None:
        self.robot = robot
        self.observation_space = Box(-np.inf, np.inf, (robot.obs_dim,), np.float64)
        self.action_space = Box(-1.0, 1.0, (robot.action_dim,), np.float32)
        self.timeout_s = timeout_s
        self._lock_step = lock_step
        self._pairing: Pairing = LockStepPairing() if lock_step else RealTimePairing(robot.control_dt)
        self._reader = messages.JointStateReader(robot)
        self._changed = threading.Condition()  # guards pairing, info and fault
        self._infos: dict[int, dict[str, Any]] = {}  # by stamp in ns, the last few
        self._fault = ""  # why the last message could not be used
        self._state: State | None = None  # the present one
        self._partners: frozenset[bytes] = frozenset()
        avoid_shared_memory()
        self._context = Context()
        self._context.init()
        self._node = Node("tigr_env", context=self._context, namespace=namespace, use_global_arguments=False)
        self._simulator = simulator
        self._create_topics()
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="ros_env", daemon=True)
        self._thread.start()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of the simulator's random generator; None leaves it as it is. A robot has none.
            options: ``{"task": ...}`` as a Task or ``(name, parameter)``; without it a simulator draws one, a robot
                goes on as it is.

        Returns:
            obs [D] and `info`.

        Raises:
            ValueError: unknown option, or a task that the simulator refuses or a robot cannot be given.
            TimeoutError: no answer or no state.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - {"task"}:
            raise ValueError(f"found reset option(s) {sorted(unknown)}, expected 'task' only")
        if options and self._simulator is None:
            raise ValueError("found a task to set on a robot, expected none, fix: name the simulator")
        self._connect()
        if self._simulator is not None:
            self._reset_simulator(options.get("task"), seed)
        if not self._lock_step:
            with self._changed:
                self._pairing.restart()
        given = self._next(lambda taken: taken.new_episode or not self._lock_step)
        return self._observe(given.state), self._info(given.state)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Send an action [A], clipped to [-1, 1], as efforts, and wait for the state and the reward that follow.

        Raises:
            ValueError: wrong shape or a non-finite entry; nothing has been sent then.
            gymnasium.error.ResetNeeded: before the first reset.
            TimeoutError: no state or no reward came.
            RuntimeError: the simulator began another episode by itself.
        """
        effort = self.robot.action_to_effort(self._checked(action))
        if self._state is None:
            raise gymnasium.error.ResetNeeded("found a call before the first reset(), expected reset() first")
        if not self._lock_step:
            with self._changed:
                self._take()  # a state that has been waiting is not what the action leads to
        self._commands.publish(messages.command(self.robot, effort, messages.stamp_of(self._state.stamp_ns)))
        given = self._next(lambda taken: taken.new_episode or taken.reward is not None)
        if given.new_episode or given.reward is None:
            raise RuntimeError(
                "found a new episode in the middle of one, expected one from reset() on, fix: run sim_node with "
                "episode_steps 0, and let nobody else reset it"
            )
        return self._observe(given.state), given.reward, False, False, self._info(given.state)

    def close(self) -> None:
        """Leave the topics. May be called more than once."""
        if self._context.ok():
            self._executor.shutdown()
            self._thread.join()
            self._node.destroy_node()
            self._context.try_shutdown()

    def _create_topics(self) -> None:
        node = self._node
        profile = qos.STATE if self._lock_step else qos.SENSOR
        self._commands = qos.create_publisher(node, Float64MultiArray, "commands", qos.COMMAND)
        qos.create_subscription(node, JointState, "joint_states", self._on_state, profile)
        qos.create_subscription(node, Float64, "reward", self._on_reward, profile)
        if self._simulator is not None:
            qos.create_subscription(node, Float64MultiArray, "task_info", self._on_task_info, qos.LATCHED_STATE)
            self._reset_client: Client[Any, Any] = node.create_client(Trigger, f"{self._simulator}/reset")
            self._parameter_client: Client[Any, Any] = node.create_client(
                SetParametersAtomically, f"{self._simulator}/set_parameters_atomically"
            )

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    # ---- the executor's callbacks ----

    def _on_state(self, message: JointState) -> None:
        with self._changed:
            try:
                positions, velocities = self._reader.read(message)
            except ValueError as error:
                self._fault = f"joint_states: {error}"
                return
            stamp_ns = messages.to_nanoseconds(message.header.stamp)
            self._pairing.add_state(State(positions, velocities, stamp_ns, time.monotonic()))
            self._changed.notify()

    def _on_reward(self, message: Float64) -> None:
        with self._changed:
            self._pairing.add_reward(message.data)
            self._changed.notify()

    def _on_task_info(self, message: Float64MultiArray) -> None:
        info, stamp_ns = messages.read_task_info(message)
        with self._changed:
            self._infos[stamp_ns] = info
            while len(self._infos) > 20:
                del self._infos[next(iter(self._infos))]
            self._changed.notify()

    # ---- the caller's thread ----

    def _connect(self) -> None:
        """Wait until whoever publishes states hears commands, and for the state that is sent to newcomers."""
        deadline = time.monotonic() + self.timeout_s
        while not (partners := qos.listeners(self._node, [self._commands], "joint_states")):
            if time.monotonic() > deadline:
                raise self._timeout("nobody who publishes joint_states and hears commands")
            time.sleep(0.01)
        if partners - self._partners and self._lock_step:
            self._next(lambda taken: True)
        self._partners = partners

    def _reset_simulator(self, task: Any, seed: int | None) -> None:
        name, parameter = (task.base_task, task.parameter) if isinstance(task, Task) else task or ("", 0.0)
        values = np.atleast_1d(np.asarray(parameter, dtype=np.float64)).tolist()
        parameters = [
            Parameter("task", value=name),
            Parameter("parameter", value=values),
            Parameter("seed", value=-1 if seed is None else seed),
        ]
        request = SetParametersAtomically.Request(parameters=[p.to_parameter_msg() for p in parameters])
        result = self._call(self._parameter_client, request).result
        if not result.successful:
            raise ValueError(result.reason)
        self._call(self._reset_client, Trigger.Request())

    def _call(self, client: Client[Any, Any], request: Any) -> Any:
        if not client.wait_for_service(self.timeout_s):
            raise self._timeout(f"no service {client.srv_name}")
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(self.timeout_s):
            raise self._timeout(f"no answer of {client.srv_name}")
        return future.result()

    def _next(self, wanted: Callable[[Input], bool]) -> Input:
        """Wait for the next input that is wanted, and for its info where there is a simulator; drop the others."""
        deadline = time.monotonic() + self.timeout_s
        with self._changed:
            while True:
                given = self._wait(self._take, deadline, "no joint_states with their reward")
                if wanted(given):
                    break
            if self._simulator is not None:
                stamp_ns = given.state.stamp_ns
                self._wait(lambda: self._infos.get(stamp_ns), deadline, "no task_info for the state")
            self._state = given.state
        return given

    def _take(self) -> Input | None:
        return self._pairing.take(time.monotonic(), await_reward=True)

    def _wait(self, ready: Callable[[], T | None], deadline: float, missing: str) -> T:
        """Wait for a result of `ready`; the lock is held."""
        while (found := ready()) is None:
            now = time.monotonic()
            if now >= deadline:
                raise self._timeout(missing)
            self._changed.wait(min(deadline - now, self._pairing.patience_s(now)))
        return found

    def _timeout(self, missing: str) -> TimeoutError:
        reasons = [qos.mismatches(self._node), self._fault]
        if not self._node.count_publishers("joint_states"):
            reasons.append(f"nobody publishes {self._node.resolve_topic_name('joint_states')}")
        return TimeoutError(
            f"found {missing} within {self.timeout_s:g} s ({'; '.join(r for r in reasons if r) or 'no fault seen'}), "
            "expected a running robot or simulator, fix: check that it runs, is not paused, and is in this namespace "
            f"and ROS domain, and that it {'has' if self._lock_step else 'does not have'} lock_step set"
        )

    def _observe(self, state: State) -> np.ndarray:
        return self.robot.observe(state.positions, state.velocities)

    def _info(self, state: State) -> dict[str, Any]:
        with self._changed:
            return {"stamp": state.stamp_ns / messages.NANOSECONDS, **self._infos.get(state.stamp_ns, {})}

    def _checked(self, action: np.ndarray) -> np.ndarray:
        array = np.asarray(action, dtype=np.float64)
        if array.shape != self.action_space.shape or not np.isfinite(array).all():
            raise ValueError(f"found action {array.tolist()}, expected {self.robot.action_dim} finite numbers")
        return array
