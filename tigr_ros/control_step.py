# SPDX-License-Identifier: Apache-2.0
"""One control step: joint state and reward in, safe effort out, through the one controller."""

from __future__ import annotations

import numpy as np
import torch

from tigr_core.bundle import Bundle
from tigr_core.controller import Controller, TaskEstimate
from tigr_ros.pairing import Input
from tigr_ros.safety import Reason, SafeCommand, SafetyLayer


class ControlStep:
    """A controller behind a safety layer. Knows neither time nor topics.

    Args:
        bundle: what acts.
        safety: has the last word on every effort.
        shadow: somebody else drives the robot; the transitions are those of their commands.
        generator: for exploring; None for the most likely action.
    """

    def __init__(
        self, bundle: Bundle, safety: SafetyLayer, *, shadow: bool = False, generator: torch.Generator | None = None
    ) -> None:
        self.robot, self.safety = bundle.robot, safety
        self._shadow, self._generator = shadow, generator
        self._controller = Controller(bundle.model)
        self._action: np.ndarray | None = None  # [A], as applied since the last state; None if that is not known
        self.context_length = 0  # transitions since the context was empty
        self.last_transition: tuple[float, np.ndarray] | None = None  # reward and action [A] that the last answer added
        self._warm_up()

    @property
    def estimate(self) -> TaskEstimate:
        """The present task estimate, of one robot."""
        return self._controller.estimate

    def reset(self) -> None:
        """Forget the context."""
        self._controller.reset()
        self._action = None
        self.context_length = 0

    def answer(self, given: Input, now_s: float, foreign_effort: np.ndarray | None = None) -> SafeCommand:
        """Return the command for an input. The context grows by the transition that led there, if it is known.

        Args:
            now_s: time of the soft start, s.
            foreign_effort: [A], what somebody else commanded since the last state; read as a shadow only.
        """
        if given.new_episode:
            self.reset()
            self.safety.restart()
        obs = self.robot.observe(given.state.positions, given.state.velocities)[None]
        fault = given.state.fault.reason if given.state.fault else None
        if fault is None and not _fit_float32(obs, given.reward or 0.0):
            fault = Reason.NOT_FINITE
        if fault is Reason.NOT_FINITE:
            self.safety.latch(fault)
        if stopped_by := self.safety.latched or fault:
            return self.stop(stopped_by)
        self._observe(given, obs, foreign_effort)
        action = self._controller.act(obs, self._generator)[0].astype(np.float64)
        effort = self.robot.action_to_effort(action)
        command = self.safety.filter(effort, now_s)
        self._action = action if np.array_equal(effort, command.effort) else self._action_of(command.effort)
        return command

    def stop(self, reason: Reason) -> SafeCommand:
        """Return the safe command. What happens until the next state does not enter the context."""
        self._action = None
        return self.safety.stop(reason)

    def _observe(self, given: Input, obs: np.ndarray, foreign_effort: np.ndarray | None) -> None:
        action = self._action
        if self._shadow and action is not None:
            action = None if foreign_effort is None else self._action_of(foreign_effort)
        self.last_transition = None
        if action is not None and given.reward is not None:
            self._controller.observe(action[None], np.array([given.reward]), obs)
            self.last_transition = given.reward, action
            self.context_length += 1

    def _action_of(self, effort: np.ndarray) -> np.ndarray:
        """Return the action [A] that exerts `effort` [A]: what was sent is what the context has to know."""
        return self.robot.ctrl_to_action(self.robot.effort_to_ctrl(effort))

    def _warm_up(self) -> None:
        """Make the first step as quick as the others: libraries set themselves up at first use."""
        obs = np.zeros((1, self.robot.obs_dim))
        self._controller.act(obs)
        self._controller.observe(np.zeros((1, self.robot.action_dim)), np.zeros(1), obs)
        self._controller.reset()


def _fit_float32(*values: np.ndarray | float) -> bool:
    """Tell whether all values are finite for the model, which reckons in float32."""
    with np.errstate(over="ignore"):
        return all(np.isfinite(np.asarray(value).astype(np.float32)).all() for value in values)
