# SPDX-License-Identifier: Apache-2.0
"""Meta-World's table with a Sawyer arm (Yu et al., arXiv 1910.10897), 0.0125 s per step, 500 steps an episode.

Physics, rewards and success are those of the package ``metaworld`` 3, an extra: ``pip install 'tigr_ros[metaworld]'``.

Action (4): the hand's displacement in a step and the grip; the environment clips to the range.

| index | name                   | coordinate    | unit                | range   |
|-------|------------------------|---------------|---------------------|---------|
| 0-2   | hand_x, hand_y, hand_z | of its name   | cm                  | [-1, 1] |
| 3     | grip                   | gripper       | 1 closes, -1 opens  | [-1, 1] |

Observation (36), Meta-World's own without the goal, which is hidden in ML1, ML10 and ML45:

| index | name                             | unit | range                                             |
|-------|----------------------------------|------|---------------------------------------------------|
| 0-2   | hand_x, hand_y, hand_z           | m    | [-0.525, 0.525], [0.348, 1.025], [-0.0525, 0.7]   |
| 3     | gripper, 1 open, 0 closed        |      | [0, 1]                                            |
| 4-10  | first object: place, orientation | m,   | (-inf, inf)                                       |
| 11-17 | second object; else zeros        | m,   | (-inf, inf)                                       |
| 18-35 | the same, a step ago             |      | as above                                          |

Reward: tracking, which is Meta-World's reward of the task, in [0, 10]; control = 0. Parameter of each base task, and
which are in ML1, ML10 and ML45: `envs.meta_world_tasks`. Tracked are the reward, and as target 1, which means nothing.
The quantity `success` is 1 in steps in which Meta-World says that the task is done.

Reset: the hand moves to its start, things lie where the task says. An episode never terminates. With a change of the
task the table is laid anew and the hand is back at its start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from envs.appearance import WORLD, Capsules, Link, View
from envs.meta_world_tasks import ML1, ML10, ML45
from envs.robot import EnvDefinition, Robot
from envs.spec import Actuator, ObservationTerm, RobotSpec
from envs.tasks import Task

if TYPE_CHECKING:
    from envs.meta_world_simulator import Simulator

CONTROL_DT = 0.0125
EPISODE_STEPS = 500
HAND = ("hand_x", "hand_y", "hand_z")
OBJECTS = tuple(f"{thing}_{part}" for thing in ("first", "second") for part in ("x", "y", "z", "q0", "q1", "q2", "q3"))
NOW = (*HAND, "gripper", *OBJECTS)
COORDINATES = (*NOW, *(f"previous_{name}" for name in NOW))
HAND_RADIUS, FINGER_RADIUS, OBJECT_RADIUS, SPAN = 0.03, 0.01, 0.02, 0.1  # m, as it is drawn


class MetaWorld(Robot):
    """Hands, and tables with things on them.

    Row i of a state is what member i's simulator tells of itself: coordinates, reward and success. Unlike other
    robots, members go on from where they are, whatever state they are given: a simulator remembers more than
    that. They are stepped one after the other; `num_threads` is of no use. As many simulators as there are members are
    kept for later tasks.
    """

    spec = RobotSpec(
        name="meta_world",
        joints=COORDINATES,
        observation=tuple(
            ObservationTerm(name, "m" if name[-2:] in ("_x", "_y", "_z") else "", "position", name)
            for name in COORDINATES
        ),
        actuators=(
            *(Actuator(name, name, -1.0, 1.0, gear=1.0, effort_unit="cm") for name in HAND),
            Actuator("grip", "gripper", -1.0, 1.0, gear=1.0, effort_unit=""),
        ),
        control_dt=CONTROL_DT,
        only_simulated=True,
    )
    quantity_dims: Mapping[str, int] = {"reward": 1, "success": 1}
    view = View(across=0, up=2, low=0.1, high=0.95, follows=False, raised=0.6)
    links = (Link("hand", WORLD, "fixed", "", np.zeros(3), np.zeros(3), np.eye(3), None, Capsules.none()),)
    has_scripts = True

    def __init__(self, num_threads: int = 1) -> None:
        self._members: dict[int, Simulator] = {}
        self._idle: list[Simulator] = []

    def initial_state(self, rng: np.random.Generator) -> np.ndarray:
        return np.zeros(len(COORDINATES) + 2)

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        return np.concatenate([positions, np.zeros((*positions.shape[:-1], 2))], axis=-1)

    def arranged(self, state: np.ndarray, tasks: Mapping[int, Task]) -> np.ndarray:
        after = state.copy()
        for member in tasks.keys() & self._members.keys():
            self._idle.append(self._members.pop(member))
        for member, task in tasks.items():
            self._members[member] = self._simulator(task.base_task)
            after[member] = self._members[member].begin(task.parameter)
        while len(self._idle) > len(self._members):
            self._idle.pop(0).close()
        return after

    def step(self, state: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        return np.stack([self._members[member].step(row) for member, row in enumerate(ctrl)])

    def scripted_ctrl(self, state: np.ndarray) -> np.ndarray:
        return np.stack([self._members[member].scripted_ctrl(row) for member, row in enumerate(state)])

    def joint_positions(self, state: np.ndarray) -> np.ndarray:
        return state[:, :-2]

    def joint_velocities(self, state: np.ndarray) -> np.ndarray:
        return np.zeros_like(state[:, :-2])

    def quantities(self, previous_state: np.ndarray, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"reward": state[:, -2], "success": state[:, -1]}

    def capsules(self, positions: np.ndarray) -> Capsules:
        """A ball for the hand, two for its fingers and one for each object there is."""
        hand, objects = positions[:3], positions[4:18].reshape(2, 7)[:, :3]
        finger = np.array([0.0, SPAN / 2 * positions[3], 0.0])
        there = np.abs(objects).sum(axis=1) > 0.0
        places = np.stack(
            [hand + np.array([0.0, 0.0, 0.1]), hand + finger, hand - finger, *np.where(there[:, None], objects, hand)]
        )
        radius = np.array([HAND_RADIUS, FINGER_RADIUS, FINGER_RADIUS, *np.where(there, OBJECT_RADIUS, FINGER_RADIUS)])
        names = ("hand", "left finger", "right finger", "first object", "second object")
        return Capsules(names, np.repeat(places[:, None], 2, axis=1), radius)

    def close(self) -> None:
        for simulator in (*self._members.values(), *self._idle):
            simulator.close()
        self._members, self._idle = {}, []

    def _simulator(self, base_task: str) -> Simulator:
        """Return one that is idle, or a new one, which takes longer than many steps."""
        if (idle := next((s for s in self._idle if s.base_task == base_task), None)) is not None:
            self._idle.remove(idle)
            return idle
        from envs.meta_world_simulator import Simulator  # needs the extra

        return Simulator(base_task)


def _environment(description: str, base_tasks: tuple) -> EnvDefinition:
    return EnvDefinition(description, MetaWorld, base_tasks, EPISODE_STEPS, extra="metaworld")


ENVIRONMENTS = {
    "tigr/MetaWorldML1-v0": _environment("Meta-World's tasks, to choose one from", ML1),
    "tigr/MetaWorldML10-v0": _environment("Meta-World, ten tasks to learn and five to be tested with", ML10),
    "tigr/MetaWorldML45-v0": _environment("Meta-World, 45 tasks to learn and five to be tested with", ML45),
}
