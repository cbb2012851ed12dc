# SPDX-License-Identifier: Apache-2.0
"""Policies of other runs that are told their tasks, from which one policy for all tasks learns what to do.

On one base task alone, SAC finds in minutes what it hardly finds among eight: critics and actor need not serve the
others. What such specialists do, each told the task, is then imitated by the one policy that has to infer it (policy
distillation, Rusu et al., arXiv 1511.06295; beside its own reinforcement learning as in Schmitt et al., arXiv
1803.03835), in the states that this one gets into (Ross et al., arXiv 1011.0686).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import envs
from envs.spec import RobotSpec
from envs.tasks import TaskSet
from tigr_core.bundle import Bundle, load_bundle
from tigr_core.errors import UserError
from tigr_core.task_code import TaskCode


def teacher_bundles(paths: Sequence[str]) -> list[Path]:
    """Return the bundles that paths name: files, or folders that hold them (not those within their folders).

    Raises:
        UserError: there is nothing at a path, or no bundle in a folder.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        bundles = sorted(path.glob("*.tigr")) if path.is_dir() else [path]
        if not bundles or not bundles[0].is_file():
            raise UserError(
                f"no bundle at {path}, where sac.teachers has one",
                expected="bundles of policies that are told their tasks, or a folder of them",
                fix="train them first: `make eight` does so for half_cheetah_eight_taught",
            )
        found += bundles
    return found


class Teachers:
    """For each base task the first of some bundles that knows it.

    Raises:
        UserError: a bundle that is not there or of another robot, or a base task that none of them knows.
    """

    def __init__(self, paths: Sequence[str], tasks: TaskSet, robot: RobotSpec, device: torch.device | str) -> None:
        bundles = [(path, load_bundle(path)) for path in teacher_bundles(paths)]
        for path, bundle in bundles:
            if bundle.robot != robot:
                raise UserError(
                    f"{path} moves {bundle.robot.name}",
                    expected=f"bundles of the very same {robot.name}",
                    fix="name other bundles in sac.teachers",
                )
        self._of_task = [self._first(bundles, name, device) for name in tasks.names]

    def _first(self, bundles: list[tuple[Path, Bundle]], name: str, device: torch.device | str) -> _Teacher:
        for _, bundle in bundles:
            if name in bundle.info.base_tasks:
                return _Teacher(bundle, name, device)
        raise UserError(
            f"no bundle in sac.teachers knows {name}",
            expected=f"one for each base task; there are {', '.join(str(path) for path, _ in bundles)}",
            fix="train one that is told its tasks, as config/half_cheetah_specialist.yaml does, and name its bundle",
        )

    @torch.no_grad()
    def __call__(self, obs: Tensor, base_task: Tensor, parameter: Tensor) -> Tensor:
        """Return their most likely actions ``[N, A]`` for obs ``[N, D]`` in units and tasks: ``[N]``, ``[N, P]``."""
        actions = None
        for label, teacher in enumerate(self._of_task):
            chosen = (base_task == label).nonzero().squeeze(1)
            taught = teacher(obs[chosen], parameter[chosen])
            actions = obs.new_zeros(len(obs), taught.shape[1]) if actions is None else actions
            actions[chosen] = taught
        assert actions is not None
        return actions


class _Teacher:
    """One policy, told tasks of one base task."""

    def __init__(self, bundle: Bundle, name: str, device: torch.device | str) -> None:
        info, self.model = bundle.info, bundle.model.to(device)
        self.label = info.base_tasks.index(name)
        tasks = envs.task_set(info.env_id, info.base_tasks)
        self.code = TaskCode(tasks, info.model.latent_dim, device)

    def __call__(self, obs: Tensor, parameter: Tensor) -> Tensor:
        label = torch.full((len(obs),), self.label, device=obs.device)
        return self.model.actor.act(self.model.policy_obs(obs), self.code(label, parameter))
