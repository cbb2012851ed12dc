# SPDX-License-Identifier: Apache-2.0
"""A fixed place in the latent space for every task, for training in simulation where the task is known.

Pulling z towards it (`inference.anchor_weight`) makes z precise in the parameter and keeps it from drifting under the
policy; telling it to the critics (`sac.critic_sees_task`) keeps their values from moving with the encoder. The robot
still infers z from its transitions alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.tasks import TaskSet
from tigr_core.errors import UserError


class TaskCode:
    """z* of a task: its base task's axis, at 1 + p / 2 with the parameter p scaled to [-1, 1].

    Further parameters take one axis each behind those of the base tasks.
    """

    def __init__(self, tasks: TaskSet, latent_dim: int, device: torch.device | str = "cpu") -> None:
        self.num_tasks, self.latent_dim = len(tasks), latent_dim
        needed = self.num_tasks + tasks.parameter_dim - 1
        if latent_dim < needed:
            raise UserError(
                f"model.latent_dim is {latent_dim}",
                expected=f"at least {needed} for {self.num_tasks} base tasks with inference.anchor_weight above 0 or "
                "sac.critic_sees_task",
                fix=f"set model.latent_dim={needed}, or inference.anchor_weight=0 and sac.critic_sees_task=false",
            )
        low, high = (
            torch.tensor([getattr(t, end) for t in tasks.base_tasks], dtype=torch.float32) for end in ("low", "high")
        )
        self._middle = ((low + high) / 2).to(device)
        self._half_range = ((high - low) / 2).clamp_min(1e-6).to(device)

    def __call__(self, base_task: Tensor, parameter: Tensor) -> Tensor:
        """Return z* ``[..., L]`` for labels ``[...]`` and parameters ``[..., P]``."""
        scaled = (parameter - self._middle[base_task].unsqueeze(-1)) / self._half_range[base_task].unsqueeze(-1)
        code = torch.zeros((*base_task.shape, self.latent_dim), device=parameter.device)
        code.scatter_(-1, base_task.unsqueeze(-1), 1.0 + 0.5 * scaled[..., :1])
        code[..., self.num_tasks : self.num_tasks + parameter.shape[-1] - 1] = scaled[..., 1:]
        return code
