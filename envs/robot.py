# SPDX-License-Identifier: Apache-2.0
"""What a robot must offer to be put into `TaskVectorEnv`, and how an environment is declared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from envs.appearance import Capsules, Link, View
from envs.spec import RobotSpec
from envs.tasks import BaseTask, Task


class Robot(ABC):
    """A robot without tasks, as functions of its state.

    Sizes: N robots, S entries of the state, A actuators, Q position and V velocity coordinates (see `RobotSpec`).
    Arrays are float64. No call changes its arguments, and row i of a result depends on row i of the arguments alone.
    """

    spec: RobotSpec
    quantity_dims: Mapping[str, int]  # name -> number of components, of everything a task can be about
    view: View
    dynamics: tuple[str, ...] = ()  # what a task can change about its body
    has_scripts = False  # whether there are policies written by hand for its tasks

    @property
    @abstractmethod
    def links(self) -> tuple[Link, ...]:
        """Its parts, parents first; their joints are those of `spec`."""

    @abstractmethod
    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the state at the start of an episode, [S]."""

    @abstractmethod
    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Return states [N, S] with positions [N, Q] and velocities [N, V]."""

    @abstractmethod
    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        """Return the state [N, S] one control period after `state` [N, S] under controls `ctrl` [N, A]."""

    @abstractmethod
    def joint_positions(self, state: np.ndarray) -> np.ndarray:
        """Return [N, Q] in the order of `spec.position_names`."""

    @abstractmethod
    def joint_velocities(self, state: np.ndarray) -> np.ndarray:
        """Return [N, V] in the order of `spec.velocity_names`."""

    @abstractmethod
    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        """Return every quantity of `quantity_dims` after a step, each [N] or [N, components]."""

    @abstractmethod
    def capsules(self, positions: np.ndarray) -> Capsules:
        """Return what it looks like with positions [Q]."""

    def terminated(self, state: np.ndarray) -> np.ndarray:
        """Return which robots have reached a state that ends the episode, [N] bool."""
        return np.zeros(len(state), dtype=bool)

    def with_dynamics(self, state: np.ndarray, dynamics: np.ndarray) -> np.ndarray:
        """Return `state` [N, S] of robots whose bodies are what `dynamics` [N, len(self.dynamics)] says."""
        raise NotImplementedError(f"{type(self).__name__} has no dynamics to change")

    def arranged(self, state: np.ndarray, tasks: Mapping[int, Task]) -> np.ndarray:
        """Return `state` [N, S] after the worlds of some robots were arranged for `tasks` of the form ``world``."""
        raise NotImplementedError(f"{type(self).__name__} has no world to arrange")

    def scripted_ctrl(self, state: np.ndarray) -> np.ndarray:
        """Return the controls [N, A] that policies written by hand, which know the task, choose in `state` [N, S]."""
        raise NotImplementedError(f"{type(self).__name__} has no scripted policies")

    def close(self) -> None:  # noqa: B027 (most robots have none)
        """Release threads. May be called more than once."""


@dataclass(frozen=True)
class EnvDefinition:
    """One registered environment: which robot, which base tasks in label order, steps in an episode."""

    description: str
    make_robot: Callable[[int], Robot]  # num_threads -> robot
    base_tasks: tuple[BaseTask, ...]
    episode_steps: int
    extra: str = ""  # of this package, called as what it installs, without which no episode can begin

    @property
    def missing_extra(self) -> str:
        """The extra, where it is not installed; else empty."""
        return self.extra if self.extra and find_spec(self.extra) is None else ""
