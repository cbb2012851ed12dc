# SPDX-License-Identifier: Apache-2.0
"""One of Meta-World's environments, arranged for tasks and stepped.

The only file that imports ``metaworld``, an extra, and not before there is a simulator.
"""

from __future__ import annotations

import pickle
import sys
import warnings

import numpy as np

SEEN = 36  # entries of an observation before the goal: the hand and the objects, now and a step ago
STATE_DIM = SEEN + 2  # and reward and success


class Simulator:
    """What Meta-World computes for one base task. A state [`STATE_DIM`] is what it tells of itself.

    Args:
        base_task: such as ``reach``.
        camera: of Meta-World, for pictures.
    """

    def __init__(self, base_task: str, camera: str | None = None) -> None:
        from metaworld import ALL_V3_ENVIRONMENTS, Task
        from metaworld.policies import ENV_POLICY_MAP

        # Scripted policies warn of each action that they leave to the environment to clip.
        warnings.filterwarnings("ignore", message="Constant\\(s\\) may be too high")
        self.base_task, self._task = base_task, Task
        self._name = f"{base_task}-v3"
        self._env = ALL_V3_ENVIRONMENTS[self._name](
            render_mode=None if camera is None else "rgb_array", camera_name=camera
        )
        self._env.max_path_length = sys.maxsize  # whoever steps it counts
        self._policy = ENV_POLICY_MAP[self._name]()

    def begin(self, parameter: tuple[float, ...]) -> np.ndarray:
        """Lay things where `parameter` says, move the hand to its start and return the state."""
        arrangement = {
            "rand_vec": np.array(parameter),
            "env_cls": type(self._env),
            "partially_observable": True,
        }
        self._env.set_task(self._task(env_name=self._name, data=pickle.dumps(arrangement)))
        obs, _ = self._env.reset()
        return np.concatenate([obs[:SEEN], [0.0, 0.0]])

    def step(self, ctrl: np.ndarray) -> np.ndarray:
        """Return the state after one control period under `ctrl` [4]."""
        obs, reward, _, _, info = self._env.step(ctrl)
        return np.concatenate([obs[:SEEN], [float(reward), float(info["success"])]])

    def scripted_ctrl(self, state: np.ndarray) -> np.ndarray:
        """Return what Meta-World's own policy, which knows the goal, chooses in `state`: [4]."""
        obs = np.concatenate([state[:SEEN], self._env._get_pos_goal()])
        return np.clip(self._policy.get_action(obs), -1.0, 1.0)

    def picture(self) -> np.ndarray:
        """Return what the camera sees, [height, width, 3] uint8; Meta-World's hang upside down."""
        return np.rot90(self._env.render(), 2)

    def close(self) -> None:
        """Release the renderer, if one was made."""
        self._env.close()
