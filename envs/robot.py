# SPDX-License-Identifier: Apache-2.0
"""What a robot must offer to be put into `TaskVectorEnv`, and how an environment is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.appearance import Capsules, View
from envs.spec import RobotSpec
from envs.tasks import BaseTask


class Robot(Protocol):
    """A robot without tasks, as functions of its state.

    Sizes: N robots, S entries of the state, J joints, A actuators. Arrays are float64. No call
    changes its arguments, and row i of a result depends on row i of the arguments alone.
    """

    spec: RobotSpec
    quantity_dims: Mapping[str, int]  # name -> number of components, of everything a task can be about
    view: View

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the state at the start of an episode, [S]."""

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Return states [N, S] with joint positions [N, J] and velocities [N, J]."""

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        """Return the state [N, S] one control period after `state` [N, S] under controls `ctrl` [N, A]."""

    def joint_positions(self, state: np.ndarray) -> np.ndarray:
        """Return [N, J] in the order of `spec.joints`."""

    def joint_velocities(self, state: np.ndarray) -> np.ndarray:
        """Return [N, J] in the order of `spec.joints`."""

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Return which robots have reached a state that ends the episode, [N] bool."""

    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        """Return every quantity of `quantity_dims` after a step, each [N] or [N, components]."""

    def capsules(self, positions: np.ndarray) -> Capsules:
        """Return what it looks like with joint `positions` [J]."""

    def close(self) -> None:
        """Release threads. May be called more than once."""


@dataclass(frozen=True)
class EnvDefinition:
    """One registered environment: which robot, which base tasks in label order, steps in an episode."""

    description: str
    make_robot: Callable[[int], Robot]  # num_threads -> robot
    base_tasks: tuple[BaseTask, ...]
    episode_steps: int
