# SPDX-License-Identifier: Apache-2.0
"""A fixed place in the latent space for every task, for training in simulation where the task is known.

Pulling z towards it (`inference.anchor_weight`) makes z precise in the parameter and keeps it from drifting under the
policy; telling it to the critics (`sac.critic_sees_task`) keeps their values from moving with the encoder. The robot
still infers z from its transitions alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from envs.tasks import TaskSet
from tigr_core.errors import UserError


class TaskCode:
    """z* of a task: its base task's axis, at 1 + p / 2 with the parameter p scaled to [-1, 1].

    Further parameters take one axis each behind those of the base tasks. An angle counts as two, its cosine and its
    sine: nearly equal directions have nearly equal codes, all the way round.
    """

    def __init__(self, tasks: TaskSet, latent_dim: int, device: torch.device | str = "cpu") -> None:
        self.num_tasks, self.latent_dim = len(tasks), latent_dim
        turns = [base_task.form == "direction" for base_task in tasks.base_tasks]
        self._width = max(tasks.parameter_dim, 2 if any(turns) else 1)
        self._turns = torch.tensor(turns, device=device) if any(turns) else None
        needed = self.num_tasks + self._width - 1
        if latent_dim < needed:
            raise UserError(
                f"model.latent_dim is {latent_dim}",
                expected=f"at least {needed} for {self.num_tasks} base tasks with inference.anchor_weight above 0 or "
                "sac.critic_sees_task",
                fix=f"set model.latent_dim={needed}, or inference.anchor_weight=0 and sac.critic_sees_task=false",
            )
        low, high = torch.zeros(2, self.num_tasks, tasks.parameter_dim)
        for label, base_task in enumerate(tasks.base_tasks):
            for ends, values in zip((low, high), base_task.ranges, strict=True):
                ends[label, : len(values)] = torch.from_numpy(values)
        self._middle = ((low + high) / 2).to(device)  # [B, P]
        self._half_range = ((high - low) / 2).clamp_min(1e-6).to(device)

    def __call__(self, base_task: Tensor, parameter: Tensor) -> Tensor:
        """Return z* ``[..., L]`` for labels ``[...]`` and parameters ``[..., P]``."""
        entries = self._entries(base_task, parameter)
        code = torch.zeros((*base_task.shape, self.latent_dim), device=parameter.device)
        code.scatter_(-1, base_task.unsqueeze(-1), 1.0 + 0.5 * entries[..., :1])
        code[..., self.num_tasks : self.num_tasks + entries.shape[-1] - 1] = entries[..., 1:]
        return code

    def _entries(self, base_task: Tensor, parameter: Tensor) -> Tensor:
        """Return what the code tells of the parameter, ``[..., P]``, or as many as angles need."""
        scaled = (parameter - self._middle[base_task]) / self._half_range[base_task]
        if self._turns is None:
            return scaled
        angle = parameter[..., :1]
        pair = torch.cat([angle.cos(), angle.sin()], dim=-1)
        pair, scaled = (pad(entries, (0, self._width - entries.shape[-1])) for entries in (pair, scaled))
        return torch.where(self._turns[base_task].unsqueeze(-1), pair, scaled)
