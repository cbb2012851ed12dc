# SPDX-License-Identifier: Apache-2.0
"""Batched MuJoCo stepping on a thread pool."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np
from mujoco.rollout import Rollout

from envs.appearance import Capsules
from envs.mujoco_links import capsules_at, shown_geoms


class MujocoPhysics:
    """Steps N copies of one model at once.

    A state [S] is MuJoCo's full physics state: time, joint positions, joint velocities.

    Args:
        model_path: MJCF file.
        frame_skip: physics steps in one control period.
        num_threads: 1 steps on the calling thread; more starts a pool of that size.
    """

    def __init__(self, model_path: Path, *, frame_skip: int, num_threads: int) -> None:
        if num_threads < 1:
            raise ValueError(f"found num_threads {num_threads}, expected at least 1")
        self.model = load_model(model_path)
        self._frame_skip = frame_skip
        self._state_dim = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self._data = [mujoco.MjData(self.model) for _ in range(num_threads)]
        self._rollout = Rollout(nthread=num_threads if num_threads > 1 else 0)
        # Joins the pool's threads at the latest when the interpreter exits.
        self._close = weakref.finalize(self, self._rollout.close)
        self._allocate(1)

    @property
    def control_dt(self) -> float:
        """Control period [s]."""
        return float(self.model.opt.timestep * self._frame_skip)

    def state(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Return the state [..., S] at time 0 with joint `positions` [..., nq] and `velocities` [..., nv]."""
        return np.concatenate((np.zeros((*positions.shape[:-1], 1)), positions, velocities), axis=-1)

    def positions(self, state: np.ndarray) -> np.ndarray:
        """Return the joint positions in `state` [N, S], [N, nq]."""
        return state[:, 1 : 1 + self.model.nq]

    def velocities(self, state: np.ndarray) -> np.ndarray:
        """Return the joint velocities in `state` [N, S], [N, nv]."""
        return state[:, 1 + self.model.nq : 1 + self.model.nq + self.model.nv]

    def step(self, state: np.ndarray, ctrl: np.ndarray, models: Sequence[mujoco.MjModel] | None = None) -> np.ndarray:
        """Return the states [N, S] one control period after `state` [N, S] under constant `ctrl` [N, nu].

        `models`, of equal sizes, are those of the N robots where they differ. A simulation that MuJoCo calls unstable
        (an entry is not finite or beyond mjMAXVAL) becomes NaN.

        Raises:
            RuntimeError: after `close()`.
        """
        if len(state) != len(self._states):
            self._allocate(len(state))
        self._ctrl[:] = ctrl[:, None, :]
        self._rollout.rollout(
            self._models if models is None else models,
            self._data,
            state,
            self._ctrl,
            control_spec=mujoco.mjtState.mjSTATE_CTRL.value,
            skip_checks=True,
            nstep=self._frame_skip,
            # The solver starts from zero in every control period, so that the next state depends on state and
            # control alone: not on the batch a member is in, nor on the thread that steps it.
            initial_warmstart=self._warmstart,
            state=self._states,
        )
        states = self._states[:, -1].copy()
        states[~(np.abs(states).max(axis=1) < mujoco.mjMAXVAL)] = np.nan
        return states

    def forces(self, state: np.ndarray, ctrl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what holds in `state` [N, S] under `ctrl` [N, nu] beyond positions and velocities; NaN if diverged.

        Returns:
            centre of mass [N, 3], m; torque and force [N, nbody, 6] of all contacts on each body, N m about the
            centre of mass and N.
        """
        model, data, num = self.model, self._posture, len(state)
        centre, contact = np.full((num, 3), np.nan), np.full((num, model.nbody, 6), np.nan)
        for i in np.flatnonzero(np.isfinite(state).all(axis=1)).tolist():
            mujoco.mj_setState(model, data, state[i], mujoco.mjtState.mjSTATE_FULLPHYSICS)
            data.ctrl[:] = ctrl[i]
            data.qacc_warmstart[:] = 0.0  # as in `step`
            mujoco.mj_forward(model, data)
            mujoco.mj_rnePostConstraint(model, data)
            centre[i], contact[i] = data.subtree_com[0], data.cfrc_ext
        return centre, contact

    def capsules(self, positions: np.ndarray) -> Capsules:
        """Return the model's bodies with joint `positions` [nq]; planes are left out.

        Raises:
            ValueError: the model has a body that is neither capsule nor sphere.
        """
        data = self._posture
        data.qpos[:] = positions
        mujoco.mj_kinematics(self.model, data)
        return capsules_at(self.model, shown_geoms(self.model), data.geom_xpos, data.geom_xmat.reshape(-1, 3, 3))

    @cached_property
    def _posture(self) -> mujoco.MjData:
        return mujoco.MjData(self.model)

    def close(self) -> None:
        """Stop the thread pool."""
        self._close()

    def _allocate(self, num: int) -> None:
        self._models = [self.model] * num
        self._ctrl = np.zeros((num, self._frame_skip, self.model.nu))
        self._warmstart = np.zeros((num, self.model.nv))
        self._states = np.zeros((num, self._frame_skip, self._state_dim))


_COMPILING = threading.Lock()  # filters of warnings are those of all threads


def load_model(model_path: Path) -> mujoco.MjModel:
    """Return the model in an MJCF file, set to show diverged simulations instead of resetting them."""
    spec = mujoco.MjSpec.from_file(str(model_path))
    _strip_pictures(spec)
    with _COMPILING, warnings.catch_warnings():
        # Gymnasium's models use attributes that newer MuJoCo versions call deprecated.
        warnings.filterwarnings("ignore", message=".*is deprecated")
        model = spec.compile()
    # Without this MuJoCo answers a diverged simulation with a silent reset; the caller has to see it.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model


def _strip_pictures(spec: mujoco.MjSpec) -> None:
    """Drop textures, which are most of a model's memory."""
    for geom in spec.geoms:
        geom.material = ""
    for picture in (*spec.materials, *spec.textures):
        # MuJoCo 3.3.0, which Meta-World asks for, has the first only.
        picture.delete() if hasattr(picture, "delete") else spec.delete(picture)
