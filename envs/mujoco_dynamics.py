# SPDX-License-Identifier: Apache-2.0
"""Bodies that differ from task to task, as in PEARL's walker and hopper (arXiv 1903.08254)."""

from __future__ import annotations

import copy

import mujoco
import numpy as np


class Dynamics:
    """What tasks can change about a model. Each entry of `names` is a factor of its own, base ^ exponent:

    | name            | of                                         | base |
    |-----------------|--------------------------------------------|------|
    | mass/<body>     | each body                                  | 1.5  |
    | inertia/<body>  | each body, about all its axes              | 1.5  |
    | damping/<joint> | each joint that is damped                  | 1.3  |
    | friction/<geom> | each form and the floor, in all three ways | 1.5  |

    Of two forms in contact MuJoCo takes the larger friction.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        bodies = np.arange(1, model.nbody)
        damped = np.flatnonzero(model.dof_damping)
        self._changed = (
            ("body_mass", bodies, 1.5),
            ("body_inertia", bodies, 1.5),
            ("dof_damping", damped, 1.3),
            ("geom_friction", np.arange(model.ngeom), 1.5),
        )
        self._nominal = {name: getattr(model, name).copy() for name, *_ in self._changed}
        self.names = (
            *(f"mass/{model.body(i).name}" for i in bodies),
            *(f"inertia/{model.body(i).name}" for i in bodies),
            *(f"damping/{model.joint(model.dof_jntid[i]).name}" for i in damped),
            *(f"friction/{model.geom(i).name}" for i in range(model.ngeom)),
        )
        self._data = mujoco.MjData(model)

    def apply(self, model: mujoco.MjModel, exponents: np.ndarray) -> None:
        """Give a copy of the model the dynamics that `exponents` [P] say."""
        done = 0
        for name, rows, base in self._changed:
            factor = base ** exponents[done : done + len(rows)]
            done += len(rows)
            nominal = self._nominal[name][rows]
            getattr(model, name)[rows] = nominal * factor.reshape(-1, *[1] * (nominal.ndim - 1))
        mujoco.mj_setConst(model, self._data)  # what MuJoCo derives from these


class Variants:
    """A model for each of N robots, changed when a robot's exponents are."""

    def __init__(self, model: mujoco.MjModel, dynamics: Dynamics, num: int) -> None:
        self.models = [copy.copy(model) for _ in range(num)]
        self._dynamics = dynamics
        self._exponents = np.full((num, len(dynamics.names)), np.nan)

    def update(self, exponents: np.ndarray) -> None:
        """Change the models whose `exponents` [N, P] are not what they were."""
        for i in np.flatnonzero((exponents != self._exponents).any(axis=1)).tolist():
            self._dynamics.apply(self.models[i], exponents[i])
        self._exponents = exponents.copy()
